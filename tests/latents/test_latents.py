"""Posteriors and priors: every entry of the tables."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vaekit.latents.gaussian import GaussianPosterior, StandardPrior
from vaekit.latents.table import POSTERIORS, PRIORS
from vaekit.noise import Noise
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal, draw

SHAPE = (1, 8, 8)
NOISE = Noise(torch.tensor(2), torch.arange(6))


@pytest.mark.parametrize("name", list(POSTERIORS))
def test_posterior_keeps_the_contract(name: str) -> None:
    torch.manual_seed(0)
    head = POSTERIORS[name]().build(5, 3)
    features = torch.randn(6, 5)
    q = head(features)
    z = draw(q, NOISE, "latent")
    assert z.shape == (6, 3)
    assert draw(q, NOISE, "latent", (2, 4)).shape == (2, 4, 6, 3)
    if hasattr(q, "log_prob"):
        assert q.log_prob(draw(q, NOISE, "latent", (2,))).shape == (2, 6)
    weights = torch.randn(6, 3)
    loss = (z * weights).sum() + (q.log_prob(z).sum() if hasattr(q, "log_prob") else 0.0)
    loss.backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0
    alone = draw(head(features[4:5]), NOISE._replace(index=NOISE.index[4:5]), "latent")
    torch.testing.assert_close(alone, z[4:5])


@pytest.mark.parametrize("posterior", list(POSTERIORS))
def test_every_space_has_a_standard_prior(posterior: str) -> None:
    entry = POSTERIORS[posterior]()
    z = draw(entry.build(5, 3)(torch.randn(6, 5)), NOISE, "latent")
    p = StandardPrior().build(3, 0, SHAPE, entry)(None)
    assert p.log_prob(z).shape == (6,)
    assert draw(p, NOISE, "prior").shape == (6, 3)


@pytest.mark.parametrize("name", list(PRIORS))
@pytest.mark.parametrize("code", [None, torch.eye(6)[:, :2]], ids=["unconditional", "conditional"])
def test_prior_keeps_the_contract(name: str, code: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    prior, encoder = PRIORS[name]().build(3, 0 if code is None else 2, SHAPE, GaussianPosterior()), nn.Linear(64, 6)

    def encode(images: torch.Tensor, code: torch.Tensor | None) -> DiagonalGaussian:
        return DiagonalGaussian(*encoder(images.flatten(1)).chunk(2, -1))

    p = prior(code, encode) if getattr(prior, "reads_encoder", False) else prior(code)
    z = draw(p, NOISE, "prior")
    assert z.shape == (6, 3)
    assert p.log_prob(z).shape == (6,)
    assert p.log_prob(torch.stack([z, z])).shape == (2, 6)


def test_gaussian_posterior_halves_a_log_variance() -> None:
    head = GaussianPosterior().build(5, 3)
    features = torch.randn(6, 5)
    q = head(features)
    loc, log_variance = head.map(features).chunk(2, -1)
    assert isinstance(q, DiagonalGaussian)
    assert torch.equal(q.loc, loc)
    torch.testing.assert_close(q.scale.square(), log_variance.exp())


def test_standard_prior_is_standard() -> None:
    p = StandardPrior().build(3, 0, SHAPE, GaussianPosterior())(None)
    assert p == StandardNormal(3)
