"""The measurements, against values known in advance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from vaekit.doctor.evidence import distances, gaussian_bound, measure
from vaekit.probability.distributions import StandardNormal
from vaekit.runs import Run
from vaekit.storage import load_model


def test_the_bound_is_exact_and_unbiased_for_a_gaussian():
    """KL(N(m, S) || N(0, I)) in closed form, with so few samples that the plain estimate is far off."""
    generator = torch.Generator().manual_seed(1)
    d, n = 12, 60
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64) / 3 + torch.eye(d)
    covariance, mean = mixing @ mixing.T, torch.linspace(-1, 1, d, dtype=torch.float64)
    exact = 0.5 * (covariance.trace() + mean @ mean - d - torch.logdet(covariance))
    found, plain = [], []
    for _ in range(200):
        z = mean + torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing.T
        log_prior = StandardNormal(d).log_prob(z)
        found.append(gaussian_bound(z, log_prior))
        entropy = 0.5 * torch.logdet(2 * torch.pi * torch.e * torch.cov(z.T))
        plain.append((-entropy - log_prior.mean()).item())
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(exact.item(), abs=4 * error)
    assert np.mean(plain) - exact.item() > 8 * error  # the correction matters


def test_the_bound_is_below_the_true_divergence():
    """Two spots at -3 and 3 of width 0.1 in one dimension: KL by numerical integration."""
    generator = torch.Generator().manual_seed(2)
    signs = torch.randint(0, 2, (20000, 1), generator=generator) * 2.0 - 1.0
    z = (3 * signs + 0.1 * torch.randn(20000, 1, generator=generator)).double()
    x = np.linspace(-5, 5, 200001)
    spots = [np.exp(-0.5 * ((x - m) / 0.1) ** 2) / (0.1 * np.sqrt(2 * np.pi)) for m in (-3, 3)]
    q, p = 0.5 * sum(spots), np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    true = np.trapezoid(np.where(q > 0, q * np.log(np.maximum(q, 1e-300) / p), 0.0), x)
    assert 2.0 < gaussian_bound(z, StandardNormal(1).log_prob(z)) < true


def test_distances_are_those_of_mahalanobis():
    generator = torch.Generator().manual_seed(3)
    points, locs = torch.randn(7, 4, generator=generator), torch.randn(30, 4, generator=generator)
    scales = torch.rand(30, 4, generator=generator) + 0.05
    spots = list(zip(locs.double().numpy(), scales.double().numpy(), strict=True))
    expected = [
        min(cdist(point[None], loc[None], "seuclidean", V=scale**2)[0, 0] / 2 for loc, scale in spots)  # 2 is sqrt(4)
        for point in points.numpy()
    ]
    assert distances(points, locs, scales).numpy() == pytest.approx(expected, rel=1e-5)


def test_a_run_is_measured(trained_run: Run, digits):
    model, config, info = load_model(trained_run.path)
    found = measure(model, config, info, digits)
    assert (found.split, found.codes.count, found.pixels.size) == ("validation", len(digits.val), 64)
    assert found.codes.rate == pytest.approx(found.codes.rates.sum().item(), rel=1e-5)
    grey = digits.val.unit()
    assert found.pixels.grey == pytest.approx(((grey > 0.1) & (grey < 0.9)).double().mean().item(), rel=1e-5)
    assert found.pixels.sigma is None
    assert found.restored is None
    assert [layer.units for layer in found.layers] == [32, 32]
    again = measure(model, config, info, digits)
    assert (again.codes.rate, again.prior, again.pixels) == (found.codes.rate, found.prior, found.pixels)


def test_untrained_weights_have_not_moved(digits):
    from vaekit.doctor.evidence import moved
    from vaekit.settings import configure
    from vaekit.training.train import seeded_model

    config = configure("conv", data="digits")
    model = seeded_model(config, digits.info)
    assert moved(model, config, digits.info) == 0.0
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)
    assert moved(model, config, digits.info) == pytest.approx(2.0)
