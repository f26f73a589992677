"""Attributes of images as arrays: numbers in columns, each with a name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from vaekit.data.images import Images
from vaekit.errors import InputError


def described(images: Images, attributes: np.ndarray | None, name: str) -> Images:
    """The images with attributes (n, k), or (n,) for one, NaN where unknown.

    Args:
        images: n images.
        attributes: their attributes; None leaves the images as they are.
        name: of the file, for messages.

    Raises:
        InputError: for another shape, or values that are not finite numbers.
    """
    if attributes is None:
        return images
    values = attributes[:, None] if attributes.ndim == 1 else attributes
    if values.ndim != 2 or len(values) != len(images) or values.shape[1] == 0:
        raise InputError(f"{name}: {len(images)} images but attributes of shape {attributes.shape}; give a row each")
    if values.dtype.kind not in "buif":
        raise InputError(f"{name}: attributes must be numbers; got values of type {values.dtype}")
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if np.isinf(numbers).any():
        row, column = np.argwhere(np.isinf(numbers))[0]
        raise InputError(f"{name}: attribute {column} of image {row} is infinite; give NaN where it is unknown")
    return replace(images, attributes=torch.from_numpy(numbers))


def attribute_names(images: Images, names: np.ndarray | None, name: str) -> tuple[str, ...]:
    """One name for each column of the attributes: those given, or attribute-0, attribute-1, ...

    Raises:
        InputError: for names that are too many, too few, equal, or cannot be written in ``--attributes NAME=VALUE,...``.
    """
    columns = 0 if images.attributes is None else images.attributes.shape[1]
    if names is None:
        return tuple(f"attribute-{column}" for column in range(columns))
    words = tuple(str(word).strip() for word in names.ravel())
    if len(words) != columns:
        raise InputError(f"{name}: {len(words)} attribute_names for {columns} attributes; give one each")
    for place, word in enumerate(words):
        if not word or set("=,") & set(word):
            raise InputError(f"{name}: attribute name {word!r} is empty or holds a comma or equals sign; change it")
        if word in words[:place]:
            raise InputError(f"{name}: attribute name {word!r} stands twice; change one")
    return words
