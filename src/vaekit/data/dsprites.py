"""dSprites, generated: every image of the published set from its factors, with no download.

The published file (Matthey, Higgins, Hassabis and Lerchner 2017, https://github.com/google-deepmind/dsprites-dataset) holds
renderings; the geometry here was fitted to the authors' animation of it, of whose 320 frames at least 300 come out to the
bit.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from vaekit.cache import VARIABLE, cache_folder
from vaekit.data.images import Images
from vaekit.data.loaded import SOURCES, Loaded
from vaekit.data.resizing import resized
from vaekit.data.sizing import Opening
from vaekit.errors import InputError

SIDE = 64
SHAPES = ("square", "ellipse", "heart")
SCALES = np.linspace(0.5, 1.0, 6)
ORIENTATIONS = np.linspace(0.0, 2.0 * np.pi, 40)  # the first and the last coincide
POSITIONS = np.linspace(0.0, 1.0, 32)
SIZES = (len(SHAPES), len(SCALES), len(ORIENTATIONS), len(POSITIONS), len(POSITIONS))
NUM_IMAGES = int(np.prod(SIZES))
_TOGETHER = SIZES[3] * SIZES[4]  # images that differ in their position alone
_REACH = 15.0  # pixels from a sprite's centre, beyond which there is nothing of it
_HALF_SQUARE, _ELLIPSE, _HEART = 9.6, (12.77, 7.21), 9.6
_FINGERPRINT = 0xD5B217E5
_FILE = "images-1.u8"


@dataclass(frozen=True)
class _Heart:
    """A polygon that is star-shaped around the origin: angles of its corners, in order, and the lines between them."""

    angles: np.ndarray
    normals: np.ndarray
    offsets: np.ndarray

    def holds(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Which points lie inside."""
        edge = np.searchsorted(self.angles, np.arctan2(v, u)) % len(self.angles)
        inside: np.ndarray = self.normals[edge, 0] * u + self.normals[edge, 1] * v <= self.offsets[edge]
        return inside


@cache
def _heart() -> _Heart:
    t = np.linspace(0.0, 2.0 * np.pi, 129)[:-1]
    x = _HEART * np.sin(t) ** 3
    y = -(2.0 * _HEART / 29.0 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) + 1.44)
    order = np.argsort(np.arctan2(y, x))
    corners = np.stack([x, y], 1)[order]
    before = np.roll(corners, 1, axis=0)
    along = corners - before
    normals = np.stack([along[:, 1], -along[:, 0]], 1)  # outwards, as angles grow
    return _Heart(np.arctan2(corners[:, 1], corners[:, 0]), normals, (normals * corners).sum(1))


def sprites(shape: int, scale: int, orientation: int) -> np.ndarray:
    """The images of one shape, scale and orientation at every place: uint8 0 or 255, (32 x, 32 y, 64, 64).

    A pixel is white when its middle lies inside the sprite.
    """
    turn, size = ORIENTATIONS[orientation], SCALES[scale]
    middles = np.arange(SIDE) + 0.5
    offsets = middles[None, :] - (16.0 + 32.0 * POSITIONS)[:, None]  # (positions, pixels)
    images = np.zeros((len(POSITIONS), len(POSITIONS), SIDE, SIDE), np.uint8)
    near = np.abs(offsets) <= _REACH
    # only pixels near the sprite, on both axes
    x, column = np.nonzero(near)
    y, row = np.nonzero(near)
    dx, dy = offsets[x, column][:, None], offsets[y, row][None, :]
    u = (dx * np.cos(turn) - dy * np.sin(turn)) / size
    v = (dx * np.sin(turn) + dy * np.cos(turn)) / size
    if SHAPES[shape] == "square":
        inside = (np.abs(u) <= _HALF_SQUARE) & (np.abs(v) <= _HALF_SQUARE)
    elif SHAPES[shape] == "ellipse":
        inside = (u / _ELLIPSE[0]) ** 2 + (v / _ELLIPSE[1]) ** 2 <= 1.0
    else:
        inside = _heart().holds(u, v)
    images[x[:, None], y[None, :], row[None, :], column[:, None]] = inside * np.uint8(255)
    return images


def factors(index: np.ndarray) -> np.ndarray:
    """Numbers of shape, scale, orientation, x and y, (n, 5), of the images at `index` in the published order."""
    return np.stack(np.unravel_index(index, SIZES), -1)


def render(chosen: np.ndarray) -> np.ndarray:
    """Images uint8 0 or 255, (n, 64, 64), of factors (n, 5): drawn when they are asked for.

    >>> render(np.array([[2, 5, 0, 16, 16]])).shape
    (1, 64, 64)
    """
    found = np.empty((len(chosen), SIDE, SIDE), np.uint8)
    groups, place = np.unique(chosen[:, :3], axis=0, return_inverse=True)
    for number, (shape, scale, orientation) in enumerate(groups):
        rows = np.nonzero(place.reshape(-1) == number)[0]
        found[rows] = sprites(shape, scale, orientation)[chosen[rows, 3], chosen[rows, 4]]
    return found


@SOURCES.register("dsprites")
@dataclass(frozen=True)
class DSprites:
    """dSprites (Matthey et al. 2017): all 737,280 black and white images of 64x64, generated from five factors.

    Labels are the three shapes, attributes scale, orientation, x and y. Drawn once, in about a minute, into 3 GB of the
    cache and mapped from there. No official split.
    """

    def load(self, folder: Path | None, opening: Opening) -> Loaded:
        file = _file(opening.progress)
        pixels = torch.from_file(str(file), shared=False, size=NUM_IMAGES * SIDE * SIDE, dtype=torch.uint8)
        chosen = factors(np.arange(NUM_IMAGES))
        values = np.stack(
            [SCALES[chosen[:, 1]], ORIENTATIONS[chosen[:, 2]], POSITIONS[chosen[:, 3]], POSITIONS[chosen[:, 4]]], 1
        )
        images = Images(
            pixels.view(NUM_IMAGES, SIDE, SIDE, 1),
            torch.from_numpy(chosen[:, 0].astype(np.int64)),
            torch.from_numpy(values.astype(np.float32)),
            rows=torch.arange(NUM_IMAGES),
        )
        loaded = Loaded(
            images,
            None,
            SHAPES,
            ("scale", "orientation", "x", "y"),
            fingerprint=_FINGERPRINT,
            binary=True,
            ordered=True,
        )
        return resized(loaded, opening.sizing)


def _file(progress: Callable[[str, float], None]) -> Path:
    """The whole set on disk, drawn if it is not there."""
    folder = cache_folder() / "dsprites"
    file = folder / _FILE
    size = NUM_IMAGES * SIDE * SIDE
    if file.exists() and file.stat().st_size == size:
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < size:
            raise InputError(
                f"dsprites: {str(folder)!r} has less than the {size / 2**30:.1f} GiB free that its images take; free some "
                f"space, or set {VARIABLE} to another disk"
            )
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{_FILE}.")
        try:
            with os.fdopen(handle, "wb") as out:
                count = NUM_IMAGES // _TOGETHER
                for group in range(count):
                    shape, scale, orientation = np.unravel_index(group, SIZES[:3])
                    out.write(sprites(int(shape), int(scale), int(orientation)).tobytes())
                    progress("drawing dSprites", (group + 1) / count)
            os.replace(temporary, file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            f"dsprites: {str(folder)!r} cannot be written ({error.strerror}); set {VARIABLE} to another folder"
        ) from None
    return file
