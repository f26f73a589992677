"""Maps of the latent space beyond two dimensions: t-SNE, and maps whose points are the images themselves."""

from __future__ import annotations

import numpy as np
import torch

from vaekit.figures.grids import enlarge, to_bytes
from vaekit.figures.latent import Plane, class_legend, coloured, dots, legend_width, plane
from vaekit.figures.sheets import fit, tile_scale
from vaekit.figures.style import PAGE, PALETTE, Drawn, blit, new_figure, shorten
from vaekit.figures.subject import Subject

_LEAST_IMAGES = 30
_TILE, _FRAME, _GAP = 56, 4, 2  # pixels: a thumbnail's longer side, its coloured frame, the space between frames
_LEAST_HEIGHT, _MOST_HEIGHT = 640, 1500  # pixels of the map
_LEFT, _RIGHT, _TOP, _BOTTOM = 130, 30, 90, 110


def tsne_plane(subject: Subject) -> Plane | None:
    """Codes laid out by t-SNE (van der Maaten and Hinton 2008); None below three latents or 30 images."""
    if len(subject.images) < _LEAST_IMAGES or subject.codes.means.shape[1] < 3:
        return None
    return Plane(subject.codes.tsne, (), f"of {subject.code_size}, laid out by t-SNE", None)


_TSNE = (
    "t-SNE keeps neighbours together: images that stand side by side here have codes that lie close in the whole "
    "latent space. Distances between islands, and their sizes and directions, mean nothing. "
)


def tsne(subject: Subject) -> Drawn | None:
    """The t-SNE map as points; None without classes to colour them by."""
    found = tsne_plane(subject) if coloured(subject) else None
    if found is None:
        return None
    title = f"Neighbourhoods of {len(found.points):,} {subject.split} images: t-SNE of their codes"
    caption = f"Each point is one image's {subject.code_name}, {found.how}" + (
        ", coloured by class. " if coloured(subject) else ". "
    )
    caption += _TSNE
    if subject.told and coloured(subject):
        caption += (
            "Mixed colours are what to hope for, as this model is told the class: then the latents hold the rest."
        )
    return Drawn("tsne", dots(subject, found, title), title, caption.strip())


def principal_images(subject: Subject) -> Drawn | None:
    """The map of two latents, or of principal components, with the images at their places."""
    found = plane(subject)
    return (
        None
        if found is None
        else _pictured(subject, found, "latents-images", "The latent space, in its own images", "")
    )


def tsne_images(subject: Subject) -> Drawn | None:
    """The t-SNE map with the images at their places."""
    found = tsne_plane(subject)
    return (
        None
        if found is None
        else _pictured(subject, found, "tsne-images", "Neighbourhoods, in their own images", _TSNE)
    )


def _pictured(subject: Subject, found: Plane, name: str, title: str, more: str) -> Drawn:
    classes = [shorten(label) for label in subject.classes] if coloured(subject) else []
    framed = 0 < len(classes) <= len(PALETTE)
    image = fit(subject.images.unit(torch.zeros(1, dtype=torch.int64)))
    height, width = image.shape[-2:]
    scale = tile_scale(height, width, _TILE)
    rim = 2 * _FRAME * framed + _GAP
    tall, wide = height * scale + rim, width * scale + rim

    across = PAGE - _LEFT - _RIGHT - (legend_width(subject) if framed else 0)
    low, high = found.points.min(0), found.points.max(0)
    span = np.maximum(high - low, 1e-6)
    columns = max(2, across // wide)
    unit = span[0] / (columns * wide) * 1.02  # of the plane, in a pixel
    rows = int(np.clip(np.ceil(span[1] / unit / tall), -(-_LEAST_HEIGHT // tall), _MOST_HEIGHT // tall))
    unit = max(unit, span[1] / (rows * tall) * 1.02)
    corner = (low + high) / 2 - unit * np.array([columns * wide, rows * tall]) / 2

    chosen, places = one_a_cell((found.points - corner) / (unit * np.array([wide, tall])), columns, rows)
    canvas = np.full((rows * tall, columns * wide, 3), 255, np.uint8)
    labels = subject.codes.labels
    tiles = enlarge(to_bytes(fit(subject.images.unit(torch.from_numpy(chosen)))), scale)
    half = _GAP // 2
    for index, (column, row), tile in zip(chosen, places, tiles, strict=True):
        top, left = (rows - 1 - row) * tall + half, column * wide + half
        edge = rim - _GAP
        if framed and labels is not None:
            colour = PALETTE[int(labels[index]) % len(PALETTE)]
            canvas[top : top + tall - _GAP, left : left + wide - _GAP] = _rgb(colour)
        y, x = top + edge // 2, left + edge // 2
        canvas[y : y + height * scale, x : x + width * scale] = tile

    left_edge = _LEFT if found.names else 12
    page_width = left_edge + columns * wide + _RIGHT + (legend_width(subject) if framed else 0)
    bottom = _BOTTOM if found.names else 20
    page_height = _TOP + rows * tall + bottom
    figure = new_figure(page_width, page_height)
    blit(figure, canvas, left_edge, bottom)
    box = (left_edge / page_width, bottom / page_height, columns * wide / page_width, rows * tall / page_height)
    end = corner + unit * np.array([columns * wide, rows * tall])
    axes = figure.add_axes(box, facecolor="none", xlim=(corner[0], end[0]), ylim=(corner[1], end[1]))
    axes.grid(False)
    if found.names:
        axes.set_xlabel(found.names[0])
        axes.set_ylabel(found.names[1])
    else:
        axes.set_axis_off()
    if framed:
        class_legend(axes, classes)
    figure.text(12 / page_width, 1 - 40 / page_height, title, size=11, weight="bold", va="center")
    caption = (
        f"{len(chosen):,} of {len(found.points):,} {subject.split} images, {found.how}: in each cell of a "
        "grid the image whose code lies nearest its middle, or nothing where there is none"
    )
    caption += ", framed in the colour of its class. " if framed else ". "
    caption += (
        more
        + "Neighbours that look alike show what the model takes for similar: shape, weight, slant, colour or light."
    )
    return Drawn(name, figure, title, caption)


def one_a_cell(points: np.ndarray, columns: int, rows: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Of points (n, 2) in units of cells, the one nearest each occupied cell's middle, and the (column, row) of each.

    >>> chosen, cells = one_a_cell(np.array([[0.1, 0.5], [0.4, 0.5], [1.2, 0.3], [7.0, 0.0]]), columns=2, rows=1)
    >>> chosen.tolist(), cells
    ([1, 2], [(0, 0), (1, 0)])
    """
    cells = np.floor(points).astype(int)
    inside = ((cells >= 0) & (cells < (columns, rows))).all(1)
    distance = ((points - cells - 0.5) ** 2).sum(1)
    best: dict[tuple[int, int], int] = {}
    for index in np.argsort(distance, kind="stable"):
        if inside[index]:
            best.setdefault((int(cells[index, 0]), int(cells[index, 1])), int(index))
    places = sorted(best)
    return np.array([best[place] for place in places], dtype=np.int64), places


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))
