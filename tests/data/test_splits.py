"""Held-out images: disjoint, fixed, official where they exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vaekit.data.batches import Data
from vaekit.data.images import Splits
from vaekit.data.sources import load
from vaekit.data.splits import load_splits
from vaekit.errors import InputError


def numbered(path: Path, count: int = 40, test: int = 0) -> str:
    """A file of images that each hold their own number."""
    arrays = {"x_train": np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 2, 2))}
    if test:
        arrays["x_test"] = 200 + np.broadcast_to(np.arange(test, dtype=np.uint8)[:, None, None], (test, 2, 2))
    np.savez(path / "n.npz", **arrays)
    return str(path / "n.npz")


def numbers(images: object) -> list[int]:
    return [] if images is None else images.pixels[:, 0, 0, 0].tolist()  # type: ignore[attr-defined]


def test_splits_share_no_image_and_lose_none(tmp_path: Path) -> None:
    splits = load_splits(Data(data=numbered(tmp_path), validation=7), None)
    train, val, test = map(numbers, (splits.train, splits.val, splits.test))
    assert len(val) == 7
    assert len(test) == 4
    assert len(train) == 29
    assert sorted(train + val + test) == list(range(40))
    assert splits.info.num_train == 29


def test_official_test_images_are_the_test_split(tmp_path: Path) -> None:
    splits = load_splits(numbered(tmp_path, test=6), None)
    assert numbers(splits.test) == list(range(200, 206))
    assert sorted(numbers(splits.train) + numbers(splits.val)) == list(range(40))
    assert len(numbers(splits.val)) == 4  # a tenth, where that is less than 5,000


def test_the_split_is_the_same_for_every_run_and_whatever_torchs_generator_holds(tmp_path: Path) -> None:
    name = numbered(tmp_path)
    torch.manual_seed(1)
    first = load_splits(name, None)
    state = torch.get_rng_state()
    second = load_splits(name, None)
    assert numbers(first.val) == numbers(second.val)
    assert numbers(first.test) == numbers(second.test)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_limit_leaves_the_other_splits_alone(tmp_path: Path) -> None:
    name = numbered(tmp_path)
    whole, few = load_splits(name, None), load_splits(Data(data=name, train_limit=3), None)
    assert numbers(few.val) == numbers(whole.val)
    assert numbers(few.test) == numbers(whole.test)
    assert numbers(few.train) == numbers(whole.train)[:3]
    assert few.info.num_train == 3
    assert numbers(load_splits(Data(data=name, train_limit=10**9), None).train) == numbers(whole.train)


def test_validation_may_be_none_and_may_not_be_all(tmp_path: Path) -> None:
    name = numbered(tmp_path)
    assert load_splits(Data(data=name, validation=0), None).val is None
    assert len(numbers(load_splits(Data(data=name, validation=35), None).train)) == 1
    for validation in (36, 1000):
        with pytest.raises(InputError, match=f"^--validation: {validation} leaves none of the 36 images"):
            load_splits(Data(data=name, validation=validation), None)


def test_a_single_image_can_be_trained_on(tmp_path: Path) -> None:
    splits = load_splits(numbered(tmp_path, 1), None)
    assert len(splits.train) == 1
    assert splits.val is None
    assert splits.test is None


def test_digits_hold_all_images_once(digits: Splits) -> None:
    whole = load("digits", None).train
    parts = [digits.train, digits.val, digits.test]
    assert sum(map(len, parts)) == len(whole) == 1797
    rows = torch.cat([torch.cat([p.pixels.flatten(1), p.labels[:, None].byte()], 1) for p in parts])
    everything = torch.cat([whole.pixels.flatten(1), whole.labels[:, None].byte()], 1)
    assert sorted(rows.tolist()) == sorted(everything.tolist())
    assert digits.info.shape == (1, 8, 8)
    assert len(digits.info.class_names) == 10
    assert not digits.info.binary


def test_mnist_is_the_published_set(mnist: Splits) -> None:
    assert (len(mnist.train), len(mnist.val), len(mnist.test)) == (55000, 5000, 10000)
    assert mnist.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = torch.bincount(torch.cat([mnist.train.labels, mnist.val.labels])).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
