"""Many small images in one picture, as the page loads them."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SHEET = 16  # thumbnails along each side of a sheet
_LARGEST = 64  # pixels along the longer side of a thumbnail


@dataclass(frozen=True)
class Sheets:
    """How images of one shape become thumbnails.

    Attributes:
        shape: (channels, height, width) of the images.
    """

    shape: tuple[int, int, int]

    @property
    def thumbnail(self) -> tuple[int, int]:
        """(height, width) of each.

        >>> Sheets((3, 256, 128)).thumbnail, Sheets((1, 28, 28)).thumbnail
        ((64, 32), (28, 28))
        """
        _, height, width = self.shape
        scale = max(1.0, max(height, width) / _LARGEST)
        return round(height / scale), round(width / scale)

    @property
    def ending(self) -> str:
        """Of the files: grey images without loss, colour with a little."""
        return "png" if self.shape[0] == 1 else "webp"

    def picture(self, images: Tensor, across: int = SHEET, down: int | None = None) -> tuple[bytes, str]:
        """A picture of thumbnails, row by row, and its media type.

        Args:
            images: (n, channels, height, width) in [0, 1].
            across: thumbnails in a row.
            down: rows; None: as many as need be, and no more across than there are images.
        """
        height, width = self.thumbnail
        if down is None:
            across = min(across, len(images))
            down = math.ceil(len(images) / across)
        canvas = np.zeros((down * height, across * width, self.shape[0]), np.uint8)
        for place, pixels in enumerate(to_levels(images).permute(0, 2, 3, 1).numpy()):
            if pixels.shape[:2] != (height, width):
                resized = _image(pixels).resize((width, height), Image.Resampling.LANCZOS)
                pixels = np.asarray(resized).reshape(height, width, -1)
            top, left = place // across * height, place % across * width
            canvas[top : top + height, left : left + width] = pixels
        buffer = io.BytesIO()
        _image(canvas).save(buffer, self.ending.upper(), **({} if self.ending == "png" else {"quality": 88}))
        return buffer.getvalue(), f"image/{self.ending}"


def to_levels(images: Tensor) -> Tensor:
    """uint8 grey levels of images in [0, 1], rounded."""
    return images.mul(255.0).round().to(torch.uint8)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
