"""Corruptions of the input that leave the target clean: what a denoising model learns to undo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from vaekit.config import leaf
from vaekit.noise import Noise
from vaekit.tables import Table

CORRUPTIONS = Table("corruption", "vaekit.data")


class Corruption(Protocol):
    def __call__(self, images: Tensor, noise: Noise) -> Tensor: ...


@CORRUPTIONS.register("none")
@dataclass(frozen=True)
class Clean:
    """The input is the image itself."""

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        return images


@CORRUPTIONS.register("blur")
@dataclass(frozen=True)
class DownUp:
    """Blur by scaling down and up again: bilinear, half-pixel centres, no antialiasing."""

    blur_factor: float = leaf(2.0, "factor by which the image is scaled down before it is scaled up again", gt=1, le=64)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        size = tuple(images.shape[-2:])
        small = tuple(max(1, round(side / self.blur_factor)) for side in size)
        low = F.interpolate(images, size=small, mode="bilinear", align_corners=False)
        return F.interpolate(low, size=size, mode="bilinear", align_corners=False)
