"""Distributions over latents against scipy, torch and Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from vaekit.models.draw import Latent
from vaekit.noise import Noise
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal, closed_form_kl, draw

NOISE = Noise(torch.tensor(5), torch.arange(4))


def gaussian(seed: int = 0, latents: int = 3, batch: int = 4) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    return DiagonalGaussian(
        torch.randn(batch, latents, generator=generator),
        0.7 * torch.randn(batch, latents, generator=generator),
    )


def as_torch(q: DiagonalGaussian) -> Independent:
    return Independent(Normal(q.loc, q.scale, validate_args=False), 1, validate_args=False)


def test_log_prob_is_scipys() -> None:
    q, z = gaussian(), torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(1))
    expected = stats.norm.logpdf(z.double(), q.loc.double(), q.scale.double()).sum(-1)
    np.testing.assert_allclose(q.log_prob(z), expected, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(StandardNormal(3).log_prob(z), stats.norm.logpdf(z.double()).sum(-1), rtol=1e-5)
    assert q.log_prob(z).shape == (7, 4)


def test_log_prob_integrates_to_one() -> None:
    q = DiagonalGaussian(torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[-0.4]], dtype=torch.float64))
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None, None]
    for p in (q, StandardNormal(1)):
        assert torch.trapezoid(p.log_prob(grid).exp().flatten(), grid.flatten()).item() == pytest.approx(1.0, abs=1e-9)


def test_closed_form_kl_is_torchs() -> None:
    q, p = gaussian(0), gaussian(1)
    standard = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    torch.testing.assert_close(closed_form_kl(q, StandardNormal(3)), kl_divergence(as_torch(q), standard))
    torch.testing.assert_close(closed_form_kl(q, p), kl_divergence(as_torch(q), as_torch(p)))
    torch.testing.assert_close(closed_form_kl(as_torch(q), as_torch(p)), closed_form_kl(q, p))
    assert closed_form_kl(q, p).shape == (4,)


def test_closed_form_kl_is_zero_only_at_equality() -> None:
    q = gaussian()
    torch.testing.assert_close(closed_form_kl(q, q), torch.zeros(4), atol=1e-6, rtol=0)
    assert (closed_form_kl(q, gaussian(1)) > 0.1).all()
    assert not torch.allclose(closed_form_kl(q, gaussian(1)), closed_form_kl(gaussian(1), q))


@pytest.mark.parametrize("prior", [StandardNormal(3), gaussian(1)], ids=["standard", "gaussian"])
@pytest.mark.parametrize("foreign", [False, True], ids=["own", "torch"])
def test_closed_form_and_sampled_rates_agree_in_expectation(prior: object, foreign: bool) -> None:
    q = gaussian()
    posterior = as_torch(q) if foreign else q
    rate = closed_form_kl(q, prior)
    latent = Latent(draw(posterior, NOISE, "latent", (40000,)), posterior, prior)  # type: ignore[arg-type]
    sampled = -latent.log_ratio.double()
    error = sampled.std(0) / math.sqrt(len(sampled))
    assert ((sampled.mean(0) - rate).abs() < 4 * error).all()
    assert (error < 0.05 * rate).all()  # the comparison is sharp


def test_there_is_no_closed_form_where_there_is_none() -> None:
    mixture = MixtureSameFamily(Categorical(torch.ones(2)), Independent(Normal(torch.zeros(2, 3), 1.0), 1))
    q = gaussian()
    assert closed_form_kl(as_torch(q), mixture) is None
    assert closed_form_kl(as_torch(q), StandardNormal(3)) is None
    assert closed_form_kl(q, mixture) is None
    assert closed_form_kl(None, mixture) is None


def test_the_rate_without_a_closed_form_is_one_samples_ratio() -> None:
    q = gaussian()
    mixture = MixtureSameFamily(Categorical(torch.ones(2)), Independent(Normal(torch.zeros(2, 3), 1.0), 1))
    latent = Latent(draw(q, NOISE, "latent", (6,)), q, mixture)  # type: ignore[arg-type]
    assert latent.rate.shape == (6, 4)
    assert torch.equal(latent.rate, -latent.log_ratio)


def test_draw_is_reparameterized_and_takes_its_noise_from_the_argument() -> None:
    q = gaussian()
    standard = NOISE.normal("latent", (3,), (2,))
    for posterior in (q, as_torch(q), as_torch(q).base_dist):
        torch.testing.assert_close(draw(posterior, NOISE, "latent", (2,)), q.loc + q.scale * standard)
    assert torch.equal(draw(StandardNormal(3), NOISE, "latent", (2,)), standard)
    loc, log_scale = q.loc.clone().requires_grad_(), q.log_scale.clone().requires_grad_()
    draw(DiagonalGaussian(loc, log_scale), NOISE, "latent").sum().backward()
    torch.testing.assert_close(loc.grad, torch.ones(4, 3))
    torch.testing.assert_close(log_scale.grad, q.scale * NOISE.normal("latent", (3,)))


def test_draw_has_the_moments_of_the_distribution() -> None:
    q = gaussian()
    z = draw(q, NOISE, "latent", (20000,)).double()
    assert ((z.mean(0) - q.loc) / q.scale).abs().max() < 4.5 / math.sqrt(20000)
    assert (z.std(0) / q.scale - 1).abs().max() < 4.5 / math.sqrt(2 * 20000)


def test_draw_refuses_what_it_cannot_reparameterize() -> None:
    with pytest.raises(TypeError, match="Categorical has no reparameterized sample"):
        draw(Categorical(torch.ones(2)), NOISE, "latent")


def test_a_flow_draws_through_its_base_and_scores_what_it_drew() -> None:
    zuko = pytest.importorskip("zuko")
    torch.manual_seed(0)
    flow = zuko.flows.MAF(3, 2, transforms=2, hidden_features=(8,))(torch.randn(4, 2))
    z = draw(flow, NOISE, "latent")
    torch.testing.assert_close(flow.transform(z), NOISE.normal("latent", (3,)), atol=1e-4, rtol=1e-4)
    latent = Latent(z, flow, StandardNormal(3))
    assert closed_form_kl(flow, StandardNormal(3)) is None
    assert torch.equal(latent.rate, -latent.log_ratio)
    assert torch.isfinite(latent.rate).all()
    assert latent.code.shape == (4, 3)
