"""The learned mixture of Gaussians as a prior."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from prior_cases import flow_of_a_run

from vaekit.latents.gaussian import GaussianPosterior
from vaekit.latents.mixture import MixtureOfGaussians
from vaekit.noise import Noise
from vaekit.probability.distributions import closed_form_kl, draw

SHAPE = (1, 8, 8)


def test_one_component_starts_as_the_standard_normal_and_is_a_gaussian() -> None:
    p = MixtureOfGaussians(components=1).build(3, 0, SHAPE, GaussianPosterior())(None)
    z = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(p.log_prob(z), expected)
    prior = MixtureOfGaussians(components=1).build(3, 0, SHAPE, GaussianPosterior())
    loc, log_scale = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[0.3, -1.0, 0.0]])
    prior.load_state_dict({"logits": torch.tensor([7.0]), "loc": loc, "log_scale": log_scale})
    expected = torch.distributions.Normal(loc[0], log_scale[0].exp()).log_prob(z).sum(-1)
    torch.testing.assert_close(prior(None).log_prob(z), expected, rtol=1e-5, atol=1e-5)


def test_it_starts_with_the_moments_of_the_standard_normal_and_apart() -> None:
    """Of 2,000 components: mean and variance in each of 3 latents within 4 standard errors."""
    torch.manual_seed(0)
    prior = MixtureOfGaussians(components=2000).build(3, 0, SHAPE, GaussianPosterior())
    p = prior(None)
    assert p.log_weights.exp().tolist() == pytest.approx([1 / 2000] * 2000)
    between = p.loc.var(0)
    assert (p.mean.abs() < 4 * (between / 2000).sqrt()).all()
    variance = between + p.log_scale.exp().square().mean(0)
    assert ((variance - 1.0).abs() < 4 * 0.5 * math.sqrt(2 / 2000)).all()
    few = MixtureOfGaussians().build(16, 0, SHAPE, GaussianPosterior())(None)
    assert len(few.loc) == 10
    assert torch.pdist(few.loc).min() > 1.0


def test_a_condition_changes_nothing() -> None:
    prior = MixtureOfGaussians().build(3, 2, SHAPE, GaussianPosterior())
    z = torch.randn(6, 3)
    assert torch.equal(prior(torch.eye(6)[:, :2]).log_prob(z), prior(None).log_prob(z))


def test_every_parameter_gets_a_gradient_and_the_rate_none_in_closed_form() -> None:
    torch.manual_seed(0)
    prior = MixtureOfGaussians(components=4).build(3, 0, SHAPE, GaussianPosterior())
    q = GaussianPosterior().build(5, 3)(torch.randn(6, 5))
    p = prior(None)
    assert closed_form_kl(q, p) is None
    p.log_prob(draw(q, Noise.from_seed(0, 6), "latent")).sum().backward()
    for parameter in prior.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def test_fitted_by_its_own_likelihood_it_recovers_two_clusters() -> None:
    """From 1,000 points of two narrow clusters: the mean log-density comes within 0.05 nats of the truth's."""
    torch.manual_seed(0)
    centres = torch.tensor([[3.0, 0.0], [-3.0, 1.0]])
    which = torch.rand(1000) < 0.25
    points = torch.where(which[:, None], centres[0], centres[1]) + 0.3 * torch.randn(1000, 2)
    prior = MixtureOfGaussians(components=2).build(2, 0, SHAPE, GaussianPosterior())
    optimizer = torch.optim.Adam(prior.parameters(), 0.03)
    for _ in range(600):
        optimizer.zero_grad()
        (-prior(None).log_prob(points).mean()).backward()
        optimizer.step()
    scales = torch.distributions.Normal(centres[:, None], 0.3).log_prob(points).sum(-1)
    truth = torch.logsumexp(scales + torch.tensor([[0.25], [0.75]]).log(), 0).mean().item()
    assert prior(None).log_prob(points).mean().item() == pytest.approx(truth, abs=0.05)


def test_a_run_can_do_all_that_runs_do(tmp_path: Path) -> None:
    flow_of_a_run(tmp_path, prior="mixture", components=3)


def test_a_conditional_run_too(tmp_path: Path) -> None:
    flow_of_a_run(tmp_path, prior="mixture", components=3, conditioning="onehot")
