"""Pictures of a data set: images at random, near-duplicates side by side, odd ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vaekit.figures.basics import FigureFile
from vaekit.figures.sheets import columns_that_fit, sheet
from vaekit.figures.style import Drawn, save, shorten, style
from vaekit.inspection.album import Album
from vaekit.inspection.inspect import Inspection

_MOST_ROWS = 12
_PAIR_ROWS = 10
_ODD = {"even": "nearly one colour", "dark": "much darker", "bright": "much brighter"}


def inspection_figures(found: Inspection, folder: Path) -> list[FigureFile]:
    """Write ``contact-sheet.png`` and, where there is something to show, ``duplicates.png`` and ``odd.png``."""
    names = [entry["name"] for entry in found.record["classes"] or ()]
    with style(names):
        made = [contact_sheet(found), duplicate_sheet(found), odd_sheet(found)]
        return [save(drawn, folder) for drawn in made if drawn is not None]


def contact_sheet(found: Inspection) -> Drawn:
    """Images drawn at random, always the same ones: a row for each class, or for each split."""
    album, classes = found.album, found.record["classes"]
    generator = torch.Generator().manual_seed(0)
    rows: list[tuple[str, Tensor]]
    if classes and len(classes) <= _MOST_ROWS:
        labels = _labels(album)
        rows = [(shorten(entry["name"]), (labels == label).nonzero()[:, 0]) for label, entry in enumerate(classes)]
    else:
        rows, first = [], 0
        for name, images in album.parts.items():
            rows += [(name, torch.arange(first, first + len(images)))] * (5 if name == "train" else 2)
            first += len(images)
    rows = [(name, index) for name, index in rows if len(index)]
    columns = columns_that_fit(_shape(album), max((name for name, _ in rows), key=len))
    chosen = [index[torch.randperm(len(index), generator=generator)[:columns]] for _, index in rows]
    title = f"{found.record['data']}: {len(album):,} images, some at random"
    return Drawn(
        "contact-sheet",
        sheet(title, _filled(album, chosen, columns), [name for name, _ in rows]),
        title,
        "Images drawn at random, as the model will see them.",
    )


def duplicate_sheet(found: Inspection) -> Drawn | None:
    """Pairs with the same pixels, then near-duplicates, those across splits first."""
    album = found.album
    split_of = album.split_of()
    pairs = [(group[0], other) for group in found.exact for other in group[1:]]
    pairs += [(first, second) for first, second, _ in found.near]
    pairs.sort(key=lambda pair: split_of[pair[0]] == split_of[pair[1]])  # stable: else as they were
    if not pairs:
        return None
    across = max(1, min((columns_that_fit(_shape(album)) - 1) // 2, len(pairs)))
    shown = pairs[: across * _PAIR_ROWS]
    rows = [torch.tensor(shown[start : start + across]).flatten() for start in range(0, len(shown), across)]
    notes = {
        number: [*(split_of[index] for index in row.tolist()), *[""] * (2 * across - len(row))]
        for number, row in enumerate(rows)
    }
    title = f"{found.record['data']}: {len(pairs):,} pairs of the same or nearly the same image"
    if len(shown) < len(pairs):
        title += f", {len(shown):,} of them"
    breaks = range(2, 2 * across, 2)
    return Drawn(
        "duplicates",
        sheet(title, _filled(album, rows, 2 * across), column_breaks=breaks, notes=notes),
        title,
        "Pairs across splits come first.",
    )


def odd_sheet(found: Inspection) -> Drawn | None:
    """Images that show nearly nothing, or are much darker or brighter than most."""
    kinds = [(_ODD[kind], index) for kind, index in found.odd.items() if index]
    if not kinds:
        return None
    columns = columns_that_fit(_shape(found.album), max((name for name, _ in kinds), key=len))
    rows = [torch.tensor(index[:columns]) for _, index in kinds]
    title = f"{found.record['data']}: odd images"
    labels = [f"{name} ({len(index):,})" for name, index in kinds]
    return Drawn(
        "odd", sheet(title, _filled(found.album, rows, columns), labels), title, "Not wrong, but unlike the rest."
    )


def _labels(album: Album) -> Tensor:
    """int64 (n,), -1 where a split has no labels."""
    parts = [torch.full((len(p),), -1) if p.labels is None else p.labels for p in album.parts.values()]
    return torch.cat(parts)


def _shape(album: Album) -> tuple[int, int, int]:
    return next(iter(album.parts.values())).shape


def _filled(album: Album, rows: list[Tensor], columns: int) -> Tensor:
    """Images (rows, columns, channels, height, width); short rows end in white."""
    images = torch.ones(len(rows), columns, *_shape(album))
    for row, index in enumerate(rows):
        images[row, : len(index)] = album.unit(index)
    return images
