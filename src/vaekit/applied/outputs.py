"""Folders that images are written into under the names of others."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from vaekit.errors import InputError
from vaekit.files.listing import shown
from vaekit.runs import write_atomically

# that keep pixels exactly, by the endings that stand for them
_EXACT = {
    ".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".tga": "TGA",
    ".pgm": "PPM", ".ppm": "PPM", ".pnm": "PPM",
}  # fmt: skip


def exact_names(names: Sequence[str]) -> list[str]:
    """Names to write images under: their own where that format keeps pixels exactly, else with the ending ``.png``.

    Where two images would then have one name, the ``.png`` follows the whole name of each.

    >>> exact_names(["a/1.jpg", "a/2.TIF", "3.jpg", "3.png", "4"])
    ['a/1.png', 'a/2.TIF', '3.jpg.png', '3.png', '4.png']
    """
    exact = [PurePosixPath(name).suffix.lower() in _EXACT for name in names]
    plain = [name if keeps else _png(name) for name, keeps in zip(names, exact, strict=True)]
    counts = Counter(plain)
    found = [
        short if keeps or counts[short] == 1 else f"{name}.png"
        for name, short, keeps in zip(names, plain, exact, strict=True)
    ]
    for name, count in Counter(found).items():
        if count > 1:
            raise InputError(f"{count} images would be written as {shown(name)!r}; rename them")
    return found


def _png(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem if dot and '/' not in ending else name}.png"


class OutputFolder:
    """A folder that files are written into, one by one and atomically, and never outside of it.

    Nothing is made before the first file is written.

    Args:
        path: may be missing.
        flag: what it is called in messages.
        apart_from: a folder that it must not be, lie in or hold: that of the originals.

    Raises:
        InputError: when it is a file, a run, or not apart.
    """

    def __init__(self, path: str | os.PathLike[str], flag: str = "--out", apart_from: Path | None = None):
        self.path, self.flag = Path(path).expanduser(), flag
        named = f"{flag} {str(path)!r}"
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{named} is a file; choose a folder")
        if (self.path / "config.json").exists():
            raise InputError(f"{named} is a run folder; choose another")
        if apart_from is not None:
            here, there = self.path.resolve(), apart_from.resolve()
            if here == there or there in here.parents or here in there.parents:
                raise InputError(
                    f"{named} and the images' folder {str(apart_from)!r} lie in each other; choose another"
                )

    def place(self, name: str) -> Path:
        """The path of a file by its relative name.

        Raises:
            InputError: for a name that leads out of the folder, by itself or through a link.
        """
        parts = name.split("/")
        inside = all(part not in ("", ".", "..") and "\\" not in part and "\0" not in part for part in parts)
        found = self.path.joinpath(*parts)
        if not inside or not found.parent.resolve().is_relative_to(self.path.resolve()):
            raise InputError(
                f"{self.flag} {str(self.path)!r}: the name {shown(name)!r} leads out of it; rename the image"
            )
        return found

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file, and the folders above it.

        Raises:
            InputError: as `place`, and when it cannot be written.
        """
        path = self.place(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        except OSError as error:
            raise InputError(
                f"{self.flag} {str(self.path)!r}: {shown(name)} cannot be written ({error.strerror}); choose another place"
            ) from None
        return path

    def write_image(self, name: str, pixels: np.ndarray) -> Path:
        """Write uint8 pixels (height, width, 1 or 3) in the format of the name's ending, which keeps them exactly."""
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        buffer = io.BytesIO()
        image.save(buffer, _EXACT[PurePosixPath(name).suffix.lower()])
        return self.write(name, buffer.getvalue())
