"""The table of data sets, and the contract of an entry and of what it loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from vaekit.data.images import Images
from vaekit.data.sizing import Opening
from vaekit.tables import Table

SOURCES = Table("data set", "vaekit.data")


@dataclass(frozen=True)
class Loaded:
    """A data set as published.

    Attributes:
        train: images to train on, and to hold others out of.
        test: official test images, where there are any.
        class_names: one for each label.
        attribute_names: one for each column of the attributes.
        val: official validation images, where there are any.
        groups: int64 (n,) for the training images: what each belongs to, such as the person on it; or None.
        grouped: whether a split should keep a group together unless told otherwise.
        fingerprint: stands for everything that was read, where that is known without reading it again.
        binary: whether every pixel is black or white, where that is known without looking at them all.
        names: of the training images, where they come from files.
        ordered: whether images come in an order that means something, so that the first of them are not like the others;
            those of files always do.
        notes: sentences on what was done to them or left out, for people.
    """

    train: Images
    test: Images | None
    class_names: tuple[str, ...] = ()
    attribute_names: tuple[str, ...] = ()
    val: Images | None = None
    groups: Tensor | None = None
    grouped: bool = False
    fingerprint: int | None = None
    binary: bool | None = None
    names: Sequence[str] = ()
    ordered: bool = False
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """An entry: reads the set from `folder`, which holds data sets under their names, or from elsewhere."""

    def load(self, folder: Path | None, opening: Opening) -> Loaded: ...
