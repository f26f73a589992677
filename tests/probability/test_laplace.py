"""The Laplace likelihood against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from vaekit.noise import Noise
from vaekit.probability.laplace import Laplace, LaplaceImage

G = torch.Generator().manual_seed(0)
LOC = torch.randn(3, 4, 2, 3, 5, generator=G)
GREY = torch.rand(4, 2, 3, 5, generator=G)


@pytest.mark.parametrize("scale", [0.03, 0.3, 2.0])
def test_density_is_scipys_with_every_constant(scale: float) -> None:
    p = LaplaceImage(LOC, torch.tensor(scale).log())
    expected = stats.laplace.logpdf(GREY.double().numpy(), LOC.double().numpy(), scale).sum((-3, -2, -1))
    np.testing.assert_allclose(p.log_prob(GREY), expected, rtol=3e-6)


@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_samples_follow_the_distribution_function(scale: float) -> None:
    p = LaplaceImage(torch.full((20, 1, 40, 50), 0.3), torch.tensor(scale).log())
    drawn = p.sample_from(Noise.from_seed(0, 20), "pixels").double().flatten().numpy()
    assert stats.kstest(drawn, stats.laplace(0.3, scale).cdf).pvalue > 1e-4


def test_the_scale_is_what_it_says() -> None:
    fixed, learned = (Laplace(laplace_scale=0.25, learn_laplace_scale=flag).build() for flag in (False, True))
    assert list(fixed.parameters()) == []
    assert "log_scale" in fixed.state_dict()
    assert [p.shape for p in learned.parameters()] == [()]
    for head in (fixed, learned):
        assert head(LOC).log_scale.exp().item() == pytest.approx(0.25)


def test_the_best_scale_is_the_mean_absolute_error() -> None:
    head = Laplace().build()
    with torch.no_grad():
        head.log_scale.fill_((GREY - LOC[0]).abs().mean().log())
    head(LOC[0]).log_prob(GREY).sum().backward()
    assert head.log_scale.grad.item() == pytest.approx(0.0, abs=1e-3)
