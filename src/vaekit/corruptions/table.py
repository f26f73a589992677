"""Corruptions of the input that leave the target clean: what a denoising model learns to undo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.config import leaf
from vaekit.noise import Noise
from vaekit.tables import Table

Shape = tuple[int, int, int]
CORRUPTIONS = Table("corruption", "vaekit.corruptions")


class Corruption(Protocol):
    """An entry: what it does to images (batch, channels, height, width) in [0, 1]; all that is random is from `noise`.

    The result lies in [0, 1] and has the type and memory layout of the images. Nothing reads a value on the host, and all
    constants are made on the device, so that a step that corrupts its batch can be captured as a graph. The first number
    among the fields is the strength, which `chain` and tables of restoration vary.
    """

    def __call__(self, images: Tensor, noise: Noise) -> Tensor: ...

    def shape(self, shape: Shape) -> Shape:
        """The shape (channels, height, width) that images of `shape` have afterwards."""
        ...


class SameSize:
    """Default of corruptions that leave the size as it is."""

    def shape(self, shape: Shape) -> Shape:
        return shape


def like(result: Tensor, images: Tensor) -> Tensor:
    """`result` clipped to [0, 1], in the type and memory layout of `images`."""
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return result.clamp(0.0, 1.0).to(images.dtype).contiguous(memory_format=layout)


@CORRUPTIONS.register("none")
@dataclass(frozen=True)
class Clean(SameSize):
    """The input is the image itself."""

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        return images


@CORRUPTIONS.register("blur")
@dataclass(frozen=True)
class DownUp(SameSize):
    """Blur by scaling down and up again: bilinear, half-pixel centres, no antialiasing."""

    blur_factor: float = leaf(2.0, "factor by which the image is scaled down before it is scaled up again", gt=1, le=64)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        size = tuple(images.shape[-2:])
        small = tuple(max(1, round(side / self.blur_factor)) for side in size)
        low = F.interpolate(images, size=small, mode="bilinear", align_corners=False)
        return F.interpolate(low, size=size, mode="bilinear", align_corners=False)
