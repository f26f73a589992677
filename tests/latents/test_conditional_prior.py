"""A Gaussian prior that follows the condition."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from prior_cases import flow_of_a_run
from torch.distributions import Independent, Normal, kl_divergence

import cases
from vaekit.generation import prior_quantiles
from vaekit.latents.conditional import ConditionalGaussian
from vaekit.latents.gaussian import GaussianPosterior
from vaekit.models.vae import VAEConfig
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.probability.distributions import DiagonalGaussian, closed_form_kl, draw, kl_by_dimension

SHAPE = (1, 8, 8)
CODES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 2.0], [0.0, 0.0]])


def built(num_condition: int, seed: int | None = 0) -> torch.nn.Module:
    """A prior over 3 latents, with random weights unless `seed` is None."""
    prior = ConditionalGaussian().build(3, num_condition, SHAPE, GaussianPosterior())
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in prior.parameters():
            parameter.data.normal_(generator=generator)
    return prior


@pytest.mark.parametrize("num_condition", [0, 2])
def test_it_starts_as_the_standard_normal(num_condition: int) -> None:
    p = built(num_condition, None)(CODES if num_condition else None)
    z = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(p.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))


def test_mean_and_log_variance_are_linear_in_the_code() -> None:
    prior = built(2)
    p = prior(CODES)
    for row, code in enumerate(CODES):
        expected = [
            prior.bias[j].item() + sum(code[i].item() * prior.weight[i, j].item() for i in range(2)) for j in range(6)
        ]
        assert p.loc[row].tolist() == pytest.approx(expected[:3], abs=1e-5)
        assert p.scale[row].tolist() == pytest.approx([math.exp(0.5 * value) for value in expected[3:]], rel=1e-5)
    alone = built(2)(CODES[1:2])
    torch.testing.assert_close(alone.loc, p.loc[1:2])


@pytest.mark.parametrize("num_condition", [0, 2])
def test_the_rate_is_torchs_divergence(num_condition: int) -> None:
    torch.manual_seed(0)
    p = built(num_condition)(CODES if num_condition else None)
    q = DiagonalGaussian(torch.randn(4, 3), torch.randn(4, 3))
    expected = kl_divergence(Normal(q.loc, q.scale), Normal(p.loc.expand(4, 3), p.scale.expand(4, 3)))
    torch.testing.assert_close(kl_by_dimension(q, p), expected)
    torch.testing.assert_close(closed_form_kl(q, p), expected.sum(-1))


def test_the_density_integrates_to_one_and_is_torchs() -> None:
    prior = ConditionalGaussian().build(2, 2, SHAPE, GaussianPosterior())
    generator = torch.Generator().manual_seed(1)
    for parameter in prior.parameters():
        parameter.data.normal_(generator=generator)
    p = prior(CODES[2:3])
    axis = torch.linspace(-15.0, 15.0, 1501)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    assert p.log_prob(grid).exp().double().sum().item() * 0.02**2 == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(p.log_prob(grid[::100]), Independent(Normal(p.loc, p.scale), 1).log_prob(grid[::100]))


@pytest.mark.parametrize("num_condition", [0, 2])
def test_samples_have_the_moments(num_condition: int) -> None:
    """Means and variances of 20,000 samples within 4 standard errors."""
    count, code = 20_000, torch.tensor([[0.5, 2.0]])
    p = built(num_condition)(code.expand(count, 2) if num_condition else None)
    z = draw(p, Noise.from_seed(0, count), "prior")
    assert z.shape == (count, 3)
    loc, scale = p.loc.expand(count, 3)[0], p.scale.expand(count, 3)[0]
    assert ((z.mean(0) - loc).abs() < 4 * scale / math.sqrt(count)).all()
    assert ((z.var(0) / scale.square() - 1.0).abs() < 4 * math.sqrt(2 / count)).all()


def test_a_run_without_labels(tmp_path: Path) -> None:
    flow_of_a_run(tmp_path, prior="conditional")


def test_a_run_with_labels(tmp_path: Path) -> None:
    flow_of_a_run(tmp_path, prior="conditional", conditioning="embedding", label_dropout=0.2)


def test_the_map_of_the_latent_space_follows_the_prior() -> None:
    """Quantiles of a prior N(5, e^2) in each of 2 latents, from 4,096 draws: within 4 standard errors."""
    prior = ConditionalGaussian()
    model = VAEConfig(latent_dim=2, network=MLP(hidden=(9,)), prior=prior).build(cases.info(SHAPE))
    model.prior.bias.data.copy_(torch.tensor([5.0, 5.0, 2.0, 2.0]))
    points = prior_quantiles(model, 5)
    expected = 5.0 + math.e * torch.special.ndtri(torch.linspace(0.02, 0.98, 5))
    assert points.shape == (5, 2)
    errors = math.e * (1 + 0.5 * 2.05**2) ** 0.5 / math.sqrt(4096)
    assert ((points - expected[:, None]).abs() < 4 * errors).all()
