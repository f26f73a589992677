"""Noise is a function of (key, image, sample, purpose, position), and good noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from vaekit.noise import Noise, seed_key

int64 = st.integers(-(2**63), 2**63 - 1)


def noise(key: int = 1, count: int = 5, first_sample: int = 0) -> Noise:
    return Noise(torch.tensor(key), torch.arange(count), first_sample)


def splitmix_reference(key: int, index: int, sample: int, purpose: str, place: int) -> int:
    """The word at one position in plain Python integers, as the module's documentation defines it."""
    import zlib

    mask, gamma = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(x: int) -> int:
        x &= mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    row = mix(index * gamma + ((key & mask) ^ mix(zlib.crc32(purpose.encode()))))
    return mix(mix(row + (sample + 1) * gamma) + (place + 1) * gamma)


@given(int64, st.integers(0, 10**9), st.integers(0, 1000), st.text(max_size=8), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_words_are_splitmix64(key: int, index: int, sample: int, purpose: str, place: int) -> None:
    words = Noise(torch.tensor(key), torch.tensor([index]), sample)._words(purpose, (1,), place + 1)
    assert words[0, 0, place].item() % 2**64 == splitmix_reference(key, index, sample, purpose, place)


@given(
    int64,
    st.lists(st.integers(0, 2**40), min_size=1, max_size=6),
    st.integers(1, 9),
    st.integers(1, 4),
    st.data(),
)
@settings(max_examples=40, deadline=None)
def test_same_numbers_in_any_batch_chunk_and_order(
    key: int, index: list[int], size: int, samples: int, data: st.DataObject
) -> None:
    order = torch.tensor(data.draw(st.permutations(range(len(index)))))
    cut = data.draw(st.integers(0, samples))
    whole = Noise(torch.tensor(key), torch.tensor(index))
    for kind in ("normal", "uniform"):
        expected = getattr(whole, kind)("purpose", (size,), (samples,))
        permuted = getattr(Noise(whole.key, whole.index[order]), kind)("purpose", (size,), (samples,))
        assert torch.equal(permuted, expected[:, order])
        alone = [getattr(Noise(whole.key, i[None]), kind)("purpose", (size,), (samples,)) for i in whole.index]
        assert torch.equal(torch.cat(alone, 1), expected)
        chunks = [
            getattr(Noise(whole.key, whole.index, first), kind)("purpose", (size,), (count,))
            for first, count in ((0, cut), (cut, samples - cut))
            if count
        ]
        assert torch.equal(torch.cat(chunks), expected)


def test_shapes_and_types() -> None:
    for kind in ("normal", "uniform"):
        draw = getattr(noise(), kind)
        assert draw("p", (3,)).shape == (5, 3)
        assert draw("p", (2, 3, 7), (4,)).shape == (4, 5, 2, 3, 7)
        assert draw("p", (1,), (4, 2)).shape == (4, 2, 5, 1)
        assert draw("p", (3,)).dtype == torch.float32


def test_two_sample_axes_are_one_axis_folded() -> None:
    assert torch.equal(noise().normal("p", (3,), (2, 4)).flatten(0, 1), noise().normal("p", (3,), (8,)))


def test_no_sample_axis_is_the_first_sample() -> None:
    assert torch.equal(noise().normal("p", (3,)), noise().normal("p", (3,), (2,))[0])


def test_from_seed_numbers_images_from_zero() -> None:
    made = Noise.from_seed(3, 4, "sample")
    assert made.index.tolist() == [0, 1, 2, 3]
    assert made.key.item() == seed_key(3, "sample")
    assert torch.equal(made.normal("p", (2,)), Noise.from_seed(3, 9, "sample").normal("p", (2,))[:4])


def test_uniform_lies_in_the_half_open_interval() -> None:
    values = noise(count=2000).uniform("p", (500,))
    assert values.min() == 0.0
    assert values.max() == 1.0 - 2.0**-16


def test_uniform_is_uniform() -> None:
    values = (noise(count=2000).uniform("p", (1000,)) * 2**16).to(torch.int64).flatten().numpy()
    for counts in (
        np.bincount(values, minlength=2**16),
        np.bincount(values % 256),
        np.bincount(values // 256),
    ):
        assert 1e-3 < stats.chisquare(counts).pvalue < 1 - 1e-3


def test_normal_is_normal() -> None:
    values = noise(count=1000).normal("p", (1001,)).flatten().double().numpy()
    assert stats.kstest(values, "norm").pvalue > 1e-3
    n = len(values)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10395 - 225)):
        assert abs((values**power).mean() - moment) < 4 * math.sqrt(variance / n)


def test_normal_has_tails() -> None:
    values = noise(count=4000).normal("p", (1000,)).flatten()
    assert torch.isfinite(values).all()
    for limit in (3.0, 4.0, 4.5):
        expected = len(values) * 2 * stats.norm.sf(limit)
        assert abs(int((values.abs() > limit).sum()) - expected) < 4 * math.sqrt(expected)
    assert 4.9 < values.max() < 6.7
    assert -6.7 < values.min() < -4.9


def _pairs() -> dict[str, tuple[Tensor, Tensor]]:
    """Standard normals that would agree if a neighbouring word were confused with this one."""
    count, size = 500, 400
    here = noise(count=count).normal("p", (size,), (2,))
    shifted = Noise(torch.tensor(1), torch.arange(1, count + 1))
    step, following = (Noise.from_seed(0, count, "train", number).normal("p", (size,)) for number in (6, 7))
    return {
        "images": (here[0][:-1], here[0][1:]),
        "samples": (here[0], here[1]),
        "purposes": (here[0], noise(count=count).normal("q", (size,))),
        "keys": (here[0], noise(key=2, count=count).normal("p", (size,))),
        "keys one bit apart": (here[0], noise(key=1 + (1 << 62), count=count).normal("p", (size,))),
        "steps": (step, following),
        "dims": (here[0][:, :-1], here[0][:, 1:]),
        "cosine and sine": (here[0][:, : size // 2], here[0][:, size // 2 :]),
        "image against sample": (here[1], shifted.normal("p", (size,), (1,))[0]),
        "image against dim": (here[0][:, 1:], shifted.normal("p", (size,))[:, :-1]),
    }


@pytest.mark.parametrize("name", list(_pairs()))
def test_neighbours_are_independent(name: str) -> None:
    """Also their squares: Box-Muller pairs share a radius and must hide it."""
    first, second = (values.flatten().double() for values in _pairs()[name])
    for f in (lambda x: x, torch.square, torch.abs):
        correlation = torch.corrcoef(torch.stack([f(first), f(second)]))[0, 1].item()
        assert abs(correlation) < 4 / math.sqrt(len(first))


def test_dims_are_pairwise_uncorrelated() -> None:
    values = noise(count=20000).normal("p", (20,)).double()
    error = torch.corrcoef(values.T) - torch.eye(20, dtype=torch.float64)
    assert error.abs().max() < 4.5 / math.sqrt(20000)


def test_words_do_not_repeat() -> None:
    words = noise(count=300)._words("p", (30,), 30).flatten()
    assert len(words.unique()) == len(words)


def test_every_bit_is_fair() -> None:
    words = noise(count=200)._words("p", (), 500).flatten()
    for bit in range(64):
        share = ((words >> bit) & 1).double().mean().item()
        assert abs(share - 0.5) < 4.5 * 0.5 / math.sqrt(len(words))


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_seed_key_fits_int64_and_tells_words_apart(seed: int, number: int) -> None:
    keys = [
        seed_key(seed),
        seed_key(seed, number),
        seed_key(seed, number + 1),
        seed_key(seed, "train", number),
        seed_key(seed, number, "train"),
        seed_key(seed, "evaluate", number),
        seed_key(seed + 1, number),
    ]
    assert len(set(keys)) == len(keys)
    assert all(torch.tensor(key).dtype == torch.int64 for key in keys)


def test_seed_keys_of_many_steps_differ() -> None:
    keys = {seed_key(seed, "train", step) for seed in range(20) for step in range(1000)}
    assert len(keys) == 20000


def test_arguments_are_left_alone() -> None:
    source = noise()
    before = source.index.clone(), source.key.clone()
    source.normal("p", (3,))
    assert torch.equal(source.index, before[0])
    assert torch.equal(source.key, before[1])
