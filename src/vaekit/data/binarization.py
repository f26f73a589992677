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


@BINARIZATIONS.register("dequantize")
@dataclass(frozen=True)
class Dequantize:
    """Uniform noise within each grey level k, (k + u) / 256, anew for each step (Theis et al. 2016, arXiv:1511.01844).

    It makes whole levels continuous (Uria, Murray and Larochelle 2013, arXiv:1306.0186), and a density of them a bound on
    the levels' probability: E log p(x + u) <= log of the integral of p over the level (Jensen).
    """

    binary = False

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        levels = (255.0 * images).round()  # exact: images are k * (1 / 255), rounded to float32
        return (levels + noise.uniform("dequantize", tuple(images.shape[1:])).to(images.dtype)) * (1.0 / 256.0)
