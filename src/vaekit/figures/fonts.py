"""Fonts for any name: DejaVu Sans, then whatever matplotlib finds on the machine that has the missing characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from matplotlib.font_manager import FontProperties, fontManager, get_font

MAIN = "DejaVu Sans"


@cache
def _characters(path: str) -> frozenset[int]:
    """Code points that a font file can draw; none where it cannot be read."""
    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _main_characters() -> frozenset[int]:
    return _characters(fontManager.findfont(FontProperties(family=MAIN)))


@cache
def _others() -> tuple[tuple[str, str], ...]:
    """Families and files of upright fonts of ordinary weight, in a fixed order; not those that draw boxes for all."""
    fonts = {
        (entry.name, entry.fname)
        for entry in fontManager.ttflist
        if entry.style == "normal" and entry.weight in (400, "normal", "regular") and "Last Resort" not in entry.name
    }
    # families made for many scripts first, so that one font serves all of a name
    return tuple(sorted(fonts, key=lambda font: (not font[0].startswith(("Noto Sans", "Unifont")), *font)))


def _missing(text: str) -> set[int]:
    return {ord(letter) for letter in text if not letter.isspace()} - _main_characters()


def families(texts: Iterable[str]) -> list[str]:
    """Font families that together draw as much of some texts as this machine can, the usual one first."""
    left = set().union(*map(_missing, texts))
    found = [MAIN]
    for family, path in _others():
        if not left:
            break
        if left & (here := _characters(path)) and Path(path).suffix.lower() != ".afm":
            found.append(family)
            left -= here
    return found


def drawable(names: Sequence[str]) -> tuple[str, ...]:
    """The names, those that no font can draw replaced by ``class`` and their number.

    >>> drawable(["cat", "\\U000e0001\\U0010fffd"])
    ('cat', 'class 1')
    """
    have = (
        _main_characters().union(*(_characters(path) for _, path in _others())) if any(map(_missing, names)) else None
    )
    return tuple(
        name if have is None or _missing(name) <= have else f"class {number}" for number, name in enumerate(names)
    )
