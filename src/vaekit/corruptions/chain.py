"""Corruptions one after another, written as one text."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vaekit.config import Flag, flags, leaf, parse, replace
from vaekit.corruptions.table import CORRUPTIONS, Corruption, Shape
from vaekit.errors import InputError, unknown
from vaekit.noise import Noise

_OPTION = "corruptions"
_STRIDE = 0x632BE59BD9B4E019  # an odd number: parts of a chain draw with keys of their own


def strength_of(corruption: Corruption) -> Flag | None:
    """The first number among the fields of a corruption; None where there is none."""
    return next((flag for flag in flags(corruption) if flag.type in (int, float)), None)


def with_strength(name: str, strength: Any = None) -> Corruption:
    """The corruption called `name` with its first number set (None: its default).

    Raises:
        InputError: for a number of wrong type or range, or a corruption that takes none.
    """
    corruption: Corruption = CORRUPTIONS[name]()
    if strength is None:
        return corruption
    flag = strength_of(corruption)
    if flag is None:
        raise InputError(f"--{_OPTION}: {name!r} takes no number, but got {strength!r}; write {name} alone")
    named = dataclasses.replace(flag, path=(f"{_OPTION} {name}",))
    changed: Corruption = replace(corruption, flag.path, parse(named, strength))
    return changed


@functools.cache
def parse_chain(text: str) -> tuple[Corruption, ...]:
    """The corruptions of a text such as ``gaussian-blur:1.5,gaussian-noise:0.1``.

    >>> [type(part).__name__ for part in parse_chain("gaussian-blur:1.5, jpeg")]
    ['GaussianBlur', 'Jpeg']

    Raises:
        InputError: naming what is wrong, in one sentence.
    """
    parts = []
    known = [name for name in CORRUPTIONS if name != "chain"]
    for word in text.split(","):
        name, colon, number = (part.strip() for part in word.partition(":"))
        if not name:
            raise InputError(f"--{_OPTION}: {text!r} lacks a name; write it as gaussian-blur:1.5,gaussian-noise:0.1")
        if name == "chain":
            raise InputError(f"--{_OPTION}: {word.strip()!r} cannot be part of a chain; write out its parts instead")
        if name not in known:
            raise unknown(f"--{_OPTION}:", name, known)
        parts.append(with_strength(name, number if colon else None))
    return tuple(parts)


@CORRUPTIONS.register("chain")
@dataclass(frozen=True)
class Chain:
    """Several corruptions in turn, each with its strength."""

    corruptions: str = leaf(
        "gaussian-blur:1,gaussian-noise:0.1",
        "corruptions in their order, each with its strength after a colon, or alone",
    )

    @property
    def parts(self) -> tuple[Corruption, ...]:
        """The corruptions; raises `InputError` where the text is wrong."""
        return parse_chain(self.corruptions)

    def shape(self, shape: Shape) -> Shape:
        for part in self.parts:
            shape = part.shape(shape)
        return shape

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        for place, part in enumerate(self.parts):
            images = part(images, noise._replace(key=noise.key + place * _STRIDE))
        return images
