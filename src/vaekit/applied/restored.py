"""`restore_folder`: every image of a folder through a model and back, into another folder, names and sizes kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaekit import generation
from vaekit.applied.outputs import OutputFolder, exact_names
from vaekit.applied.tiles import in_tiles, resized
from vaekit.data.images import Images
from vaekit.errors import InputError
from vaekit.files.archives import list_images
from vaekit.files.decode import Rule, UnreadableError, decode, header, quiet
from vaekit.files.listing import Entry, Listing
from vaekit.files.packing import left_out
from vaekit.trained import Progress, Trained, silent, wrapped_in


class _Whole(NamedTuple):
    """An image to restore: pixels of the model's size and its own size, or pixels of its own size to cut into tiles."""

    row: int
    pixels: np.ndarray
    height: int
    width: int


def restore_folder(
    trained: Trained,
    images: str | os.PathLike[str],
    out: str | os.PathLike[str],
    tiles: bool = False,
    limit: int | None = None,
    size: int = 64,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Send the images of a folder or an archive through a model and back, and write them under their names.

    An image of the model's size is read as it is. Another one is brought to that size whole (stretched; laid on black for
    a model trained with ``--resize pad``), and what the model makes of it is brought back to its own size: a model of
    whole things, such as faces, knows them at one scale and would not know a piece of one. With `tiles` the image stays
    as large as it is and is cut into overlapping tiles of the model's size, blended by a smooth window: for models of
    texture, and for those that undo a corruption of so many pixels. A model that enlarges by a factor gives images that
    are larger by this factor.

    Files keep their names, folders included; those of formats that would lose pixels again, such as JPEG, become
    ``.png`` (see `exact_names`). Rotations that a file asks for are applied, transparency is laid on white, and grey or
    colour is the model's.

    Args:
        trained: a trained model; see `vaekit.load`.
        images: the folder or archive. A conditional model reads an image's class from the folders above it.
        out: the folder to write into, apart from that of the images.
        tiles: cut larger images into tiles.
        limit: take only the first so many images; None takes all.
        size: images, or tiles, at once in memory.
        progress: is told the fraction done.

    Returns:
        A record for JSON: ``folder``, ``num_images``, and ``left_out``, the names and reasons of files that could not be
        read.

    Raises:
        InputError: for a folder without images, a class that is missing, or an output that cannot be written.
    """
    path = Path(images).expanduser()
    folder = OutputFolder(out, apart_from=path if path.is_dir() else None)
    named = f"--images {str(images)!r}"
    factor = _factor(trained, tiles)
    prefix = wrapped_in(path) if path.is_dir() else ""
    skipped: list[tuple[str, str]] = []
    with list_images(path) as listing, quiet():
        entries = listing.entries[:limit]
        names = [prefix + entry.name for entry in entries]
        if not entries:
            raise InputError(f"{named}: holds no images; give a folder of files that end in .jpg, .png or the like")
        targets = exact_names(names)
        for target in targets:
            folder.place(target)
        restore = _restorer(trained, _conditions(trained, names, named))
        read = _reader(trained, listing, entries, tiles)
        done = 0
        for first in range(0, len(entries), 1 if tiles else size):
            rows = range(first, min(first + (1 if tiles else size), len(entries)))
            found = list(_readable(read, rows, names, skipped))
            for whole, made in zip(found, _made(trained, found, restore, tiles, factor, size), strict=True):
                folder.write_image(targets[whole.row], as_bytes(made))
                done += 1
            progress((rows[-1] + 1) / len(entries))
    if done == 0:
        raise InputError(f"{named}: no image could be read: {left_out(skipped)}; give others")
    return {"folder": str(folder.path), "num_images": done, "left_out": [list(each) for each in skipped]}


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] as uint8, rounded."""
    return np.rint(pixels.clip(0.0, 1.0) * 255.0).astype(np.uint8)


_Restore = Callable[[int | list[int], np.ndarray], np.ndarray]


def _restorer(trained: Trained, condition: Tensor | None) -> _Restore:
    """From the row of an image, or of each, and pixels uint8 (n, height, width, channels) to float32, channels last."""

    def restore(rows: int | list[int], pixels: np.ndarray) -> np.ndarray:
        seen = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(trained.device, torch.float32) / 255.0
        given = None if condition is None else condition[rows]
        return generation.reconstruct(trained.model, seen, given).permute(0, 2, 3, 1).cpu().numpy()

    return restore


def _conditions(trained: Trained, names: Sequence[str], named: str) -> Tensor | None:
    """What a conditional model reads of each image, from the folders it lies in."""
    if not trained.model.conditional:
        return None
    labels = trained.labels_of(names, named)[0] if trained.model.num_classes is not None else None
    return trained.condition(Images(torch.empty(len(names), 1, 1, 1), labels), named)


def _factor(trained: Trained, tiles: bool) -> int:
    """How much larger what the model makes is than what it reads."""
    (_, height, width), (_, tall, wide) = trained.info.seen_shape, trained.info.shape
    factor = tall // height
    if tiles and (factor * height, factor * width) != (tall, wide):
        raise InputError(
            f"--tiles: the model makes {wide}x{tall} pixels of {width}x{height}, which is no whole factor; leave it out"
        )
    return factor


def _reader(trained: Trained, listing: Listing, entries: Sequence[Entry], tiles: bool) -> Callable[[int], _Whole]:
    """What reads the image of a row; it raises `UnreadableError` for one that cannot be read."""
    channels, height, width = trained.info.seen_shape
    how = "pad" if trained.config.data.sizing.resize == "pad" else "stretch"

    def read(row: int) -> _Whole:
        content = listing.read(entries[row])
        about = header(content)
        rule = Rule(about.height, about.width, channels) if tiles else Rule(height, width, channels, how)  # type: ignore[arg-type]  # one of its words
        return _Whole(row, decode(content, rule), about.height, about.width)

    return read


def _readable(
    read: Callable[[int], _Whole], rows: Sequence[int], names: Sequence[str], skipped: list[tuple[str, str]]
) -> Iterator[_Whole]:
    for row in rows:
        try:
            yield read(row)
        except UnreadableError as problem:
            skipped.append((names[row], str(problem)))


def _made(
    trained: Trained, found: Sequence[_Whole], restore: _Restore, tiles: bool, factor: int, size: int
) -> Iterator[np.ndarray]:
    """What the model makes of each image, float32 (height, width, channels), at the image's own size."""
    _, height, width = trained.info.seen_shape
    _, tall, wide = trained.info.shape
    if tiles:
        for whole in found:
            yield in_tiles(whole.pixels, (height, width), partial(restore, whole.row), factor, size)
        return
    if not found:
        return
    together = restore([whole.row for whole in found], np.stack([whole.pixels for whole in found]))
    for whole, made in zip(found, together, strict=True):
        inner = made
        if trained.config.data.sizing.resize == "pad":
            top, left, bottom, right = _inside(whole, tall, wide)
            inner = made[top:bottom, left:right]
        ratio = tall / height, wide / width
        yield resized(inner, round(whole.height * ratio[0]), round(whole.width * ratio[1]))


def _inside(whole: _Whole, tall: int, wide: int) -> tuple[int, int, int, int]:
    """Where an image lies that was laid on black to fill (tall, wide): top, left, bottom, right."""
    scale = min(wide / whole.width, tall / whole.height)
    across, down = max(1, round(whole.width * scale)), max(1, round(whole.height * scale))
    top, left = (tall - down) // 2, (wide - across) // 2
    return top, left, top + down, left + across
