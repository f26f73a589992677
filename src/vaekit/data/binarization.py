"""How grey pixels become the targets that a likelihood scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vaekit.config import leaf
from vaekit.noise import Noise
from vaekit.tables import Table

BINARIZATIONS = Table("binarization", "vaekit.data")


class Binarization(Protocol):
    binary: bool

    def __call__(self, images: Tensor, noise: Noise) -> Tensor: ...


@BINARIZATIONS.register("none")
@dataclass(frozen=True)
class Grey:
    """Grey values as they are; a Bernoulli likelihood is then a surrogate, not a probability."""

    binary = False

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        return images


@BINARIZATIONS.register("dynamic")
@dataclass(frozen=True)
class Dynamic:
    """Each pixel is 1 with its grey value as probability, drawn anew for each step (Salakhutdinov and Murray 2008)."""

    binary = True

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        return (noise.uniform("binarize", tuple(images.shape[1:])) < images).to(images.dtype)


@BINARIZATIONS.register("threshold")
@dataclass(frozen=True)
class Threshold:
    """Each pixel is 1 where its grey value is more than a threshold."""

    threshold: float = leaf(0.5, "grey value, 0 to 1, above which a pixel counts as white", ge=0, lt=1)
    binary = True

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        return (images > self.threshold).to(images.dtype)
