"""Corruptions that hide parts of an image: what a model must make up from the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.corruptions.table import CORRUPTIONS, SameSize, like
from vaekit.noise import Noise

_FRACTION = "expected fraction of the image that is hidden"
_FILL = "grey value of hidden pixels: 0 black to 1 white"


def _hide(images: Tensor, hidden: Tensor, fill: float) -> Tensor:
    """Images with the places `hidden` (batch, height, width) filled in all channels."""
    return like(images.masked_fill(hidden[:, None], fill), images)


@CORRUPTIONS.register("mask-pixels")
@dataclass(frozen=True)
class MaskPixels(SameSize):
    """Single pixels hidden, each with the same chance."""

    mask_fraction: float = leaf(0.5, _FRACTION, ge=0, lt=1)
    mask_fill: float = leaf(0.0, _FILL, ge=0, le=1)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        hidden = noise.uniform("mask-pixels", tuple(images.shape[-2:])) < self.mask_fraction
        return _hide(images, hidden, self.mask_fill)


@CORRUPTIONS.register("mask-blocks")
@dataclass(frozen=True)
class MaskBlocks(SameSize):
    """Square blocks hidden, each with the same chance, of a grid that is shifted at random for each image."""

    mask_fraction: float = leaf(0.25, _FRACTION, ge=0, lt=1)
    mask_fill: float = leaf(0.0, _FILL, ge=0, le=1)
    block_size: int = leaf(7, "side of a block in pixels", ge=1, le=4096)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        side, sizes = self.block_size, images.shape[-2:]
        grid = tuple((size + side - 2) // side + 1 for size in sizes)
        chance = noise.uniform("mask-blocks", grid)
        shifts = (noise.uniform("mask-shift", (2,)) * side).long()
        rows, columns = (
            (torch.arange(size, device=images.device) + shifts[:, axis, None]) // side
            for axis, size in enumerate(sizes)
        )
        cells = (rows[:, :, None] * grid[1] + columns[:, None, :]).flatten(1)
        hidden = chance.flatten(1).gather(1, cells).view(-1, *sizes) < self.mask_fraction
        return _hide(images, hidden, self.mask_fill)


@CORRUPTIONS.register("mask-stripes")
@dataclass(frozen=True)
class MaskStripes(SameSize):
    """Parallel stripes hidden at equal distances, across or down, shifted at random for each image."""

    mask_fraction: float = leaf(0.25, _FRACTION, ge=0, lt=1)
    mask_fill: float = leaf(0.0, _FILL, ge=0, le=1)
    stripe_width: int = leaf(2, "width of a stripe in pixels", ge=1, le=4096)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        if self.mask_fraction == 0:
            return images
        height, width = images.shape[-2:]
        period = self.stripe_width / self.mask_fraction
        draws = noise.uniform("mask-stripes", (2,))[..., None, None]
        down, shift = draws[:, 0] < 0.5, draws[:, 1] * period
        rows = torch.arange(height, device=images.device, dtype=torch.float32)[:, None].expand(height, width)
        columns = torch.arange(width, device=images.device, dtype=torch.float32).expand(height, width)
        hidden = (torch.where(down, columns, rows) + shift).remainder(period) < self.stripe_width
        return _hide(images, hidden, self.mask_fill)
