"""How own images of many kinds and sizes become images of one shape: the settings, and what they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from vaekit.config import leaf


@dataclass(frozen=True)
class Sizing:
    """The shape that images of a folder or an archive are brought to."""

    image_size: int | None = leaf(
        None, "side of the images in pixels (none: their own where all share one up to 128, else 64)", ge=1, le=4096
    )
    input_size: int | None = leaf(
        None, "with --target: side of the images to restore, where it differs from that of the targets", ge=1, le=4096
    )
    resize: Literal["crop", "pad", "stretch"] = leaf(
        "crop",
        "how images that are not square become so: crop (the middle), pad (with black) or stretch",
    )
    colour: Literal["auto", "grey", "rgb"] = leaf("auto", "auto (grey where all images are), grey or rgb")


@dataclass(frozen=True)
class Opening:
    """What a source is opened with.

    Attributes:
        sizing: the shape to bring images to.
        progress: is told what is being done and the fraction done.
    """

    sizing: Sizing = field(default_factory=Sizing)
    progress: Callable[[str, float], None] = lambda what, fraction: None
