"""Held-out images: official test images where they exist, validation images always taken from the training images."""

from __future__ import annotations

from pathlib import Path

import torch

from vaekit.data.batches import Data
from vaekit.data.images import DataInfo, Images, Splits, checksum, is_binary
from vaekit.data.sources import load
from vaekit.errors import InputError

DEFAULT_VALIDATION = 5000
_SPLIT_SEED = 20131220  # one fixed split for every run, whatever its seed: runs stay comparable


def _divide(images: Images, held_out: int) -> tuple[Images, Images | None]:
    if held_out == 0:
        return images, None
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    kept, taken = order[held_out:].sort().values, order[:held_out].sort().values
    return images.select(kept), images.select(taken)


def load_splits(data: Data | str, folder: Path | None) -> Splits:
    """The splits of a data set.

    Without an official test split a tenth of the images is held out for testing.

    Args:
        data: its settings: name or path, number of training images held out for validation (None means 5,000, or a
            tenth if that is less) and how many of the rest to use; or the name alone.
        folder: where local data sets lie.

    Raises:
        InputError: when too few images are left to train on.
    """
    data = Data(data=data) if isinstance(data, str) else data
    name, validation, train_limit = data.data, data.validation, data.train_limit
    loaded = load(name, folder)
    train, test = loaded.train, loaded.test
    if test is None:
        train, test = _divide(train, len(train) // 10)
    if validation is None:
        validation = min(DEFAULT_VALIDATION, len(train) // 10)
    if validation >= len(train):
        raise InputError(f"--validation: {validation} leaves none of the {len(train)} images of {name!r} to train on")
    train, val = _divide(train, validation)
    if train_limit is not None:
        train = train.select(torch.arange(min(train_limit, len(train))))
    height, width, channels = train.pixels.shape[1:]
    shape, sum_of_both = (channels, height, width), checksum(train, val)
    binary = all(is_binary(part) for part in (train, val, test) if part is not None)
    info = DataInfo(name, shape, loaded.class_names, binary, len(train), sum_of_both)
    return Splits(info, train, val, test)
