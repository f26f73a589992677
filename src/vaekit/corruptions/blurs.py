"""Corruptions that blur or shrink: fewer pixels, and the point spread of a lens or of a moving camera."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.config import leaf
from vaekit.corruptions.table import CORRUPTIONS, SameSize, Shape, like
from vaekit.noise import Noise


@CORRUPTIONS.register("downsample")
@dataclass(frozen=True)
class Downsample:
    """Fewer pixels: the input is smaller than the target, which the model must enlarge (super-resolution)."""

    downsample_factor: float = leaf(2.0, "factor by which the input is smaller than the target", gt=1, le=64)
    downsample_filter: Literal["bicubic", "area"] = leaf(
        "bicubic", "how pixels are merged: bicubic (antialiased) or area"
    )

    def _side(self, side: int) -> int:
        return max(1, round(side / self.downsample_factor))

    def shape(self, shape: Shape) -> Shape:
        channels, height, width = shape
        return channels, self._side(height), self._side(width)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        size = self._side(images.shape[-2]), self._side(images.shape[-1])
        if self.downsample_filter == "area":
            return like(F.interpolate(images, size=size, mode="area"), images)
        return like(F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True), images)


def gaussian_window(sigma: float, radius: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """(2 * radius + 1,): a Gaussian of standard deviation `sigma` pixels at whole offsets, with sum 1."""
    offsets = torch.arange(-radius, radius + 1, device=device, dtype=dtype)
    return (-0.5 * (offsets / sigma).square()).softmax(0)


def filter_axes(images: Tensor, window: Tensor, border: Literal["repeat", "mirror"] = "repeat") -> Tensor:
    """Images (..., height, width) filtered by the same symmetric window along both axes.

    Each axis is one product with a matrix that holds the window around every position, so that any window fits any image.

    Args:
        images: float (..., height, width).
        window: (2 * radius + 1,).
        border: what lies outside: the outermost pixel repeated, or the image mirrored about it.
    """
    height, width = images.shape[-2:]
    return _toeplitz(height, window, border) @ images @ _toeplitz(width, window, border).mT


def _toeplitz(side: int, window: Tensor, border: str) -> Tensor:
    """(side, side): row i holds the window around pixel i, what falls outside added to the pixels that stand for it."""
    radius = len(window) // 2
    positions = torch.arange(side, device=window.device)[:, None]
    reached = positions + torch.arange(-radius, radius + 1, device=window.device)
    if border == "repeat":
        reached = reached.clamp(0, side - 1)
    else:
        period = max(1, 2 * side - 2)
        reached = reached.remainder(period)
        reached = torch.minimum(reached, period - reached).clamp(max=side - 1)
    return torch.zeros(side, side, device=window.device, dtype=window.dtype).scatter_add_(
        1, reached, window.expand(side, -1)
    )


@CORRUPTIONS.register("gaussian-blur")
@dataclass(frozen=True)
class GaussianBlur(SameSize):
    """A Gaussian point spread; the outermost pixels are repeated outside."""

    blur_sigma: float = leaf(1.5, "standard deviation of the blur in pixels", ge=0, le=64)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        if self.blur_sigma == 0:
            return images
        window = gaussian_window(self.blur_sigma, math.ceil(4 * self.blur_sigma), images.device)
        return like(filter_axes(images.float(), window), images)


@CORRUPTIONS.register("defocus")
@dataclass(frozen=True)
class Defocus(SameSize):
    """A lens out of focus: each point becomes a disc with an edge one pixel soft; outermost pixels are repeated outside."""

    defocus_radius: float = leaf(2.0, "radius of the disc in pixels", ge=0, le=64)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        reach, channels = math.ceil(self.defocus_radius), images.shape[1]
        offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float32)
        distance = (offsets[:, None].square() + offsets.square()).sqrt()
        disc = (self.defocus_radius + 0.5 - distance).clamp(0.0, 1.0)
        kernel = (disc / disc.sum()).expand(channels, 1, -1, -1)
        around = F.pad(images.float(), (reach, reach, reach, reach), mode="replicate")
        return like(F.conv2d(around, kernel, groups=channels), images)


@CORRUPTIONS.register("motion-blur")
@dataclass(frozen=True)
class MotionBlur(SameSize):
    """A camera that moves while the shutter is open: a straight path whose angle is drawn for each image."""

    motion_length: float = leaf(5.0, "length of the path in pixels", ge=0, le=128)

    def kernels(self, noise: Noise) -> Tensor:
        """(batch, k, k): the mean, over points of the path, of shifts by fractions of a pixel (bilinear)."""
        reach, points = math.ceil(self.motion_length / 2), max(1, math.ceil(4 * self.motion_length))
        angle = noise.uniform("motion", (1,)) * math.pi
        along = ((torch.arange(points, device=angle.device) + 0.5) / points - 0.5) * self.motion_length
        offsets = torch.arange(-reach, reach + 1, device=angle.device)
        rows, columns = (
            (1.0 - (offsets - (along * part)[..., None]).abs()).clamp(min=0.0) for part in (angle.sin(), angle.cos())
        )
        return rows.mT @ columns / points

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        kernels = self.kernels(noise)
        count, channels, side = *images.shape[:2], kernels.shape[-1]
        reach = side // 2
        around = F.pad(images.float(), (reach, reach, reach, reach), mode="replicate")
        own = kernels[:, None].expand(count, channels, side, side).reshape(count * channels, 1, side, side)
        moved = F.conv2d(around.reshape(1, count * channels, *around.shape[2:]), own, groups=count * channels)
        return like(moved.view(images.shape), images)
