"""Grids of images with crisp pixels: every image pixel becomes a square block of picture pixels."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vaekit.errors import InputError
from vaekit.figures.style import FAINT, PAGE, new_figure, text_width
from vaekit.runs import write_atomically

GAP = 4  # pixels between tiles of a figure
GROUP_GAP = 22  # pixels between groups of rows or columns
_TILE = 112  # pixels that a tile's longer side should have
_LARGEST = 256  # larger images are scaled down to `_TILE` * 2
_MARGIN = 12
_TITLE, _HEAD, _NOTE = 64, 40, 34  # heights of title, column heads and notes under a row
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
        scale: each pixel becomes a square of so many; None takes what makes the longer side at least 56 pixels.

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


def tile_scale(height: int, width: int, target: int = _TILE) -> int:
    """Picture pixels for an image pixel: even, so that a page at half the size stays crisp, or 1 for larger images."""
    return max(1, 2 * round(target / max(height, width) / 2))


def fit(images: Tensor) -> Tensor:
    """Images (..., channels, height, width), those too large for a tile scaled down."""
    height, width = images.shape[-2:]
    if max(height, width) <= _LARGEST:
        return images
    shrink = 2 * _TILE / max(height, width)
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    return F.interpolate(images.flatten(0, -4), size=size, mode="area").unflatten(0, images.shape[:-3])


def columns_that_fit(shape: tuple[int, int, int], label: str = "", most: int = 14) -> int:
    """How many tiles of images of `shape` (channels, height, width) stand beside a label on a page."""
    height, width = shape[1:]
    if max(height, width) > _LARGEST:
        height, width = (side * 2 * _TILE // max(height, width) for side in (height, width))
    room = PAGE - 2 * _MARGIN - (text_width(label) + 2 * _MARGIN if label else 0)
    return max(1, min(most, (room + GAP) // (max(1, width) * tile_scale(height, width) + GAP)))


def sheet(
    title: str,
    images: Tensor,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    group: int = 0,
    column_breaks: Sequence[int] = (),
    notes: Mapping[int, Sequence[str]] | None = None,
) -> Figure:
    """A figure of images in rows and columns, each drawn with whole blocks of pixels.

    Args:
        title: above it.
        images: float (rows, columns, channels, height, width) in [0, 1].
        row_labels: to the left of each row.
        column_labels: above each column.
        group: rows that belong together, with space after them; 0 means no groups.
        column_breaks: columns with space before them.
        notes: short texts under each image of some rows.
    """
    notes = notes or {}
    images = fit(images)
    rows, columns, _, height, width = images.shape
    scale = tile_scale(height, width)
    tall, wide = height * scale, width * scale
    gutter = max((text_width(label) + 2 * _MARGIN for label in row_labels), default=0)

    lefts, x = [], _MARGIN + gutter
    for column in range(columns):
        x += GROUP_GAP if column in column_breaks else 0
        lefts.append(x)
        x += wide + GAP
    tops, y = [], _TITLE + (_HEAD if column_labels else 0)
    for row in range(rows):
        y += GROUP_GAP if group and row and row % group == 0 else 0
        tops.append(y)
        y += tall + GAP + (_NOTE if row in notes else 0)
    full_width = max(x - GAP + _MARGIN, text_width(title, 11, "bold") + 2 * _MARGIN)
    full_height = y - GAP + _MARGIN

    canvas = np.full((full_height, full_width, 3), 255, np.uint8)
    tiles = enlarge(to_bytes(images), scale)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            canvas[top : top + tall, left : left + wide] = tiles[row, column]

    figure = new_figure(full_width, full_height)
    figure.figimage(canvas, 0, 0)

    def write(x: float, y: float, text: str, **how: object) -> None:
        figure.text(x / full_width, 1 - y / full_height, text, **how)  # type: ignore[arg-type]

    write(_MARGIN, _TITLE / 2, title, size=11, weight="bold", va="center")
    for top, label in zip(tops, row_labels, strict=False):
        write(_MARGIN + gutter - 2 * _MARGIN + 6, top + tall / 2, label, ha="right", va="center")
    for left, label in zip(lefts, column_labels, strict=False):
        write(left + wide / 2, tops[0] - _HEAD / 2, label, ha="center", va="center", size=8.5, color=FAINT)
    for row, texts in notes.items():
        for left, text in zip(lefts, texts, strict=True):
            write(left + wide / 2, tops[row] + tall + 5, text, ha="center", va="top", size=8, color=FAINT)
    return figure
