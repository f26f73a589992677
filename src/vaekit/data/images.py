"""Images in memory: packed uint8 with labels, and the description of a data set that models are sized from."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.errors import InputError, unknown


@dataclass(frozen=True)
class Images:
    """A set of n images.

    Attributes:
        pixels: (n, height, width, channels), uint8 0 to 255, or float32 in [0, 1]; with `rows`, those of a larger set. Rows
            of a table of any numbers are images of height 1 (see `DataInfo.locations`).
        labels: int64 (n,), or None.
        attributes: float32 (n, k), NaN where unknown, or None.
        inputs: like `pixels`, perhaps of another size: what the encoder reads in place of the image itself; or None.
        rows: int64 (n,), where in `pixels` and `inputs` the images stand. Sets that are mapped from a file are selected
            from in this way, without a copy.
    """

    pixels: Tensor
    labels: Tensor | None = None
    attributes: Tensor | None = None
    inputs: Tensor | None = None
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels if self.rows is None else self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        height, width, channels = self.pixels.shape[1:]
        return (channels, height, width)

    def select(self, index: Tensor) -> Images:
        """The images at `index`, in that order."""
        labels, attributes = (_rows(part, index) for part in (self.labels, self.attributes))
        if self.rows is not None:
            return Images(self.pixels, labels, attributes, self.inputs, self.rows[index])
        return Images(self.pixels[index], labels, attributes, _rows(self.inputs, index))

    def spread(self, count: int | None) -> Images:
        """At most `count` images, evenly spread over all: own images lie in the order of their folders. None means all."""
        if count is None or count >= len(self):
            return self
        return self.select(torch.arange(count) * len(self) // count)

    def copied(self, index: Tensor | None = None) -> Images:
        """The images at `index` (None: all), with pixels of their own."""
        chosen = self if index is None else self.select(index)
        if chosen.rows is None:
            return chosen
        inputs = None if chosen.inputs is None else chosen.inputs.index_select(0, chosen.rows)
        return Images(chosen.pixels.index_select(0, chosen.rows), chosen.labels, chosen.attributes, inputs)

    def to(self, device: torch.device | str) -> Images:
        if torch.device(device) == self.pixels.device:
            return self
        own = self.copied()
        parts = (own.pixels, own.labels, own.attributes, own.inputs)
        return Images(*(None if part is None else part.to(device) for part in parts))  # type: ignore[arg-type]  # pixels are there

    def unit(self, index: Tensor | None = None) -> Tensor:
        """Float images (n, channels, height, width) in [0, 1], channels_last in memory."""
        return self._unit(self.pixels, index)

    def input_unit(self, index: Tensor | None = None) -> Tensor | None:
        """The same of `inputs`; None where the images are their own."""
        return None if self.inputs is None else self._unit(self.inputs, index)

    def condition(self, index: Tensor) -> Tensor | None:
        """What a conditional model reads of the images at `index`: labels, or where there are none, attributes."""
        given = self.attributes if self.labels is None else self.labels
        return None if given is None else given.index_select(0, index)

    def _unit(self, pixels: Tensor, index: Tensor | None) -> Tensor:
        if self.rows is not None:
            index = self.rows if index is None else self.rows.index_select(0, index)
        pixels = pixels if index is None else pixels.index_select(0, index)
        pixels = pixels.permute(0, 3, 1, 2)
        return pixels.to(torch.float32).mul_(1.0 / 255.0) if pixels.dtype == torch.uint8 else pixels


def _rows(part: Tensor | None, index: Tensor) -> Tensor | None:
    return None if part is None else part[index]


def checksum(*sets: Images | None) -> int:
    """A number from 0 to 2^32 - 1 that follows from all that sets of images hold."""
    value = 0
    for images in sets:
        own = None if images is None else images.copied()
        parts = () if own is None else (own.pixels, own.labels, own.attributes, own.inputs)
        for tensor in parts:
            value = value if tensor is None else zlib.crc32(tensor.contiguous().numpy().data, value)
    return value


@dataclass(frozen=True)
class DataInfo:
    """What a model must know of its data; it travels with the weights.

    Attributes:
        name: the set's name, or the path it was read from.
        shape: (channels, height, width).
        class_names: one for each label; empty without labels.
        binary: whether every pixel is 0 or 1, so that a Bernoulli likelihood is a probability.
        num_train: number of training images.
        checksum: of the training and validation images and what comes with them, so that a resumed run notices other data.
        whole: whether pixels are whole grey levels from 0 to 255, so that a likelihood of levels is a probability.
        input_shape: (channels, height, width) of what the encoder reads, where it differs from `shape`; else None.
        attribute_names: one for each column of the attributes; empty without.
        attribute_means: their means over the training images.
        attribute_scales: their standard deviations; 1 where one does not vary.
        locations: of a table, what was subtracted from each of its columns; empty for images.
        scales: by what the columns were divided then; pixels and densities are those of (value - location) / scale.
    """

    name: str
    shape: tuple[int, int, int]
    class_names: tuple[str, ...] = ()
    binary: bool = False
    num_train: int = 0
    checksum: int = 0
    whole: bool = True
    input_shape: tuple[int, int, int] | None = None
    attribute_names: tuple[str, ...] = ()
    attribute_means: tuple[float, ...] = ()
    attribute_scales: tuple[float, ...] = ()
    locations: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()

    @property
    def seen_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the encoder reads."""
        return self.input_shape or self.shape

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> DataInfo:
        """The inverse of `dataclasses.asdict` after a journey through JSON."""
        plain: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in stored.items()}
        return cls(**plain)


@dataclass(frozen=True)
class Splits:
    """Training, validation and test images; validation and test may be absent."""

    info: DataInfo
    train: Images
    val: Images | None
    test: Images | None

    def named(self, split: str) -> Images:
        """The split called train, val or test.

        Raises:
            InputError: when the data have no such split.
        """
        all_splits = {"train": self.train, "val": self.val, "test": self.test}
        if split not in all_splits:
            raise unknown("split", split, all_splits)
        images = all_splits[split]
        if images is None:
            raise InputError(f"split {split!r} is empty for {self.info.name!r}; choose another with --split")
        return images


def pack(array: np.ndarray, labels: np.ndarray | None, name: str, white: int | None = None) -> Images:
    """Checked `Images` from an array (n, height, width) or (n, height, width, channels).

    Whole numbers must lie in 0 to 255, fractions in 0 to 1. Of whole numbers `white` says which is white, 1 or 255; None
    takes 1 where all are 0 or 1.

    Raises:
        InputError: naming what is wrong and where.
    """
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or 0 in array.shape:
        raise InputError(
            f"{name}: shape {array.shape} is not (images, height, width) or (images, height, width, channels)"
        )
    if array.shape[1] <= 4 < min(array.shape[2:]):
        raise InputError(f"{name}: shape {array.shape} has {array.shape[3]} channels; give the channels last")
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind in "ui":
        if array.min() < 0 or array.max() > (white or 255):
            raise InputError(
                f"{name}: values from {array.min()} to {array.max()} are out of range; give 0 to {white or 255}"
            )
        # black and white as 0 and 1, as published binary sets have it, or grey values from 0 to 255
        white = white or (1 if array.max() == 1 else 255)
        array = array.astype(np.uint8) * np.uint8(255) if white == 1 else array.astype(np.uint8, copy=False)
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all():
            where = int(np.argwhere(~np.isfinite(array))[0][0])
            raise InputError(f"{name}: image {where} holds NaN or infinity; remove or repair it")
        if array.min() < 0 or array.max() > 1:
            raise InputError(
                f"{name}: values from {array.min():g} to {array.max():g} are out of range; scale them to 0 to 1, "
                "or give uint8"
            )
        array = array.astype(np.float32, copy=False)
    else:
        raise InputError(f"{name}: values of type {array.dtype} are not numbers; give uint8, or floats from 0 to 1")
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(array),):
            raise InputError(f"{name}: {len(array)} images but labels of shape {labels.shape}; give one label each")
        if labels.dtype.kind not in "ui":
            raise InputError(f"{name}: labels must be whole numbers from 0 up; got values of type {labels.dtype}")
        if labels.min() < 0:
            raise InputError(f"{name}: labels must be whole numbers from 0 up; got {labels.dtype} from {labels.min()}")
    classes = None if labels is None else torch.from_numpy(labels.astype(np.int64))
    return Images(torch.from_numpy(np.array(array, order="C")), classes)


def is_binary(images: Images) -> bool:
    """Whether every pixel is black or white."""
    top = 255 if images.pixels.dtype == torch.uint8 else 1.0
    pixels = images.copied().pixels
    return bool(((pixels == 0) | (pixels == top)).all())
