"""What the rows of an array stand for: images as they are, flattened images, or rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data.images import DataInfo, Images, pack
from vaekit.errors import InputError


@dataclass(frozen=True)
class Scaling:
    """How the columns of a table are scaled: (value - location) / scale. Empty where pixels are taken as they are."""

    locations: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()

    @classmethod
    def standard(cls, array: np.ndarray) -> Scaling:
        """By mean and standard deviation of each column of a table (n, features); a constant one is only shifted."""
        values = array.astype(np.float64)
        return cls._of(values.mean(0), values.std(0))

    @classmethod
    def range(cls, array: np.ndarray) -> Scaling:
        """By smallest and largest value of each column, so that the table lies in [0, 1]."""
        values = array.astype(np.float64)
        low = values.min(0)
        return cls._of(low, values.max(0) - low)

    @classmethod
    def _of(cls, locations: np.ndarray, scales: np.ndarray) -> Scaling:
        # the deviation of equal values is rounding alone
        varies = scales > 1e-12 * np.abs(locations)
        return cls(tuple(locations.tolist()), tuple(np.where(varies, scales, 1.0).tolist()))

    @classmethod
    def of(cls, info: DataInfo) -> Scaling:
        return cls(info.locations, info.scales)

    @property
    def log_volume(self) -> float:
        """Logarithm of how much larger a volume is in the table's own units, nats: what its log-density is lower by."""
        return float(np.log(self.scales).sum()) if self.scales else 0.0


@dataclass(frozen=True)
class Layout:
    """How one sample of an array is an image.

    Attributes:
        event: its shape in the array: (features,), (height, width) or (height, width, channels).
        size: (height, width, channels) of the image; (1, features, 1) for the row of a table.
        white: what white is among whole numbers, 1 or 255.
        table: whether it is the row of a table.
    """

    event: tuple[int, ...]
    size: tuple[int, int, int]
    white: int
    table: bool

    @classmethod
    def of(cls, array: np.ndarray, image_shape: tuple[int, ...] | None) -> Layout:
        """The layout of an array (n, ...) that an estimator is fitted to.

        Raises:
            InputError: for an image shape that does not go with the array.
        """
        event = array.shape[1:]
        whole = array.dtype.kind in "bui"
        if image_shape is None:
            table = len(event) == 1
            binary = table and is_binary(array)
            size = (1, event[0], 1) if table else (*event, *[1] * (3 - len(event)))
            white = 1 if binary or (whole and array.max() <= 1) else 255
            return cls(event, size, white, table)  # type: ignore[arg-type]  # three numbers
        shape = tuple(image_shape) if isinstance(image_shape, (tuple, list)) else ()
        if len(shape) not in (2, 3) or not all(isinstance(side, (int, np.integer)) and side > 0 for side in shape):
            raise InputError(f"image_shape: {image_shape!r} is not (height, width) or (height, width, channels)")
        if len(event) > 1:
            raise InputError(
                f"image_shape: {image_shape!r} is for flattened images, and X has shape {array.shape}; leave it out"
            )
        if int(np.prod(shape)) != event[0]:
            raise InputError(
                f"image_shape: {image_shape!r} makes {int(np.prod(shape))} pixels and X has {event[0]} columns"
            )
        size = tuple(int(side) for side in (*shape, *[1] * (3 - len(shape))))
        return cls(event, size, 1 if whole and array.max() <= 1 else 255, False)  # type: ignore[arg-type]

    def images(self, array: np.ndarray, scaling: Scaling) -> Images:
        """The samples (n, *event) as images.

        Raises:
            InputError: for another shape, or pixels that are out of range.
        """
        if array.shape[1:] != self.event:
            raise InputError(f"X: samples of shape {array.shape[1:]} are not of the shape {self.event} that was fitted")
        if scaling.scales:
            values = (array.astype(np.float64) - np.array(scaling.locations)) / np.array(scaling.scales)
            limit = np.finfo(np.float32).max
            return Images(torch.from_numpy(np.clip(values, -limit, limit).astype(np.float32)[:, None, :, None]))
        return pack(array.reshape(len(array), *self.size), None, "X", self.white)

    def array(self, images: Tensor, scaling: Scaling) -> np.ndarray:
        """Samples (n, *event) of images (n, channels, height, width), in the units of the array that was fitted."""
        values = images.permute(0, 2, 3, 1).reshape(len(images), *self.event).numpy()
        if not scaling.scales:
            return values
        return values.astype(np.float64) * np.array(scaling.scales) + np.array(scaling.locations)


def is_binary(array: np.ndarray) -> bool:
    """Whether every value is 0 or 1."""
    return bool(((array == 0) | (array == 1)).all())


def axes(given: Any) -> int:
    """The number of axes of an array, frame, list, or whatever becomes an array."""
    found = getattr(given, "ndim", None)
    return np.asarray(given).ndim if found is None else int(found)
