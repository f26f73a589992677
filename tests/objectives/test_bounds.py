"""The bounds that are reported: pure reductions of a draw."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vaekit.models.draw import Draw, Latent
from vaekit.noise import Noise
from vaekit.objectives import bounds
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal
from vaekit.probability.likelihoods import BernoulliImage


def random_log_w(samples: int = 6, batch: int = 4, spread: float = 3.0) -> Tensor:
    return spread * torch.randn(samples, batch, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 500


def random_draw(sample_shape: tuple[int, ...] = (), stochastic: bool = True) -> Draw:
    generator = torch.Generator().manual_seed(1)
    q = DiagonalGaussian(torch.randn(4, 3, generator=generator), 0.3 * torch.randn(4, 3, generator=generator))
    z = q.sample_from(Noise(torch.tensor(1), torch.arange(4)), "latent", sample_shape)
    latent = Latent(z, q, StandardNormal(3)) if stochastic else Latent(z)
    logits = torch.randn(*sample_shape, 4, 1, 2, 2, generator=generator)
    return Draw((latent,), BernoulliImage(logits), torch.rand(4, 1, 2, 2, generator=generator))


@pytest.mark.parametrize("sample_shape", [(), (5,), (2, 3)])
def test_elbo_is_minus_distortion_minus_rate(sample_shape: tuple[int, ...]) -> None:
    draw = random_draw(sample_shape)
    distortion, rate, elbo = bounds.distortion(draw), bounds.rate(draw), bounds.elbo(draw)
    assert distortion.shape == rate.shape == elbo.shape == (4,)
    torch.testing.assert_close(elbo, -(distortion + rate))
    torch.testing.assert_close(distortion, -draw.log_p_x.reshape(-1, 4).mean(0))
    torch.testing.assert_close(rate, draw.latents[0].rate)


def test_a_deterministic_code_has_no_bound() -> None:
    draw = random_draw(stochastic=False)
    assert bounds.rate(draw) is None
    assert bounds.elbo(draw) is None
    assert draw.log_w is None
    assert bounds.distortion(draw).shape == (4,)


def test_one_sample_is_the_weight_itself() -> None:
    log_w = random_log_w(1)
    torch.testing.assert_close(bounds.importance_weighted(log_w), log_w[0])


def test_equal_weights_give_their_value() -> None:
    torch.testing.assert_close(bounds.importance_weighted(torch.full((7, 2), -3.25)), torch.full((2,), -3.25))


def test_the_mean_of_weights_in_plain_numbers() -> None:
    log_w = random_log_w(3, 2, 1.0)
    expected = [math.log(sum(math.exp(float(w) + 500) for w in log_w[:, i]) / 3) - 500 for i in range(2)]
    torch.testing.assert_close(bounds.importance_weighted(log_w), torch.tensor(expected, dtype=torch.float64))


def test_far_away_weights_neither_overflow_nor_vanish() -> None:
    assert bounds.importance_weighted(torch.tensor([[1e4], [-1e4]])).item() == pytest.approx(1e4 - math.log(2))
    assert torch.isfinite(bounds.importance_weighted(torch.full((3, 1), -1e6))).all()


def test_the_bound_averaged_over_subsets_of_one_sample_does_not_fall() -> None:
    """Exactly, over every subset of six weights (Burda, Grosse and Salakhutdinov 2016, theorem 1)."""
    log_w = random_log_w()
    means = torch.stack(
        [
            torch.stack([bounds.importance_weighted(log_w[list(s)]) for s in itertools.combinations(range(6), k)]).mean(
                0
            )
            for k in range(1, 7)
        ]
    )
    assert (means.diff(dim=0) > 0.01).all()
    torch.testing.assert_close(means[0], log_w.mean(0))


@given(st.integers(0, 10**6), st.floats(0.0, 30.0), st.integers(2, 5))
@settings(max_examples=50, deadline=None)
def test_subsets_never_fall_and_stay_between_mean_and_maximum(seed: int, spread: float, samples: int) -> None:
    log_w = spread * torch.randn(samples, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    last = log_w.mean(0)
    for k in range(1, samples + 1):
        subsets = itertools.combinations(range(samples), k)
        now = torch.stack([bounds.importance_weighted(log_w[list(s)]) for s in subsets]).mean(0)
        assert (now >= last - 1e-9).all()
        assert (now <= log_w.max(0).values + 1e-9).all()
        last = now


def test_two_sample_axes_pool_or_nest() -> None:
    log_w = random_log_w().view(2, 3, 4)
    torch.testing.assert_close(
        bounds.importance_weighted(log_w, (0, 1)), bounds.importance_weighted(log_w.flatten(0, 1))
    )
    inner = bounds.importance_weighted(log_w, 1)
    assert inner.shape == (2, 4)
    torch.testing.assert_close(inner[0], bounds.importance_weighted(log_w[0]))
