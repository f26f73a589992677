"""Noise: its distribution against scipy's, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from corruption_cases import noise
from vaekit.corruptions.noises import GaussianNoise, LowLight, PoissonNoise, SaltAndPepper, Speckle, poisson_counts


def grey(value: float, count: int = 40, side: int = 32) -> torch.Tensor:
    return torch.full((count, 1, side, side), value)


RATES = [0.0, 1e-3, 0.3, 2.5, 9.999, 10.001, 14.0, 45.0, 700.0, 3000.0]


@pytest.mark.parametrize(
    ("most", "rate"), [(most, rate) for most in (0.3, 4.0, 10.0, 3000.0) for rate in RATES if rate <= most]
)
def test_poisson_counts_have_the_poisson_distribution(most: float, rate: float) -> None:
    """Total variation over a grid of 100,000 equal probabilities, which itself adds at most half a step a count."""
    size = 100_000
    chance = (np.arange(size) + 0.5) / size
    normal = torch.from_numpy(stats.norm.ppf(chance)).float()
    counts = poisson_counts(torch.full((size,), rate), normal, most).numpy()
    assert (np.diff(counts) >= 0).all()
    assert (counts == np.floor(counts)).all()
    found = np.bincount(counts.astype(int)) / size
    differ = 0.5 * np.abs(found - stats.poisson.pmf(np.arange(len(found)), rate)).sum()
    grid = 0.5 * (found > 0).sum() / size
    assert differ < grid + (1e-6 if rate <= 10 else 2e-4)


def test_poisson_counts_of_a_batch_pass_a_test_of_fit() -> None:
    """Chi-squared over 40,960 draws from the library's own normal noise; mean and variance within 5 standard errors."""
    for rate in (0.7, 6.0, 25.0):
        draws = noise(40).normal("photons", (1024,)).flatten()
        counts = poisson_counts(torch.full_like(draws, rate), draws, 30.0).numpy()
        size = len(counts)
        assert counts.mean() == pytest.approx(rate, abs=5 * np.sqrt(rate / size))
        spread = np.sqrt((rate + 2 * rate**2) / size)  # of the sample variance
        assert counts.var() == pytest.approx(rate, abs=5 * spread)
        last = int(stats.poisson.ppf(0.999, rate))
        seen = np.bincount(np.minimum(counts, last).astype(int), minlength=last + 1)
        expected = size * np.append(stats.poisson.pmf(np.arange(last), rate), stats.poisson.sf(last - 1, rate))
        first = int(np.argmax(np.cumsum(expected) > 10))
        seen, expected = (np.append(part[: first + 1].sum(), part[first + 1 :]) for part in (seen, expected))
        assert stats.chisquare(seen, expected).pvalue > 1e-3


def test_poisson_noise_of_images() -> None:
    """Variance x / photons; black stays black; brightness comes in whole photons, and white is clipped."""
    for photons in (8.0, 200.0):
        found = PoissonNoise(photons=photons)(grey(0.25), noise(40))
        assert found.mean().item() == pytest.approx(0.25, abs=5 * np.sqrt(0.25 / photons / found.numel()))
        assert found.var().item() == pytest.approx(0.25 / photons, rel=0.05)
        torch.testing.assert_close(found * photons, (found * photons).round(), atol=1e-3, rtol=0)
    assert PoissonNoise()(grey(0.0), noise(40)).eq(0).all()
    assert PoissonNoise()(grey(1.0), noise(40)).max() == 1


def test_gaussian_noise_is_normal_before_it_is_clipped() -> None:
    change = (GaussianNoise(noise_sigma=0.1)(grey(0.5), noise(40)) - 0.5).flatten().numpy()
    assert stats.kstest(change / 0.1, "norm").pvalue > 1e-3
    dark = GaussianNoise(noise_sigma=0.1)(grey(0.0), noise(40))
    assert dark.eq(0).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_channels_have_noise_of_their_own() -> None:
    found = GaussianNoise(noise_sigma=0.05)(torch.full((4, 3, 32, 32), 0.5), noise(4)) - 0.5
    assert np.abs(np.corrcoef(found.transpose(0, 1).flatten(1).numpy()) - np.eye(3)).max() < 0.06


def test_speckle_grows_with_the_brightness() -> None:
    spread = [Speckle(speckle_sigma=0.2)(grey(value), noise(40)).std().item() for value in (0.1, 0.2, 0.4)]
    assert spread == pytest.approx([0.02, 0.04, 0.08], rel=0.03)
    assert Speckle()(grey(0.0), noise(40)).eq(0).all()


def test_salt_and_pepper_break_whole_pixels() -> None:
    images = torch.full((30, 3, 32, 32), 0.5)
    found = SaltAndPepper(salt_fraction=0.3)(images, noise(30))
    assert torch.equal(found[:, 0], found[:, 1])
    shares = [found.eq(value).float().mean().item() for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.15, 0.7, 0.15], abs=0.01)
    assert set(SaltAndPepper(salt_fraction=1.0)(images, noise(30)).unique().tolist()) == {0.0, 1.0}


def test_low_light_is_dark_and_noisy_as_its_numbers_say() -> None:
    """Mean light x^gamma; variance that of the photons plus the sensor's."""
    entry = LowLight(light=0.3, light_gamma=1.5, light_photons=400.0, light_noise=0.02)
    found = entry(grey(0.8), noise(40))
    mean = 0.3 * 0.8**1.5
    assert found.mean().item() == pytest.approx(mean, abs=1e-3)
    assert found.var().item() == pytest.approx(mean / 400 + 0.02**2, rel=0.05)
    bright = LowLight(light=1.0, light_photons=1e6, light_noise=0.0)(grey(0.6), noise(40))
    torch.testing.assert_close(bright, grey(0.6), atol=0.006, rtol=0)
