"""Held-out images: disjoint, fixed, official where they exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import vaekit.data.splits as splits_module
from vaekit.data.batches import Data
from vaekit.data.images import Images, Splits
from vaekit.data.loaded import Loaded
from vaekit.data.sources import load
from vaekit.data.splits import load_splits, split
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


def grouped(sizes: list[int]) -> Loaded:
    """Images that hold their number, in groups of the given sizes, shuffled."""
    groups = torch.repeat_interleave(torch.arange(len(sizes)) * 3, torch.tensor(sizes))
    groups = groups[torch.randperm(len(groups), generator=torch.Generator().manual_seed(0))]
    pixels = torch.arange(len(groups), dtype=torch.uint8).view(-1, 1, 1, 1)
    return Loaded(Images(pixels), None, groups=groups, grouped=True)


def test_a_group_lies_in_one_split(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = grouped([1, 2, 3, 30, 4, 5, 6, 7, 8, 9])
    monkeypatch.setattr(splits_module, "load", lambda *_: loaded)
    splits = load_splits(Data(data="people", validation=10), None)
    parts = [set(loaded.groups[numbers(part)].tolist()) for part in (splits.train, splits.val, splits.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert sorted(numbers(splits.train) + numbers(splits.val) + numbers(splits.test)) == list(range(75))
    assert 7 <= len(splits.test) < 7 + 30  # no group is cut: the last one taken may be more than was asked for
    assert 10 <= len(splits.val) < 10 + 30


def test_groups_are_left_alone_when_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits_module, "load", lambda *_: grouped([10] * 4))
    splits = load_splits(Data(data="people", validation=3, group_by="none"), None)
    assert (len(splits.val), len(splits.test)) == (3, 4)


def test_grouping_needs_groups(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--group-by folder: images of .* lie in no folders; choose auto or none$"):
        load_splits(Data(data=numbered(tmp_path), group_by="folder"), None)


def test_official_validation_images_are_the_validation_split(monkeypatch: pytest.MonkeyPatch) -> None:
    train, val, test = (Images(torch.full((count, 2, 2, 1), count, dtype=torch.uint8)) for count in (9, 3, 4))
    monkeypatch.setattr(splits_module, "load", lambda *_: Loaded(train, test, val=val))
    splits = load_splits(Data(data="published"), None)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [9, 3, 4]
    assert load_splits(Data(data="published", validation=0), None).val is None


def test_attributes_are_described_by_what_is_known_of_the_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.tensor([[1.0, 5.0], [3.0, 5.0], [float("nan"), 5.0]])
    train = Images(torch.zeros(3, 2, 2, 1, dtype=torch.uint8), attributes=values)
    other = Images(torch.zeros(1, 2, 2, 1, dtype=torch.uint8), attributes=torch.tensor([[100.0, 100.0]]))
    loaded = Loaded(train, other, attribute_names=("age", "same"), val=other)
    monkeypatch.setattr(splits_module, "load", lambda *_: loaded)
    info = load_splits(Data(data="people"), None).info
    assert info.attribute_names == ("age", "same")
    assert info.attribute_means == (2.0, 5.0)
    assert info.attribute_scales == (1.0, 1.0)  # the second does not vary: divided by nothing


def test_a_limit_takes_of_every_class_of_images_in_the_order_of_their_names() -> None:
    """Folders are read class after class: the first images of training would be one class alone."""
    pixels = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(200, 4, 4, 1).clone()
    loaded = Loaded(Images(pixels, torch.arange(200) // 50), None, tuple("abcd"), names=[f"{n}" for n in range(200)])
    few = split(Data(data="x", train_limit=40), loaded)
    assert len(few.train) == few.info.num_train == 40
    assert few.train.labels.bincount(minlength=4).min() >= 4
    again = split(Data(data="x", train_limit=40), loaded)
    assert torch.equal(again.train.pixels, few.train.pixels)
    whole = split(Data(data="x"), loaded)
    assert set(few.train.pixels[:, 0, 0, 0].tolist()) <= set(whole.train.pixels[:, 0, 0, 0].tolist())
    everything = split(Data(data="x", train_limit=1000), loaded)
    assert torch.equal(everything.train.pixels, whole.train.pixels)


def test_one_group_that_holds_everything_is_refused_for_what_it_is() -> None:
    loaded = Loaded(
        Images(torch.zeros(30, 4, 4, 1, dtype=torch.uint8)), None, groups=torch.zeros(30, dtype=torch.int64)
    )
    with pytest.raises(InputError) as refusal:
        split(Data(data="x", group_by="folder"), loaded)
    assert str(refusal.value) == (
        "--group-by folder: all 30 images of 'x' are of one group, which would be the test images; choose none"
    )
