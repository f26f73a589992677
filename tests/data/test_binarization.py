"""Binarizations of grey images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from vaekit.data.binarization import BINARIZATIONS, Dequantize, Dynamic, Grey, Threshold
from vaekit.noise import Noise

GREYS = (torch.arange(256) / 255.0).view(1, 1, 16, 16)


def test_dynamic_has_the_grey_value_as_its_mean() -> None:
    count = 40000
    noise = Noise.from_seed(0, count)
    means = Dynamic()(GREYS.expand(count, 1, 16, 16), noise).double().mean(0)
    error = (GREYS * (1 - GREYS) / count).sqrt()
    assert ((means - GREYS[0]).abs() <= 4.5 * error + 2.0**-16).all()
    assert abs((means - GREYS[0]).sum().item()) < 4 * math.sqrt((error**2).sum().item())


def test_dynamic_leaves_black_and_white_alone() -> None:
    images = torch.tensor([0.0, 1.0]).repeat(50000).view(1, 1, 1, -1)
    assert torch.equal(Dynamic()(images, Noise.from_seed(0, 1)), images)


def test_dynamic_pixels_are_independent() -> None:
    pixels = Dynamic()(torch.full((5000, 1, 4, 4), 0.5), Noise.from_seed(0, 5000)).flatten(1).double()
    error = torch.corrcoef(pixels.T) - torch.eye(16, dtype=torch.float64)
    assert error.abs().max() < 4.5 / math.sqrt(5000)


def test_dynamic_noise_is_not_the_latents_noise() -> None:
    noise = Noise.from_seed(0, 2000)
    pixels = Dynamic()(torch.full((2000, 1, 1, 4), 0.5), noise).flatten(1).double()
    both = torch.cat([pixels, noise.normal("latent", (4,)).double()], 1)
    assert torch.corrcoef(both.T)[:4, 4:].abs().max() < 4.5 / math.sqrt(2000)


def test_threshold_is_exclusive() -> None:
    images = torch.tensor([[[[0.0, 0.49, 0.5, 0.51, 1.0]]]])
    assert Threshold()(images, Noise.from_seed(0, 1)).flatten().tolist() == [0, 0, 0, 1, 1]
    assert Threshold(threshold=0.0)(images, Noise.from_seed(0, 1)).flatten().tolist() == [0, 1, 1, 1, 1]


def test_grey_is_the_image() -> None:
    assert torch.equal(Grey()(GREYS, Noise.from_seed(0, 1)), GREYS)


def test_dequantized_pixels_fill_their_level_evenly() -> None:
    """(k + u) / 256 never leaves its level, and u is uniform, independent between pixels and images."""
    count = 500
    found = Dequantize()(GREYS.expand(count, 1, 16, 16), Noise.from_seed(0, count)).double() * 256
    level = torch.arange(256.0, dtype=torch.float64).view(1, 1, 16, 16)
    assert torch.equal(found.floor(), level.expand_as(found))
    within = (found - level).flatten(1).numpy()
    assert stats.kstest(within.ravel(), "uniform").pvalue > 1e-4
    assert stats.kstest(within[:, 255], "uniform").pvalue > 1e-4  # the highest level too
    assert abs(np.corrcoef(within[:, :8].T) - np.eye(8)).max() < 4.5 / math.sqrt(count)
    assert (Dequantize()(torch.ones(5000, 1, 2, 2), Noise.from_seed(0, 5000)) < 1).all()


def test_dequantizing_is_drawn_afresh_and_of_its_own() -> None:
    first, again, other = (Dequantize()(GREYS, Noise.from_seed(seed, 1)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    noise = Noise.from_seed(0, 2000)
    images = torch.full((2000, 1, 1, 1), 128 / 255)
    both = torch.stack([Dequantize()(images, noise).flatten(), Dynamic()(images, noise).flatten()]).double()
    assert torch.corrcoef(both)[0, 1].abs() < 4.5 / math.sqrt(2000)


@pytest.mark.parametrize("name", list(BINARIZATIONS))
def test_entry_keeps_the_contract(name: str) -> None:
    entry = BINARIZATIONS[name]()
    before = GREYS.clone()
    found = entry(GREYS, Noise.from_seed(0, 1))
    assert found.shape == GREYS.shape
    assert found.dtype == GREYS.dtype
    assert torch.equal(GREYS, before)
    assert entry.binary == (set(found.unique().tolist()) <= {0.0, 1.0})
