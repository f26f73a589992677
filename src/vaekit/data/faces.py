"""Faces of Labeled Faces in the Wild, in small."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vaekit.data.loaded import SOURCES, Loaded
from vaekit.data.sizing import Opening
from vaekit.errors import InputError

ARCHIVE = "lfw-deepfunneled-64.tar"
SHA256 = "eee9901b295f3667d0afb774383e96c8c449f883bc084c82698f111cdd21f8d2"


@SOURCES.register("faces")
@dataclass(frozen=True)
class Faces:
    """Labeled Faces in the Wild (Huang et al. 2007), deep-funneled: 13,233 faces of 5,749 people, 64x64 in colour.

    The middle 128x128 pixels of each picture, at half size. There are no labels and no official split; images of one
    person stay together when some are held out. The pictures are for research only, so there is no download.
    """

    def load(self, folder: Path | None, opening: Opening) -> Loaded:
        from vaekit.data.folders import load_folder

        path = None if folder is None else folder / "faces" / ARCHIVE
        if path is None or not path.is_file():
            where = "DIR/faces" if folder is None else folder / "faces"
            raise InputError(
                f"faces: {ARCHIVE} is not in {where}, and it may not be passed on, so it cannot be downloaded; "
                "put the file there and give --data-dir DIR"
            )
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != SHA256:
            raise InputError(f"{path}: checksum {found[:16]}... is not the known {SHA256[:16]}...; get the file again")
        loaded = load_folder(path, opening)
        people = loaded.groups
        if people is None or loaded.test is not None or loaded.val is not None:
            raise InputError(f"{path}: images do not lie in folders named after people; get the file again")
        train = replace(loaded.train, labels=None)
        return replace(loaded, train=train, class_names=(), groups=people.to(torch.int64), grouped=True)
