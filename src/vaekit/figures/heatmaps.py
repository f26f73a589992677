"""Images beside their reconstructions and maps of the difference, in one perceptually uniform scale of colours."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from vaekit.figures.sheets import columns_that_fit, sheet
from vaekit.figures.style import DPI

COLOURS = "inferno"  # lightness rises evenly with the value (van der Walt and Smith 2015)
_BAR = 150  # pixels that the bar of colours takes beside a sheet
_LARGE = 256  # of the side of an image that stands alone
_ROWS = ("image", "reconstruction", "|difference|")


def differences(images: Tensor, reconstructions: Tensor) -> Tensor:
    """|x - reconstruction|, averaged over channels, (n, height, width)."""
    return (images - reconstructions).abs().mean(-3)


def coloured(values: Tensor, top: float) -> Tensor:
    """Values (..., height, width) from 0 to `top` as colours (..., 3, height, width)."""
    table = matplotlib.colormaps[COLOURS]
    rgb = table(Normalize(0.0, max(top, 1e-12), clip=True)(values.numpy()))[..., :3]
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(rgb, -1, -3))).float()


def heat_sheet(title: str, images: Tensor, reconstructions: Tensor, notes: Sequence[str], top: float) -> Figure:
    """Columns of an image, its reconstruction and the map of their difference, with the scale beside them.

    One image alone stands in a row, and larger.

    Args:
        title: above it.
        images: (n, channels, height, width) in [0, 1].
        reconstructions: the same shape.
        notes: n texts of some ten characters, under the maps; or none.
        top: the difference that has the lightest colour.
    """
    three = [as_colour(images), as_colour(reconstructions), coloured(differences(images, reconstructions), top)]
    count = len(images)
    if count == 1:
        times = max(1, _LARGE // max(images.shape[-2:]))
        large = torch.stack(three, 1).repeat_interleave(times, -2).repeat_interleave(times, -1)
        return _with_bar(sheet(title, large, column_labels=_ROWS), top)
    columns = min(count, columns_that_fit(tuple(three[0].shape[1:]), _ROWS[1]))  # type: ignore[arg-type]  # three numbers
    rows = -(-count // columns)
    tiles = torch.ones(rows, 3, columns, *three[0].shape[1:])
    for place in range(count):
        for kind, part in enumerate(three):
            tiles[place // columns, kind, place % columns] = part[place]
    under = (
        {}
        if not notes
        else {
            3 * row + 2: [*notes[row * columns : (row + 1) * columns], *[""] * ((row + 1) * columns - count)]
            for row in range(rows)
        }
    )
    figure = sheet(title, tiles.flatten(0, 1), _ROWS * rows, group=3, notes=under)
    return _with_bar(figure, top)


def as_colour(images: Tensor) -> Tensor:
    """Images (n, channels, height, width) with three channels; of two the first is shown."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)


def _with_bar(figure: Figure, top: float) -> Figure:
    """The figure, wider by a bar of colours on its right; what stands at fractions of its width stays at its pixels."""
    width, height = figure.get_size_inches()
    wider = width + _BAR / DPI
    for text in figure.texts:
        text.set_x(text.get_position()[0] * width / wider)
    figure.set_size_inches(wider, height)
    tall = min(height - 90 / DPI, 400 / DPI)  # below the title
    box = ((width + 14 / DPI) / wider, (height - 64 / DPI - tall) / height, 22 / DPI / wider, tall / height)
    axes = figure.add_axes(box)
    bar = figure.colorbar(ScalarMappable(Normalize(0.0, max(top, 1e-12)), COLOURS), cax=axes)
    bar.set_label("|difference|", size=8)
    bar.ax.tick_params(labelsize=7.5)
    bar.ax.grid(False)
    return figure
