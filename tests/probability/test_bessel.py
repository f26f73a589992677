"""Modified Bessel functions against scipy's."""

import numpy as np
import pytest
import scipy.special
import torch

from vaekit.probability.bessel import cumulant

KAPPAS = np.concatenate([10.0 ** np.linspace(-4, 5, 181), [0.0]])


@pytest.mark.parametrize("dim", [2, 3, 5, 20, 33, 34, 35, 100, 1002])
def test_logarithm_and_ratio_are_scipys(dim: int) -> None:
    """Orders from 0 to 500, wherever scipy's own values do not underflow."""
    found, order = cumulant(torch.from_numpy(KAPPAS), dim), dim / 2 - 1
    with np.errstate(all="ignore"):
        scaled, above = scipy.special.ive(order, KAPPAS), scipy.special.ive(order + 1, KAPPAS)
        expected = -np.log(scaled) - scipy.special.gammaln(order + 1) - order * np.log(2.0 / KAPPAS)
        ratio = above / scaled
    there = above > 1e-280
    assert there.sum() > 40
    np.testing.assert_allclose(found.deficit.numpy()[there], expected[there], rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(found.ratio.numpy()[there], ratio[there], rtol=1e-9, atol=0)


@pytest.mark.parametrize("dim", [2, 3, 50, 1002])
def test_nothing_is_lost_without_concentration(dim: int) -> None:
    found = cumulant(torch.zeros(1), dim)
    assert found.deficit.item() == found.ratio.item() == found.divergence.item() == 0.0
    assert found.slope.item() == pytest.approx(1.0 / dim, rel=1e-6)
    small = cumulant(torch.tensor([1e-3], dtype=torch.float64), dim)
    assert small.divergence.item() == pytest.approx(0.5e-6 / dim, rel=1e-5)  # kappa^2 / 2 d to the leading order


@pytest.mark.parametrize("dim", [2, 3, 20, 300])
def test_the_parts_are_derivatives_of_each_other(dim: int) -> None:
    kappa = torch.tensor([0.5, 3.0, 40.0, 900.0], dtype=torch.float64)
    step = 1e-4 * kappa
    low, high, found = cumulant(kappa - step, dim), cumulant(kappa + step, dim), cumulant(kappa, dim)
    torch.testing.assert_close((high.deficit - low.deficit) / (2 * step), 1.0 - found.ratio, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close((high.ratio - low.ratio) / (2 * step), found.slope, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        (high.divergence - low.divergence) / (2 * step), kappa * found.slope, rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("dim", [2, 10, 1000])
def test_extremes_are_finite(dim: int) -> None:
    for part in cumulant(torch.tensor([0.0, 1e-30, 1e-10, 1e5, 1e8, 1e12]), dim):
        assert torch.isfinite(part).all()
        assert (part >= 0).all()
