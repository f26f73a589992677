"""Every sampler: what it fits to codes whose density is known."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from vaekit.errors import InputError
from vaekit.noise import Noise
from vaekit.samplers.gaussians import FullMixture, MixtureSampler
from vaekit.samplers.kernel_density import KernelDensity, KernelDensitySampler
from vaekit.samplers.table import SAMPLERS, Density
from vaekit.samplers.two_stage import SecondStage

# each fitted to 2,000 codes: how far below the truth's mean log-density of other codes it may end, in nats
BOUNDS = {"mixture": 0.02, "kernel-density": 0.12, "flow": 0.08, "two-stage": 0.15}
WELL: dict[str, dict[str, Any]] = {
    "mixture": {"components": 2},
    "flow": {"flow_transforms": 2, "flow_hidden": (32,), "fit_epochs": 30},
    "two-stage": {"second_hidden": (64,), "fit_epochs": 150, "patience": 20},
}
NAMES = [
    name for name in SAMPLERS if not hasattr(SAMPLERS[name](), "fit_model")
]  # those that codes alone are enough for
# enough for what holds of any fit
SMALL: dict[str, dict[str, Any]] = {
    "mixture": {"components": 2},
    "flow": {"flow_transforms": 2, "flow_hidden": (16,), "fit_epochs": 5},
    "two-stage": {"second_hidden": (32,), "fit_epochs": 15},
}
WEIGHTS = torch.tensor([0.3, 0.7])
MEANS = torch.tensor([[-1.4, 0.6], [0.6, -0.257]])
ROOTS = torch.tensor([[[0.3, 0.0], [0.2, 0.5]], [[0.4, 0.0], [-0.4, 0.75]]])


def truth() -> FullMixture:
    """Two Gaussians of means near (0, 0) and variances near (1, 1)."""
    return FullMixture(WEIGHTS.log(), MEANS, ROOTS)


def true_codes(count: int, seed: int) -> Tensor:
    return truth().sample(Noise.from_seed(seed, count))


def entry(name: str, **given: Any) -> Any:
    return replace(SAMPLERS[name](), **{**SMALL.get(name, {}), **given})  # type: ignore[type-var]


@cache
def fitted(name: str) -> Density:
    return entry(name).fit(true_codes(500, 1), 0)


def log_density(density: Density, codes: Tensor) -> Tensor:
    with torch.no_grad():
        return density.log_prob(codes).double()


def test_the_truth_has_the_density_of_scipy() -> None:
    codes = true_codes(50, 0)
    expected = sum(
        weight * multivariate_normal(mean, root @ root.T).pdf(codes)
        for weight, mean, root in zip(WEIGHTS.numpy(), MEANS.numpy(), ROOTS.double().numpy(), strict=True)
    )
    np.testing.assert_allclose(log_density(truth(), codes), np.log(expected), atol=1e-5)


def _slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow) if name in ("flow", "two-stage") else name


@pytest.mark.parametrize("name", list(map(_slow, BOUNDS)))
def test_a_mixture_of_two_is_recovered(name: str) -> None:
    """Mean log-density of 4,000 other codes below the truth's by no more than the bound, nor above by 4 errors."""
    density = entry(name, **WELL.get(name, {})).fit(true_codes(2000, 1), 0)
    codes = true_codes(4000, 2)
    gap = log_density(truth(), codes) - log_density(density, codes)
    assert -4 * gap.std() / math.sqrt(4000) < gap.mean() < BOUNDS[name]


def test_one_gaussian_has_the_moments_of_the_codes() -> None:
    codes = true_codes(500, 1)
    found = fitted("gaussian")
    assert isinstance(found, FullMixture)
    covariance = np.cov(codes.T.double().numpy(), bias=True)
    np.testing.assert_allclose(found.loc[0], codes.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.factor[0] @ found.factor[0].T, covariance, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_density_integrates_to_one(name: str) -> None:
    axis = torch.linspace(-6.0, 6.0, 81)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).flatten(0, 1)
    total = log_density(fitted(name), grid).exp().sum().item() * 0.15**2
    # the second stage's is a lower bound, here within some hundredths of it
    assert total == pytest.approx(1.0, abs=0.03 if name == "two-stage" else 0.01)


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_moments_of_the_density(name: str) -> None:
    """Means and second moments of 10,000 samples within 4 standard errors of those by integration (two-stage: of codes)."""
    density, count = fitted(name), 10_000
    with torch.no_grad():
        z = density.sample(Noise.from_seed(3, count)).double()
    axis = torch.linspace(-6.0, 6.0, 81)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).flatten(0, 1)
    weights = log_density(density, grid).exp()
    weights = weights / weights.sum()
    first, second = weights @ grid.double(), weights @ grid.double().square()
    tolerance = 0.03 if name == "two-stage" else 0.0  # what the bound leaves open
    assert ((z.mean(0) - first).abs() < 4 * z.std(0) / math.sqrt(count) + tolerance).all()
    assert ((z.square().mean(0) - second).abs() < 4 * z.square().std(0) / math.sqrt(count) + tolerance).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_density_and_another_does_not_share_its_choices(name: str) -> None:
    codes = true_codes(200, 1)
    quick = {"fit_epochs": 2} if hasattr(SAMPLERS[name](), "fit_epochs") else {}
    first, again, other = (entry(name, **quick).fit(codes, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    if name not in ("gaussian", "mixture"):  # a mixture may find the same optimum
        assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_the_global_generator_stays_as_it_was(name: str) -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    quick = {"fit_epochs": 1} if hasattr(SAMPLERS[name](), "fit_epochs") else {}
    entry(name, **quick).fit(true_codes(50, 1), 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_makes_the_same_density_anew(name: str) -> None:
    density = fitted(name)
    again = entry(name).build(2, 500)
    again.load_state_dict(density.state_dict())
    codes = true_codes(20, 5)
    assert torch.equal(log_density(again, codes), log_density(density, codes))
    noise = Noise.from_seed(0, 9)
    with torch.no_grad():
        assert torch.equal(again.sample(noise), density.sample(noise))
        part = density.sample(noise._replace(index=noise.index[2:5]))
        torch.testing.assert_close(part, density.sample(noise)[2:5])


def test_a_kernel_density_is_the_mean_of_its_kernels() -> None:
    centres, codes = true_codes(30, 1), true_codes(5, 2)
    kernels = [multivariate_normal(centre, 0.3**2).pdf(codes) for centre in centres.numpy()]
    np.testing.assert_allclose(log_density(KernelDensity(centres, 0.3), codes), np.log(np.mean(kernels, 0)), atol=1e-5)


def test_the_bandwidth_is_near_the_best_for_other_codes() -> None:
    """Within 0.03 nats of the best of a grid on 1,000 codes that it never saw."""
    codes, others = true_codes(1000, 1), true_codes(1000, 7)
    chosen = KernelDensitySampler().fit(codes, 0)
    best = max(log_density(KernelDensity(codes, 0.02 * 1.25**step), others).mean() for step in range(20))
    assert log_density(chosen, others).mean() > best - 0.03
    assert KernelDensitySampler(bandwidth=0.5).fit(codes, 0).bandwidth == 0.5


def test_the_second_stage_reports_a_bound_above_the_elbo() -> None:
    density, codes = fitted("two-stage"), true_codes(300, 2)
    assert isinstance(density, SecondStage)
    with torch.no_grad():
        elbo = -density.negative_elbo(codes, Noise.from_seed(0, 300))
    assert log_density(density, codes).mean() > elbo.double().mean()


def test_more_components_than_codes_are_refused() -> None:
    with pytest.raises(InputError, match=r"^--components 30: is more than the 25 codes; give fewer$"):
        MixtureSampler(components=30).fit(true_codes(25, 0), 0)
