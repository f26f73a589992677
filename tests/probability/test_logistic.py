"""The discretized logistic against differences of scipy's distribution function in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vaekit.noise import Noise
from vaekit.probability.logistic import DiscretizedLogistic, DiscretizedLogisticImage

LEVELS = (torch.arange(256) * (1 / 255)).view(256, 1, 1, 1)  # as uint8 images become floats
SCALES = [1e-6, 1e-4, 1e-3, 1 / 255, 0.02, 0.1, 1.0, 30.0]
LOCS = [-3.0, -0.01, 0.0, 0.2, 0.5, 100 / 255, 100.5 / 255, 0.999, 1.0, 1.7]


def image(loc: float, scale: float, count: int = 256) -> DiscretizedLogisticImage:
    return DiscretizedLogisticImage(torch.full((count, 1, 1, 1), loc), torch.tensor(scale).log())


def masses(loc: float, scale: float) -> np.ndarray:
    """Probabilities of the 256 levels; upper tails from the survival function, so that they do not cancel."""
    loc, scale = torch.tensor(loc).double().item(), torch.tensor(scale).log().double().exp().item()
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    p = stats.logistic(loc, scale)
    left, right = np.diff(p.cdf(edges)), -np.diff(p.sf(edges))
    return np.where(edges[1:] > loc, right, left)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("loc", LOCS)
def test_the_levels_sum_to_one(loc: float, scale: float) -> None:
    """Rounding of (x - loc) / scale, at most 1.2e-7 / scale, is all that is between."""
    total = image(loc, scale).log_prob(LEVELS).double().exp().sum().item()
    assert total == pytest.approx(1.0, abs=2e-6 + min(1e-7 / scale, 0.2))


@pytest.mark.parametrize("scale", [0.004, 0.02, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("loc", LOCS)
def test_masses_are_scipys(loc: float, scale: float) -> None:
    expected = masses(loc, scale)
    seen = expected > 1e-280
    found = image(loc, scale).log_prob(LEVELS).double().numpy()
    np.testing.assert_allclose(found[seen], np.log(expected[seen]), rtol=2e-6, atol=1e-6 + 2e-7 / scale)
    assert (found <= 1e-6).all()


@given(st.floats(-1e4, 1e4, width=32), st.floats(-18, 9, width=32), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_far_off_stays_finite_and_is_drawn_back(loc: float, log_scale: float, level: int) -> None:
    """Value and gradients are finite, and away from the target the gradient still points to it."""
    p_loc = torch.full((1, 1, 1, 1), loc).requires_grad_()
    p_scale = torch.tensor(log_scale).requires_grad_()
    target = LEVELS[level : level + 1]
    log_p = DiscretizedLogisticImage(p_loc, p_scale).log_prob(target)
    log_p.sum().backward()
    for found in (log_p, p_loc.grad, p_scale.grad):
        assert torch.isfinite(found).all()
    assert log_p.item() <= 1e-6
    distance = target.item() - loc
    if (
        abs(distance) > max(0.01, 3 * np.exp(log_scale))
        and not (level == 0 and loc < 0)
        and not (level == 255 and loc > 1)
    ):
        assert np.sign(p_loc.grad.item()) == np.sign(distance)


def test_at_the_ends_being_further_out_costs_nothing() -> None:
    far = DiscretizedLogisticImage(torch.tensor([-50.0, 50.0]).view(2, 1, 1, 1), torch.tensor(-3.0))
    assert torch.equal(far.log_prob(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)), torch.zeros(2))


@pytest.mark.parametrize("loc", LOCS)
def test_the_mean_is_that_of_the_levels_as_nearly_as_is_said(loc: float) -> None:
    """Within a hundredth of a level from a scale of one level on, within half a level below."""
    for scale in SCALES:
        exact = (masses(loc, scale) * np.arange(256) / 255).sum()
        error = abs(image(loc, scale, 1).mean.item() - exact)
        assert error < (0.0105 if scale >= 1 / 255 else 0.501) / 255 + 1e-6, scale


@pytest.mark.parametrize(("loc", "scale"), [(0.4, 0.003), (0.4, 0.05), (0.02, 0.1), (1.3, 0.2)])
def test_samples_have_the_masses(loc: float, scale: float) -> None:
    """Levels come as often as their masses say, by the chi-squared test over bins of at least 20."""
    count = 40000
    p = DiscretizedLogisticImage(torch.full((20, 1, 40, 50), loc), torch.tensor(scale).log())
    drawn = p.sample_from(Noise.from_seed(0, 20), "pixels").double().flatten().numpy() * 255
    levels = np.rint(drawn).astype(int)
    np.testing.assert_allclose(drawn, levels, atol=1e-4)
    assert levels.min() >= 0
    assert levels.max() <= 255
    expected = count * masses(loc, scale)
    groups = np.floor(np.cumsum(expected) / 200).astype(int)
    observed = np.bincount(groups, np.bincount(levels, minlength=256))
    wanted = np.bincount(groups, expected)
    kept = wanted > 20
    assert stats.chisquare(observed[kept], wanted[kept] * observed[kept].sum() / wanted[kept].sum()).pvalue > 1e-4


def test_one_scale_or_one_for_each_channel() -> None:
    one, each = (DiscretizedLogistic(0.05, per).build(3) for per in (False, True))
    assert [p.shape for p in one.parameters()] == [()]
    assert [p.shape for p in each.parameters()] == [(3, 1, 1)]
    x, loc = torch.randint(0, 256, (4, 3, 6, 6)) / 255, torch.rand(2, 4, 3, 6, 6)
    torch.testing.assert_close(one(loc).log_prob(x), each(loc).log_prob(x))
    with torch.no_grad():
        each.log_scale[1] = 0.0
    alone = DiscretizedLogisticImage(loc[:, :, 1:2], torch.tensor(0.0)).log_prob(x[:, 1:2])
    rest = one(loc[:, :, ::2]).log_prob(x[:, ::2])
    torch.testing.assert_close(each(loc).log_prob(x), alone + rest)
    each(loc).log_prob(x).sum().backward()
    assert (each.log_scale.grad != 0).all()
