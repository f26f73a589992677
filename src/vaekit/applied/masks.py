"""Which pixels of images are hidden: told by a box, by a picture, or by NaN in an array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaekit.data.images import Images
from vaekit.errors import InputError
from vaekit.files.decode import ENDINGS, Rule, UnreadableError, decode
from vaekit.trained import Own, Trained


def read_mask(given: str, trained: Trained) -> Tensor:
    """Hidden pixels, bool (1, 1, height, width), of all images alike, at the model's size.

    Args:
        given: ``x,y,width,height``, a box in pixels of the model's images, from the top left corner; or an image file,
            white where pixels are hidden, which is stretched to the model's size.
        trained: the model.

    Raises:
        InputError: for a box that lies outside, or a file that cannot be read.
    """
    _, height, width = trained.info.seen_shape
    path = Path(given).expanduser()
    if path.suffix.lower()[1:] in ENDINGS:
        try:
            pixels = decode(path.read_bytes(), Rule(height, width, 1, "stretch"))
        except OSError as error:
            raise InputError(f"--mask {given!r}: cannot be opened ({error.strerror}); check the path") from None
        except UnreadableError as problem:
            raise InputError(f"--mask {given!r}: cannot be read, it is {problem}; give another image") from None
        hidden = torch.from_numpy(pixels[..., 0] >= 128)
    else:
        hidden = _box(given, height, width)
    if not hidden.any():
        raise InputError(f"--mask {given!r}: hides no pixel; make some of it white")
    return hidden[None, None]


def _box(given: str, height: int, width: int) -> Tensor:
    words = given.split(",")
    if len(words) != 4 or not all(word.strip().isdecimal() for word in words):
        raise InputError(f"--mask {given!r}: is no box and no image file; write x,y,width,height, such as 4,4,8,8")
    left, top, across, down = map(int, words)
    if not (across and down and left + across <= width and top + down <= height):
        raise InputError(f"--mask {given!r}: the box does not lie within {width}x{height} pixels; give one that does")
    hidden = torch.zeros(height, width, dtype=torch.bool)
    hidden[top : top + down, left : left + across] = True
    return hidden


def read_holes(path: str, trained: Trained) -> tuple[Own, Tensor] | None:
    """Images of a ``.npy`` file of fractions with NaN at hidden pixels, and where these are; None for any other file.

    Hidden are the places (n, 1, height, width) or (n, channels, height, width) of a shape that fits; NaN reads as 0.

    Raises:
        InputError: for an array that is not of the model's images.
    """
    if Path(path).suffix.lower() != ".npy":
        return None
    try:
        array = np.load(Path(path).expanduser(), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # who reads it next says what is wrong
    if array.dtype.kind != "f" or not np.isnan(array).any():
        return None
    array = array[..., None] if array.ndim == 3 else array
    holes = np.isnan(array)
    images: Images = trained.pack(np.where(holes, 0.0, array), named=path)
    own = Own(images, [str(row) for row in range(len(images))], None)
    return own, torch.from_numpy(holes).permute(0, 3, 1, 2)
