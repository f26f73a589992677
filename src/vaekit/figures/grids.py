"""Grids of images with crisp pixels: every image pixel becomes a square block of picture pixels."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from vaekit.errors import InputError
from vaekit.runs import write_atomically

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP"}


def to_bytes(images: Tensor) -> np.ndarray:
    """Float images (..., channels, height, width) in [0, 1] as uint8 (..., height, width, 1 or 3).

    One channel is grey; of three or more the first three are red, green and blue; of two the first is shown.
    """
    kept = images[..., : 3 if images.shape[-3] >= 3 else 1, :, :]
    whole = kept.detach().float().cpu().clamp(0.0, 1.0).mul(255.0).round().byte()
    return whole.movedim(-3, -1).numpy()


def enlarge(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Each pixel of (..., height, width, channels) as a square of `scale` by `scale`."""
    return pixels.repeat(scale, axis=-3).repeat(scale, axis=-2)


def image_grid(images: Tensor, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Images side by side, row by row, with a thin white line between them.

    Args:
        images: float (n, channels, height, width) in [0, 1], n from 1 up.
        columns: images in a row; None makes the grid about square.
        scale: each pixel becomes a square of so many; None makes the longer side at least 56 pixels.

    Returns:
        A grey or RGB picture, without a border.

    Raises:
        InputError: when there are no images.
    """
    if len(images) == 0:
        raise InputError("a grid of 0 images cannot be drawn; give at least 1")
    pixels = to_bytes(images)
    count, height, width, channels = pixels.shape
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    scale = scale or max(1, math.ceil(56 / max(height, width)))
    rows, gap = math.ceil(count / columns), 2
    tall, wide = height * scale + gap, width * scale + gap
    sheet = np.full((rows * tall - gap, columns * wide - gap, channels), 255, np.uint8)
    for place, tile in enumerate(enlarge(pixels, scale)):
        top, left = place // columns * tall, place % columns * wide
        sheet[top : top + tall - gap, left : left + wide - gap] = tile
    return Image.fromarray(sheet[..., 0] if channels == 1 else sheet)


def save_grid(images: Tensor, path: str | os.PathLike[str], columns: int | None = None) -> Path:
    """Write `image_grid` of the images to a file, atomically; its ending chooses the format.

    Raises:
        InputError: for an ending that is no image format, or a folder that cannot be written.
    """
    file = Path(path)
    form = _FORMATS.get(file.suffix.lower())
    if form is None:
        raise InputError(f"{str(path)!r} does not end in an image format; use {', '.join(_FORMATS)}")
    content = io.BytesIO()
    image_grid(images, columns).save(content, form)
    try:
        write_atomically(file, content.getvalue())
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written ({error.strerror}); choose another path") from None
    return file
