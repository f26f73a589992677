"""The cache of own images: decoded once, packed as uint8 into one file, mapped into memory ever after.

In the cache folder stand

- ``packed/DIGEST/``: ``pixels.u8`` (and ``inputs.u8``, of pairs), the images one after another, row by row, and
  ``index.json``. The digest is one of names, file contents and rules: a folder and its archive share it.
- ``signatures/SIGNATURE``: the digest that a folder or archive had when its names, sizes and times were those of the
  signature, and what was left out of it. So a second opening reads no image.
- ``packing/SIGNATURE/``: what is being packed, with a journal of the parts that are on disk for good. It is held by a
  lock, continued if it was cut short, and becomes a folder of ``packed`` by one rename.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaekit.cache import VARIABLE, cache_folder
from vaekit.errors import InputError
from vaekit.files.packing import FILES, VERSION, Job, held, pack_into, stamp, sweep, sync, write

IN_MEMORY = 64 << 20  # bytes of pixels below which a set is read, not mapped


@dataclass(frozen=True)
class Packed:
    """Images as they lie in the cache.

    Attributes:
        names: of the n images that could be read, in natural order.
        pixels: uint8 (m, height, width, channels), m >= n: mapped from the file, or in memory.
        inputs: the same of the noisy partners in pairs, perhaps of another size; else None.
        rows: int64 (n,), where in `pixels` and `inputs` each image stands; None where pixels are in memory, m = n.
        skipped: (name, reason) of those left out.
        notes: sentences on how the shape was chosen.
        binary: whether every pixel of `pixels` is black or white.
        digest: of names, file contents and rules, in hexadecimal.
    """

    names: Sequence[str]
    pixels: Tensor
    inputs: Tensor | None
    rows: Tensor | None
    skipped: Sequence[tuple[str, str]]
    notes: Sequence[str]
    binary: bool
    digest: str


def open_or_pack(signature: str, job: Callable[[], Job], title: str, progress: Callable[[str, float], None]) -> Packed:
    """The packed images of a signature: from the cache, or else packed now.

    Args:
        signature: stands for the images as they lie there, and the rules asked for.
        job: says what is to be packed; only asked when the cache does not hold it.
        title: what the images are called in sentences.
        progress: is told what is being done, and the fraction done.

    Raises:
        InputError: when too many images cannot be read, or the cache cannot be written.
    """
    root = cache_folder()
    found = _look_up(root, signature)
    if found is not None:
        return found
    try:
        with held(root / "packing", signature) as folder:
            found = _look_up(root, signature)  # another process may have packed it meanwhile
            if found is None:
                sweep(folder)
                found = _packed(root, folder, signature, job(), title, progress)
            return found
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        mend = "free some space, or set it to another disk" if full else "set it to a folder that can be written"
        raise InputError(
            f"{VARIABLE} {str(root)!r}: images cannot be packed there ({error.strerror}); {mend}"
        ) from None


def _packed(
    root: Path, folder: Path, signature: str, job: Job, title: str, progress: Callable[[str, float], None]
) -> Packed:
    name = pack_into(folder, job, title, progress)
    place = root / "packed" / name
    place.parent.mkdir(exist_ok=True)
    try:
        _read(place, name, ())
        shutil.rmtree(folder)  # the same images were there already, from elsewhere
    except (OSError, ValueError, LookupError, TypeError):
        if place.exists():  # damaged
            aside = tempfile.mkdtemp(dir=folder.parent)
            os.replace(place, aside)
            shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, place)
        sync(place.parent)
    links = root / "signatures"
    links.mkdir(exist_ok=True)
    write(links / signature, json.dumps({"digest": name, "odd": list(job.odd)}))
    return _read(place, name, list(job.odd))


def _look_up(root: Path, signature: str) -> Packed | None:
    try:
        known = json.loads((root / "signatures" / signature).read_text())
        return _read(root / "packed" / known["digest"], known["digest"], known["odd"])
    except (OSError, ValueError, LookupError, TypeError):
        return None  # never packed, removed or damaged


def _read(folder: Path, name: str, odd: Sequence[Sequence[str]]) -> Packed:
    """The images of one folder of the cache; any of several exceptions when it is not whole."""
    index = json.loads((folder / "index.json").read_text())
    if index["version"] != VERSION:
        raise ValueError(index["version"])
    names, skipped = index["names"], {int(row): reason for row, reason in index["skipped"].items()}
    for file, written in index["stamps"].items():
        if stamp(folder / file) != written:
            raise ValueError(file)
    rows = torch.tensor([row for row in range(len(names)) if row not in skipped]) if skipped else None
    shapes = [tuple(shape) for shape in index["shapes"]]
    small = sum(int(np.prod(shape)) for shape in shapes) < IN_MEMORY
    planes = [_plane(folder / file, shape, rows, small) for file, shape in zip(FILES, shapes, strict=False)]
    if not small and rows is None:
        rows = torch.arange(len(names))
    left_out = [*((str(n), str(reason)) for n, reason in odd), *((names[row], skipped[row]) for row in sorted(skipped))]
    return Packed(
        names=[name for row, name in enumerate(names) if row not in skipped] if skipped else names,
        pixels=planes[0],
        inputs=planes[1] if len(planes) > 1 else None,
        rows=None if small else rows,
        skipped=left_out,
        notes=index["notes"],
        binary=index["binary"],
        digest=name,
    )


def _plane(file: Path, shape: tuple[int, ...], rows: Tensor | None, small: bool) -> Tensor:
    if small:
        whole = torch.from_numpy(np.fromfile(file, np.uint8)).view(shape)
        return whole if rows is None else whole[rows]
    size = int(np.prod(shape))
    return torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8).view(shape)  # private: copy on write
