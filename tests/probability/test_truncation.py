"""The truncated normal distribution, and samples of a prior that is cut off."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest, truncnorm

import vaekit
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.probability.truncation import truncated_normal
from vaekit.settings import configure

INFO = DataInfo("own", (1, 8, 8))


@pytest.mark.parametrize("threshold", [0.05, 1.0, 2.5])
def test_law_and_order(threshold: float) -> None:
    draws = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    found = truncated_normal(draws, threshold)
    assert found.abs().max() <= threshold
    assert kstest(found.numpy(), truncnorm(-threshold, threshold).cdf).pvalue > 0.001
    order = draws.argsort()
    assert (found[order].diff() >= 0).all()
    extreme = truncated_normal(torch.tensor([-40.0, -9.0, 9.0, 40.0]), threshold)
    np.testing.assert_allclose(extreme, [-threshold, -threshold, threshold, threshold], rtol=1e-6)


def test_a_far_threshold_changes_nothing() -> None:
    draws = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(truncated_normal(draws, 10.0), draws)


def test_samples() -> None:
    model = configure("mlp", hidden="16", latent_dim=3).model.build(INFO).eval()
    whole, far, near = (vaekit.sample(model, 50, truncation=at) for at in (None, 10.0, 0.01))
    torch.testing.assert_close(far, whole, atol=1e-5, rtol=1e-5)
    centre = vaekit.sample(model, 1, temperature=0.0)
    assert (near - centre).abs().max() < 0.1 * (whole - centre).abs().max()


def test_other_priors_refuse() -> None:
    for settings in ({"posterior": "von-mises-fisher"}, {"prior": "mixture"}):
        model = configure("mlp", hidden="16", latent_dim=3, **settings).model.build(INFO).eval()
        with pytest.raises(InputError, match=r"--truncation 1: the model's prior is no N\(0, I\)"):
            vaekit.sample(model, 4, truncation=1.0)
    model = configure("mlp", hidden="16", latent_dim=3).model.build(INFO).eval()
    with pytest.raises(InputError, match="give a number above 0"):
        vaekit.sample(model, 4, truncation=0.0)
