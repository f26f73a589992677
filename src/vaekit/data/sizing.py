"""How own images of many kinds and sizes become images of one shape: the settings, and what they are asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from vaekit.config import leaf


@dataclass(frozen=True)
class Sizing:
    """The shape that images of a folder or an archive are brought to."""

    image_size: int | None = leaf(
        None,
        "side of the images in pixels (none: as they are, if all have one size of at most 128; else 64)",
        ge=1,
        le=4096,
    )
    input_size: int | None = leaf(
        None, "with --target: side of the images to restore, where it differs from that of the targets", ge=1, le=4096
    )
    resize: Literal["crop", "pad", "stretch"] = leaf(
        "crop",
        "how images that are not square become so: crop (the middle), pad (with black) or stretch",
    )
    colour: Literal["auto", "grey", "rgb"] = leaf("auto", "auto (grey where all images are), grey or rgb")


class LiveLine:
    """Progress on a terminal's standard error: one line that is rewritten, from a second after the start, then wiped."""

    def __init__(self) -> None:
        self._what = ""
        self._started = self._shown = 0.0
        self._first = 0.0

    def __call__(self, what: str, fraction: float) -> None:
        """Show that `what` is done to this fraction."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._started, self._first = what, now, fraction
        if now - self._started < 1.0 or not sys.stderr.isatty():
            return
        if fraction >= 1.0:
            sys.stderr.write("\r\033[K")
            self._what = ""
        elif now - self._shown > 0.1:
            self._shown = now
            done = fraction - self._first
            seconds = round((now - self._started) * (1.0 - fraction) / done) if done > 0 else None
            left = "" if seconds is None else f"  {seconds // 60}:{seconds % 60:02} left"
            sys.stderr.write(f"\r\033[K{what}  {fraction:4.0%}{left}")
        sys.stderr.flush()


def _tell(note: str) -> None:
    print(f"vaekit: note: {note}", file=sys.stderr)


@dataclass(frozen=True)
class Opening:
    """What a source is opened with.

    Attributes:
        sizing: the shape to bring images to.
        progress: is told what is being done and the fraction done; by default a line on a terminal shows it.
        note: is told what people should know of images that were read, such as which were left out; by default a line on
            standard error.
    """

    sizing: Sizing = field(default_factory=Sizing)
    progress: Callable[[str, float], None] = field(default_factory=LiveLine)
    note: Callable[[str], None] = _tell
