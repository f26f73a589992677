"""Figures made of rows and columns of images, with labels around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from vaekit.figures.grids import enlarge, to_bytes
from vaekit.figures.style import FAINT, PAGE, blit, new_figure, text_width

GAP = 4  # pixels between tiles of a figure
GROUP_GAP = 22  # pixels between groups of rows or columns
_TILE = 112  # pixels that a tile's longer side should have
_LARGEST = 256  # larger images are scaled down to `_TILE` * 2
_MARGIN = 12
_TITLE, _HEAD, _NOTE = 64, 40, 34  # heights of title, column heads and notes under a row


def tile_scale(height: int, width: int, target: int = _TILE) -> int:
    """Picture pixels for an image pixel: even, to stay crisp at half the size, or 1 for larger images."""
    return max(1, 2 * round(target / max(height, width) / 2))


def fit(images: Tensor) -> Tensor:
    """Images (..., channels, height, width), those too large for a tile scaled down."""
    height, width = images.shape[-2:]
    if max(height, width) <= _LARGEST:
        return images
    shrink = 2 * _TILE / max(height, width)
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    return F.interpolate(images.flatten(0, -4), size=size, mode="area").unflatten(0, images.shape[:-3])


def columns_that_fit(shape: tuple[int, int, int], label: str = "", most: int = 14, breaks: int = 0) -> int:
    """How many tiles of images of `shape` (channels, height, width) stand beside a label on a page, with column breaks."""
    height, width = shape[1:]
    if max(height, width) > _LARGEST:
        height, width = (side * 2 * _TILE // max(height, width) for side in (height, width))
    room = PAGE - 2 * _MARGIN - (text_width(label) + 2 * _MARGIN if label else 0) - breaks * GROUP_GAP
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
    blit(figure, canvas, 0, 0)

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
