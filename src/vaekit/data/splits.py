"""Held-out images: official splits where they exist, else taken from the training images, group by group if need be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vaekit.data.batches import Data
from vaekit.data.images import DataInfo, Images, Splits, checksum, is_binary
from vaekit.data.loaded import Loaded
from vaekit.data.sizing import Opening
from vaekit.data.sources import is_array, is_path, load
from vaekit.errors import InputError
from vaekit.noise import seed_key

DEFAULT_VALIDATION = 5000
_SPLIT_SEED = 20131220  # one fixed split for every run, whatever its seed: runs stay comparable


def _divide(images: Images, groups: Tensor | None, held_out: int) -> tuple[Images, Tensor | None, Images | None]:
    """Training images, their groups, and about `held_out` others; images of one group stay together."""
    if held_out == 0:
        return images, groups, None
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    if groups is None:
        order = torch.randperm(len(images), generator=generator)
        taken = order[:held_out]
    else:
        names, sizes = groups.unique(return_counts=True)
        order = torch.randperm(len(names), generator=generator)
        before = sizes[order].cumsum(0) - sizes[order]
        chosen = torch.zeros(int(names.max()) + 1, dtype=torch.bool)
        chosen[names[order[before < held_out]]] = True
        taken = chosen[groups].nonzero()[:, 0]
    kept = torch.ones(len(images), dtype=torch.bool)
    kept[taken] = False
    rest = kept.nonzero()[:, 0]
    return images.select(rest), None if groups is None else groups[rest], images.select(taken.sort().values)


def load_splits(data: Data | str, folder: Path | None, opening: Opening | None = None) -> Splits:
    """The splits of a data set.

    Without an official test split about a tenth of the images is held out for testing.

    Args:
        data: its settings: name or path, number of training images held out for validation (None means 5,000, or a
            tenth if that is less) and how many of the rest to use; or the name alone.
        folder: where local data sets lie.
        opening: progress of reading images; its sizing is that of `data`.

    Raises:
        InputError: when too few images are left to train on.
    """
    data = Data(data=data) if isinstance(data, str) else data
    opening = replace(opening or Opening(), sizing=data.sizing)
    return split(data, open_data(data, folder, opening))


def split(data: Data, loaded: Loaded) -> Splits:
    """The splits of a data set that has been read; see `load_splits`."""
    name, train, test, val = data.data, loaded.train, loaded.test, loaded.val
    groups = _groups(data, loaded)
    if test is None:
        train, groups, test = _divide(train, groups, len(train) // 10)
        if len(train) == 0:
            raise InputError(
                f"--group-by {data.group_by}: all {len(test or ())} images of {name!r} are of one group, which would be "
                "the test images; choose none"
            )
    if val is None:
        held_out = data.validation
        if held_out is None:
            held_out = min(DEFAULT_VALIDATION, len(train) // 10)
        if held_out >= len(train):
            raise InputError(
                f"--validation: {held_out} leaves none of the {len(train)} images of {name!r} to train on; give fewer"
            )
        train, groups, val = _divide(train, groups, held_out)
        if len(train) == 0:
            raise InputError(
                f"--validation: {held_out} images in whole groups leave none of {name!r} to train on; give fewer"
            )
    elif data.validation == 0:
        val = None
    if data.train_limit is not None:
        train = train.select(_some(len(train), data.train_limit, ordered=loaded.ordered or bool(loaded.names)))
    return Splits(_describe(data, loaded, train, val, test), train, val, test)


def _some(count: int, limit: int, ordered: bool) -> Tensor:
    """Positions of at most `limit` of `count` images: the first, or where their order means something, any."""
    if not ordered or limit >= count:
        return torch.arange(min(limit, count))
    # by name, say, the first images are all of the first class, or the first person
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    return torch.randperm(count, generator=generator)[:limit].sort().values


def open_data(data: Data, folder: Path | None, opening: Opening) -> Loaded:
    """The images that settings name, undivided."""
    if data.target is not None:
        loaded = _open_pairs(data.data, data.target, opening)
    elif data.sizing.input_size is not None:
        raise InputError(f"--input-size {data.sizing.input_size}: goes with pairs; add --target, or leave it out")
    else:
        loaded = load(data.data, folder, opening)
    for note in loaded.notes:
        opening.note(f"{data.data}: {note}")
    return loaded


def _open_pairs(noisy: str, clean: str, opening: Opening) -> Loaded:
    from vaekit.data.folders import load_pairs  # imported late: it builds on this module

    for name in (noisy, clean):
        if is_array(name) or not is_path(name):
            raise InputError(f"--target {clean!r}: {name!r} is no folder and no archive of images; pairs are of these")
    return load_pairs(Path(noisy).expanduser(), Path(clean).expanduser(), opening)


def _groups(data: Data, loaded: Loaded) -> Tensor | None:
    if data.group_by == "none" or (data.group_by == "auto" and not loaded.grouped):
        return None
    if loaded.groups is None:
        raise InputError(f"--group-by folder: images of {data.data!r} lie in no folders; choose auto or none")
    return loaded.groups


def _describe(data: Data, loaded: Loaded, train: Images, val: Images | None, test: Images | None) -> DataInfo:
    if loaded.fingerprint is None:
        sum_of_both = checksum(train, val)
    else:
        settings = [len(train), 0 if val is None else len(val), len(test or ()), data.group_by]
        sum_of_both = seed_key(loaded.fingerprint, *settings) & 0xFFFFFFFF
    binary = loaded.binary
    if binary is None:
        binary = all(is_binary(part) for part in (train, val, test) if part is not None)
    seen = train.shape
    if train.inputs is not None:
        height, width, channels = train.inputs.shape[1:]
        seen = (channels, height, width)
    seen = data.corruption.shape(seen)
    means, scales = _moments(train.attributes)
    return DataInfo(
        name=data.data,
        shape=train.shape,
        class_names=loaded.class_names,
        binary=binary,
        num_train=len(train),
        checksum=sum_of_both,
        whole=train.pixels.dtype == torch.uint8,
        input_shape=None if seen == train.shape else seen,
        attribute_names=loaded.attribute_names,
        attribute_means=means,
        attribute_scales=scales,
    )


def _moments(attributes: Tensor | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard deviations of the columns, over what is known."""
    if attributes is None:
        return (), ()
    values = attributes.double()
    known = ~values.isnan()
    count = known.sum(0).clamp(min=1)
    means = values.nan_to_num().sum(0) / count
    scales = (torch.where(known, values - means, 0.0).square().sum(0) / count).sqrt()
    return tuple(means.tolist()), tuple(torch.where(scales > 0, scales, 1.0).tolist())
