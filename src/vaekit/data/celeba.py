"""CelebA: faces of celebrities with forty attributes, from local files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vaekit.data.images import Images
from vaekit.data.loaded import SOURCES, Loaded
from vaekit.data.sizing import Opening
from vaekit.errors import InputError

FOLDER, ARCHIVE = "img_align_celeba", "img_align_celeba.zip"
ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
CENTRE, SIDE = 148, 64
_WHERE = "get it from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


@SOURCES.register("celeba")
@dataclass(frozen=True)
class CelebA:
    """CelebA (Liu et al. 2015): 202,599 aligned faces with forty attributes, official training, validation and test.

    The middle 148x148 of each 178x218 picture is cut out and scaled, to 64x64 unless ``--image-size`` says otherwise:
    the protocol of most published results on this set. The forty attributes are 0 or 1.

    Read from ``DIR/celeba``: the folder ``img_align_celeba`` or ``img_align_celeba.zip``, ``list_attr_celeba.txt`` and
    ``list_eval_partition.txt``. The pictures are for research only, so there is no download.
    """

    def load(self, folder: Path | None, opening: Opening) -> Loaded:
        from vaekit.data.folders import load_folder

        where = Path("DIR/celeba") if folder is None else folder / "celeba"
        pictures = where / FOLDER if (where / FOLDER).is_dir() else where / ARCHIVE
        for needed in (pictures, where / ATTRIBUTES, where / PARTITION):
            if folder is None or not needed.exists():
                raise InputError(f"celeba: {needed} does not exist; {_WHERE}, and give --data-dir DIR")
        names, attributes = read_attributes(where / ATTRIBUTES)
        parts = read_partition(where / PARTITION)
        sizing = opening.sizing
        if sizing.image_size is None:
            sizing = replace(sizing, image_size=SIDE)
        if sizing.colour == "auto":
            sizing = replace(sizing, colour="rgb")
        loaded = load_folder(pictures, replace(opening, sizing=sizing), centre=CENTRE)
        files = [name.rpartition("/")[2] for name in loaded.names]
        for file in files:
            for listed, source in ((attributes, ATTRIBUTES), (parts, PARTITION)):
                if file not in listed:
                    raise InputError(f"celeba: {pictures} holds {file}, which {source} does not name; {_WHERE} again")
        values = torch.from_numpy(np.stack([attributes[file] for file in files]).astype(np.float32))
        everything = replace(loaded.train, labels=None, attributes=values)
        belongs = torch.tensor([parts[file] for file in files])
        train, val, test = ((belongs == part).nonzero()[:, 0] for part in range(3))
        if len(train) == 0:
            raise InputError(f"celeba: {pictures} holds no training image; {_WHERE} again")

        def chosen(rows: torch.Tensor) -> Images | None:
            return everything.select(rows) if len(rows) else None

        return replace(
            loaded,
            train=everything.select(train),
            val=chosen(val),
            test=chosen(test),
            class_names=(),
            attribute_names=names,
            groups=None,
            names=[loaded.names[row] for row in train.tolist()],
        )


def read_attributes(path: Path) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Names of the attributes, and uint8 (attributes,) of 0 and 1 for each file.

    The file holds a count, a line of names, then for each picture its file and -1 or 1 for every name.

    Raises:
        InputError: naming the line that is not so.
    """
    lines = _lines(path)
    names = tuple(lines[1].split()) if len(lines) > 1 else ()
    found = {}
    for number, line in enumerate(lines[2:], 3):
        file, *values = line.split() or [""]
        if len(values) != len(names) or not names or not set(values) <= {"-1", "1"}:
            raise InputError(f"{path}: line {number} is not a file and {len(names)} values -1 or 1; get the file again")
        found[file] = np.array([value == "1" for value in values], np.uint8)
    return names, found


def read_partition(path: Path) -> dict[str, int]:
    """For each file 0 (training), 1 (validation) or 2 (test).

    Raises:
        InputError: naming the line that is not so.
    """
    found = {}
    for number, line in enumerate(_lines(path), 1):
        file, *values = line.split() or [""]
        if len(values) != 1 or values[0] not in ("0", "1", "2"):
            raise InputError(f"{path}: line {number} is not a file and 0, 1 or 2; get the file again")
        found[file] = int(values[0])
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check that it is there and readable") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a text; get the file again") from None
