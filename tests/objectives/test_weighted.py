"""Three estimators of one gradient: the same value, the right mean, and what they are chosen for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cases
from vaekit.errors import InputError
from vaekit.latents.gaussian import DiagonalGaussianHead, StandardNormalPrior
from vaekit.models.draw import Draw
from vaekit.models.vae import VAEModel
from vaekit.noise import Noise
from vaekit.objectives.bounds import importance_weighted
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.table import MODEL
from vaekit.objectives.weighted import Gradient, needs_of, weighted_bound
from vaekit.probability.distributions import DiagonalGaussian
from vaekit.probability.likelihoods import Bernoulli
from vaekit.settings import configure
from vaekit.training.reporting import Silent
from vaekit.training.train import train
from weighted_cases import (
    conditional_draw,
    conditional_model,
    draw_of,
    expected_slope,
    gradients,
    linear,
    linear_draw,
    losses_of,
    of_posterior,
    z_scores,
)

GRADIENTS: list[Gradient] = ["standard", "dreg", "stl"]
PATHS: list[Gradient] = ["dreg", "stl"]


def loss_of(draw: Draw, gradient: Gradient, dim: int = 0) -> Tensor:
    return -weighted_bound(draw, gradient, dim).mean()


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(("samples", "dim"), [((1,), 0), ((5,), 0), ((2, 3), 1)])
def test_the_value_is_the_bound(gradient: Gradient, samples: tuple[int, ...], dim: int) -> None:
    _, draw = linear_draw(samples, 0.4, 0.3)
    found = weighted_bound(draw, gradient, dim)
    assert found.shape == (*samples[:dim], 40)
    assert found.requires_grad
    torch.testing.assert_close(found, importance_weighted(draw.log_w, dim))


@pytest.mark.parametrize("gradient", GRADIENTS)
@torch.no_grad()
def test_without_gradients_as_in_validation_it_is_the_value_alone(gradient: Gradient) -> None:
    _, draw = linear_draw((5,), 0.4, 0.3)
    assert torch.equal(weighted_bound(draw, gradient), importance_weighted(draw.log_w))


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_one_sample_has_the_elbos_gradient(gradient: Gradient) -> None:
    """The mean over 8000 draws is that of KL(q || p(z | x)), which is known; |z| < 4.5 in each of 8 numbers, fixed seed.

    In units of the exact posterior's standard deviation the gradient of the KL is the shift in the mean, and
    exp(log-variance) - 1 in the log-scale.
    """
    oracle, images = linear()
    draw = draw_of(oracle.model(0.4, 0.3), images[:1].expand(8000, -1, -1, -1), (1,))
    found = of_posterior(draw, loss_of(draw, gradient))
    scale = torch.from_numpy(oracle.posterior(images[:1].numpy())[1]).sqrt()
    expected = torch.cat([0.4 / scale, torch.full((4,), 0.3, dtype=torch.float64).exp() - 1.0])
    assert z_scores(found, expected).abs().max() < 4.5
    assert (found.std(0) > 0.01).all()


def test_one_sample_makes_both_path_gradients_the_same() -> None:
    model, draw = linear_draw((1,), 0.4, 0.3)
    doubly, sticking = (gradients(model, loss_of(draw, gradient)) for gradient in PATHS)
    for name, expected in sticking.items():
        torch.testing.assert_close(doubly[name], expected)


@pytest.mark.parametrize(("gradient", "unbiased"), [("standard", True), ("dreg", True), ("stl", False)])
def test_several_samples_have_the_bounds_gradient_but_for_stl(gradient: Gradient, unbiased: bool) -> None:
    """Against quadrature, two samples of one latent, 20000 draws: |z| < 4.5 in mean and log-scale; stl is biased."""
    oracle, images = linear(1)
    draw = draw_of(oracle.model(0.8, 0.6), images[:1].expand(20000, -1, -1, -1), (2,))
    scale = torch.from_numpy(oracle.posterior(images[:1].numpy())[1]).sqrt()
    expected = -expected_slope(0.8, 0.6, 2) / torch.cat([scale, torch.ones(1)])
    z = z_scores(of_posterior(draw, loss_of(draw, gradient)), expected).abs()
    assert z.max() < 4.5 if unbiased else z.max() > 20.0


def test_dreg_and_standard_agree_for_every_parameter() -> None:
    """Differences over 60 batches of 50 draws of 5 samples: |z| < 5 in each parameter."""
    oracle, images = linear()
    model, many = oracle.model(0.4, 0.3), images[:1].expand(50, -1, -1, -1)
    found = [paired(model, draw_of(model, many, (5,), seed)) for seed in range(60)]
    assert_no_drift(torch.stack(found))


def paired(model: nn.Module, draw: Draw) -> Tensor:
    """The dreg gradient less the standard one, all parameters in one."""
    doubly, standard = (gradients(model, loss_of(draw, gradient)) for gradient in ("dreg", "standard"))
    return torch.cat([(doubly[name] - standard[name]).flatten() for name in doubly])


def assert_no_drift(found: Tensor) -> None:
    moves = found.std(0) > 1e-4
    assert moves.any()
    z = z_scores(found[:, moves])
    assert z.abs().max() < 5.0
    assert found[:, ~moves].abs().max() < 1e-2


class ReadsEncoder(nn.Module):
    """The posteriors of two images, averaged: a prior that moves with the encoder."""

    reads_encoder = True

    def __init__(self, images: Tensor):
        super().__init__()
        self.images = images

    def forward(self, code: Tensor | None, encode: Any) -> DiagonalGaussian:
        q = encode(self.images, None)
        return DiagonalGaussian(q.loc.mean(0), q.log_scale.mean(0) + 0.5)


def tiny(posterior: nn.Module | None = None, prior: nn.Module | None = None) -> tuple[VAEModel, Tensor]:
    """Two latents, four pixels, networks with a bend; and the images."""
    torch.manual_seed(3)
    images = torch.rand(4, 1, 2, 2)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 4), nn.Unflatten(1, (1, 2, 2)))
    head = posterior or DiagonalGaussianHead(3, 2)
    return VAEModel(encoder, head, prior or ReadsEncoder(images[:2]), decoder, Bernoulli().build(1)), images


def test_a_prior_that_reads_the_encoder_keeps_the_standard_gradient() -> None:
    """The weights of the encoder then have a part that is not squared: 60 batches of 200 draws, |z| < 5 in each."""
    model, images = tiny()
    found = [paired(model, draw_of(model, images[:1].expand(200, -1, -1, -1), (3,), seed)) for seed in range(60)]
    assert_no_drift(torch.stack(found))


def test_a_flow_has_the_same_mean_gradient() -> None:
    """A posterior whose density is not that of its base: 40 batches of 200 draws, |z| < 5 in each parameter."""
    import zuko

    flow = zuko.flows.MAF(2, 3, transforms=1, hidden_features=(5,))
    model, images = tiny(flow, StandardNormalPrior(2))
    found = [paired(model, draw_of(model, images[:1].expand(200, -1, -1, -1), (3,), seed)) for seed in range(40)]
    assert_no_drift(torch.stack(found))


def test_by_hand() -> None:
    """v^2 dlog w / dz for dreg and v dlog w / dz for stl, v the normalized weights, from formulas written out here."""
    model = conditional_model()
    draw = conditional_draw(model, (4,))
    q: Any = draw.latents[0].posterior
    z = draw.latents[0].value.detach().requires_grad_()
    code = model.code(cases.random_images((1, 8, 8), 12).labels).detach()
    fixed = torch.distributions.Normal(q.loc.detach(), q.scale.detach())
    log_w = model.decode(z, code=code).log_prob(draw.target) - 0.5 * (z.square() + 1.8378770664).sum(-1)
    log_w = log_w - fixed.log_prob(z).sum(-1)
    (slope,) = torch.autograd.grad(log_w.sum(), z)
    weight = log_w.detach().softmax(0)[..., None]
    noise = (z.detach() - q.loc.detach()) / q.scale.detach()
    for gradient, power in (("dreg", 2), ("stl", 1)):
        moved = weight**power * slope
        expected = -torch.cat([moved.sum(0), (moved * noise * q.scale).sum(0)], -1)
        found = of_posterior(draw, loss_of(draw, gradient))
        torch.testing.assert_close(found, expected.double(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("gradient", PATHS)
def test_what_generates_has_the_standard_gradient(gradient: Gradient) -> None:
    model = conditional_model()
    draw = conditional_draw(model, (4,))
    found, expected = (gradients(model, loss_of(draw, each)) for each in (gradient, "standard"))
    for name, of_standard in expected.items():
        if name.startswith("decoder"):
            torch.testing.assert_close(found[name], of_standard, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found["posterior.map.weight"], expected["posterior.map.weight"], rtol=1e-2)
    assert all(torch.isfinite(each).all() for each in found.values())


def test_groups_of_samples_are_weighed_among_themselves() -> None:
    """The M axis only averages: each of two bounds of three samples alone, for every gradient."""
    oracle, images = linear()
    model = oracle.model(0.6, 0.5)
    both = draw_of(model, images, (2, 3))
    for gradient in GRADIENTS:
        found = of_posterior(both, loss_of(both, gradient, 1))
        halves = []
        for first in (0, 3):
            noise = Noise.from_seed(0, 40)._replace(first_sample=first)
            half = model.draw(cases.plain_batch(images), (3,), noise)
            halves.append(of_posterior(half, loss_of(half, gradient)))
        torch.testing.assert_close(found, torch.stack(halves).mean(0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 8])
def test_an_exact_posterior_stands_still_under_the_path_gradients(samples: int) -> None:
    """log w is then log p(x) for every z; the standard gradient still has variance."""
    _, draw = linear_draw((samples,), 0.0, 0.0)
    for gradient in PATHS:
        assert of_posterior(draw, loss_of(draw, gradient)).abs().max() < 2e-3
    assert of_posterior(draw, loss_of(draw, "standard")).std(0).min() > 0.1


def signal_to_noise(gradient: Gradient, samples: int) -> float:
    oracle, images = linear(1)
    draw = draw_of(oracle.model(0.8, 0.6), images[:1].expand(1000, -1, -1, -1), (samples,))
    found = of_posterior(draw, loss_of(draw, gradient))
    return float((found.mean(0).abs() / found.std(0))[0])


def test_more_samples_drown_the_standard_gradient_and_not_dreg() -> None:
    """Signal over noise of the mean's gradient falls as 1 / sqrt(K), and with dreg rises as sqrt(K), over 1000 draws."""
    standard = [signal_to_noise("standard", samples) for samples in (2, 32)]
    doubly = [signal_to_noise("dreg", samples) for samples in (2, 32)]
    assert standard[1] < 0.5 * standard[0]
    assert doubly[1] > 2.0 * doubly[0]


def test_further_terms_over_the_same_latents_are_left_alone() -> None:
    """A penalty in the same loss, a second loss over the same draw, and a second pass back keep their gradients."""
    _, draw = linear_draw((4,), 0.4, 0.3)
    loss = loss_of(draw, "dreg")
    penalty = draw.latents[0].value.square().sum(-1).mean()
    alone, of_penalty = of_posterior(draw, loss), of_posterior(draw, penalty)
    torch.testing.assert_close(of_posterior(draw, loss + penalty), alone + of_penalty, rtol=1e-4, atol=1e-3)
    assert torch.equal(of_posterior(draw, loss), alone)
    plain = losses_of(Elbo(), draw).players[MODEL]
    _, untouched = linear_draw((4,), 0.4, 0.3)
    expected = of_posterior(untouched, losses_of(Elbo(), untouched).players[MODEL])
    assert torch.equal(of_posterior(draw, plain), expected)


def test_a_path_needs_a_density_that_can_be_held_fixed() -> None:
    assert needs_of("standard") == {"log_w"}
    assert needs_of("dreg") == needs_of("stl") == {"log_w", "path", "vectors"}


def test_a_model_without_it_is_refused_in_one_sentence(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiagonalGaussianHead, "rescored", False, raising=False)
    config = configure("mlp", data="digits", objective="iwae", gradient="dreg")
    with pytest.raises(InputError, match=r"^--objective iwae: needs a posterior density that can be taken at given"):
        train(tmp_path / "run", config=config, observer=Silent())
