"""The order of training images, and what a batch holds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
from vaekit.corruptions.table import CORRUPTIONS, DownUp
from vaekit.data.batches import Data, Order
from vaekit.data.binarization import BINARIZATIONS, Dynamic, Threshold
from vaekit.noise import Noise, seed_key


@given(st.integers(1, 60), st.integers(1, 90), st.integers(0, 2**62))
@settings(max_examples=60, deadline=None)
def test_every_image_once_an_epoch_joined_and_cut(num_images: int, batch_size: int, seed: int) -> None:
    """Batches laid end to end are permutations laid end to end: none partial, no image left out."""
    order = Order(num_images, batch_size, seed)
    steps = -(-3 * num_images // batch_size)
    batches = [order.batch(step) for step in range(steps)]
    assert all(batch.shape == (batch_size,) and batch.dtype == torch.int64 for batch in batches)
    laid = torch.cat(batches)
    for epoch in range(3):
        assert sorted(laid[epoch * num_images : (epoch + 1) * num_images].tolist()) == list(range(num_images))


@given(st.integers(1, 60), st.integers(1, 90), st.lists(st.integers(0, 50), max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_step_is_the_same_wherever_training_begins(num_images: int, batch_size: int, steps: list[int]) -> None:
    """A resumed run, or another process, asks for other steps in another order and sees the same images."""
    fresh = Order(num_images, batch_size, 3)
    for step in steps:
        assert torch.equal(fresh.batch(step), Order(num_images, batch_size, 3).batch(step))


def test_epochs_and_seeds_differ() -> None:
    order, other = Order(100, 100, 0), Order(100, 100, 1)
    assert not torch.equal(order.batch(0), order.batch(1))
    assert not torch.equal(order.batch(0), other.batch(0))


def test_order_does_not_touch_or_follow_torchs_generator() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = Order(50, 10, 0).batch(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(Order(50, 10, 0).batch(0), first)


def test_any_image_comes_at_any_place() -> None:
    first = torch.tensor([Order(10, 1, seed).batch(0).item() for seed in range(2000)])
    assert ((torch.bincount(first, minlength=10) - 200).abs() < 5 * 200**0.5).all()


def test_steps_at_counts_full_batches() -> None:
    order = Order(10, 4, 0)
    assert [order.steps_at(epoch) for epoch in range(5)] == [0, 2, 5, 7, 10]


def batch_of(data: Data, key: int = 1, labels: bool = True) -> object:
    images = cases.random_images((2, 9, 7), 6, labels)
    index = torch.tensor([5, 1, 1])
    return data.batch(images, index, Noise(torch.tensor(key), index))


@pytest.mark.parametrize("binarization", list(BINARIZATIONS))
@pytest.mark.parametrize("corruption", list(CORRUPTIONS))
def test_batch_keeps_the_contract(binarization: str, corruption: str) -> None:
    data = Data(binarization=BINARIZATIONS[binarization](), corruption=CORRUPTIONS[corruption]())
    batch = batch_of(data)
    assert batch.target.shape == (3, 2, 9, 7)
    assert batch.input.shape == (3, *data.corruption.shape((2, 9, 7)))
    for images in (batch.input, batch.target):
        assert images.dtype == torch.float32
        assert images.min() >= 0
        assert images.max() <= 1
    assert batch.index.tolist() == [5, 1, 1]
    assert batch.condition.tolist() == [2, 1, 1]
    assert batch.mask is None
    assert torch.equal(batch.target[1], batch.target[2])
    torch.testing.assert_close(batch.input[1], batch.input[2])  # blurs are products, whose sums may be ordered anew
    if data.is_binary(cases.info((2, 9, 7))):
        assert set(batch.target.unique().tolist()) == {0.0, 1.0}
    assert (corruption == "none") == torch.equal(batch.input, batch.target)
    assert batch_of(data, labels=False).condition is None


def test_the_target_is_clean_and_the_input_is_made_from_it() -> None:
    batch = batch_of(Data(binarization=Threshold(), corruption=DownUp()))
    assert set(batch.target.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(batch.input, DownUp()(batch.target, None))


def test_binary_data_are_binary() -> None:
    assert Data().is_binary(cases.info((1, 8, 8), binary=True))
    assert not Data().is_binary(cases.info((1, 8, 8)))
    assert Data(binarization=Dynamic()).is_binary(cases.info((1, 8, 8)))


def test_noise_is_fresh_each_step_and_fixed_for_evaluation() -> None:
    data = Data(binarization=Dynamic())
    steps = [batch_of(data, seed_key(0, "train", step)).target for step in (0, 1)]
    assert not torch.equal(*steps)
    assert torch.equal(batch_of(data, seed_key(0, "evaluate")).target, batch_of(data, seed_key(0, "evaluate")).target)
