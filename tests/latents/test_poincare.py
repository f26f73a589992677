"""The posterior in hyperbolic space: its head, its geometry, and its figures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import vaekit
from vaekit.errors import InputError
from vaekit.figures import make_figures
from vaekit.generation import corners, encode, interpolate, prior_quantiles, prior_spread, reconstruct, sample, traverse
from vaekit.latents.poincare import Ball, WrappedNormalPosterior
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.objectives import bounds
from vaekit.probability.distributions import draw
from vaekit.probability.poincare_ball import LARGEST
from vaekit.probability.wrapped_normal import WrappedNormal
from vaekit.training.reporting import Silent

IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def build(num_latents: int, curvature: float = 1.0) -> VAEModel:
    torch.manual_seed(0)
    posterior = WrappedNormalPosterior(curvature)
    config = VAEConfig(latent_dim=num_latents, network=MLP(hidden=(9,)), posterior=posterior)
    return config.build(cases.info((1, 8, 8))).eval()


@pytest.mark.parametrize("curvature", [0.01, 1.0, 3.0])
def test_head_places_its_centres_inside_and_hardly_moves_near_ones(curvature: float) -> None:
    head = WrappedNormalPosterior(curvature).build(5, 3)
    features = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    vector, log_variance = head.map(0.01 * features).chunk(2, -1)
    near = head(0.01 * features)
    torch.testing.assert_close(head.geometry.chart(near.mean), vector, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(
        near.log_scale, 0.5 * log_variance, rtol=0, atol=0.03
    )  # the corner of its limit at c = 3
    distance = math.sqrt(curvature) * head.geometry.chart(head(features).mean).norm(dim=-1)
    spatial = math.sqrt(curvature) * head.map(features).chunk(2, -1)[0].norm(dim=-1)
    torch.testing.assert_close(distance.sinh(), spatial, rtol=1e-4, atol=1e-6)  # of the hyperboloid
    far = head(1e6 * features)
    assert (math.sqrt(curvature) * far.mean.norm(dim=-1) < LARGEST).all()
    far.mean.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


@pytest.mark.parametrize("curvature", [0.01, 1.0, 3.0])
@pytest.mark.parametrize("centre", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("log_variance", [-1e6, -20.0, 20.0, 1e6])
def test_no_scale_buys_a_rate_below_zero(curvature: float, centre: float, log_variance: float) -> None:
    """Scales beyond the ball, and finer than rounding: the mean rate of 2,000 samples stays a KL, which is not negative."""
    head = WrappedNormalPosterior(curvature).build(1, 2)
    with torch.no_grad():
        head.map.weight.zero_()
        head.map.bias.copy_(torch.tensor([centre, 0.0, log_variance, log_variance]))
        q, prior = head(torch.zeros(1, 1)), WrappedNormalPosterior(curvature).standard(2)(None)
        z = draw(q, Noise.from_seed(0, 1), "latent", (2000,))
        found = q.log_prob(z) - prior.log_prob(z)
        # the entropy of the noise is known: what the density says of its own samples is off by less than 0.1 nats
        assert abs((q.log_prob(z) - _own_density(q, z)).mean().item()) < 0.1
    assert torch.isfinite(found).all()
    assert found.mean() > -0.05


def _own_density(q: WrappedNormal, z: Tensor) -> Tensor:
    """The density from the noise that was drawn, before any rounding."""
    standard = Noise.from_seed(0, 1).normal("latent", (z.shape[-1],), z.shape[:1]).double()
    vector = q.log_scale.double().exp() * standard
    length = math.sqrt(q.ball.curvature) * vector.norm(dim=-1)
    normal = -0.5 * (standard.square() + math.log(2 * math.pi)).sum(-1) - q.log_scale.double().sum(-1)
    return normal - (length.sinh() / length).log()


def test_no_features_have_a_finite_slope() -> None:
    head = WrappedNormalPosterior().build(5, 3)
    q = head(torch.zeros(2, 5))
    z = draw(q, Noise.from_seed(0, 2), "latent")
    (q.log_prob(z) + z.sum(-1)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


def test_a_ball_too_curved_for_single_precision_is_refused() -> None:
    message = r"^--curvature 5: a prior of 16 latents reaches .*; give 2.9 or less, or fewer latents$"
    with pytest.raises(InputError, match=message):
        build(16, curvature=5.0)
    assert build(16, curvature=2.9).geometry.kind == "ball"


def test_model_provides_a_rate_and_path_gradients_but_no_rate_by_dimension() -> None:
    provides = build(3).provides
    assert {"rate", "log_w", "path", "vectors"} <= provides
    assert not {"diagonal", "rate_by_dimension"} & provides


@pytest.mark.parametrize("curvature", [0.1, 1.0])
def test_rate_is_one_samples_and_bounds_are_in_order(curvature: float) -> None:
    model = build(3, curvature)
    with torch.no_grad():
        found = model.draw(cases.plain_batch(IMAGES), (2000,), Noise.from_seed(0, 4))
    assert torch.equal(found.rate, -found.latents[0].log_ratio)
    assert (found.rate.mean(0) > 0).all()
    # the mean importance weight of posterior samples under the prior alone is 1: within 4.5 standard errors
    weight = found.latents[0].log_ratio.exp()
    assert ((weight.mean(0) - 1.0).abs() < 4.5 * weight.std(0) / math.sqrt(2000)).all()
    assert bounds.importance_weighted(found.log_w).mean() >= bounds.elbo(found).mean()


def test_the_decoder_reads_vectors_at_the_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = build(3), []
    forward = model.decoder.forward

    def look(latents: Tensor, *given: Any) -> Any:
        seen.append(latents)
        return forward(latents, *given)

    monkeypatch.setattr(model.decoder, "forward", look)
    latents = model.sample_prior(500, None, Noise.from_seed(0, 500))
    model.decode(latents)
    assert (latents.norm(dim=-1) < 1).all()
    torch.testing.assert_close(model.geometry.point(seen[0]), latents)
    assert abs(seen[0].std().item() - 1.0) < 4.5 / math.sqrt(2 * 1500)  # N(0, I), whatever the curvature


def test_chart_and_point_are_inverse_up_to_the_boundary() -> None:
    space = Ball(2.0)
    vector = 1.2 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(space.chart(space.point(vector)), vector, rtol=1e-2, atol=1e-5)
    kept = space.point(1e6 * vector)
    assert (math.sqrt(2.0) * kept.norm(dim=-1) <= LARGEST + 1e-6).all()
    assert torch.isfinite(space.chart(kept)).all()


def test_walks_are_those_of_hyperbolic_space() -> None:
    model = build(2)
    start, end = encode(model, IMAGES[:2]), encode(model, IMAGES[2:])
    ways = model.geometry.path(start, end, torch.linspace(0, 1, 5))
    torch.testing.assert_close(ways[:, 0], start, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ways[:, -1], end, rtol=1e-5, atol=1e-6)
    found = interpolate(model, IMAGES[:2], IMAGES[2:], 5)
    torch.testing.assert_close(found[:, 0], reconstruct(model, IMAGES[:2]))
    torch.testing.assert_close(found, model.decode(ways).mean)
    assert corners(model, IMAGES, 3).shape == (3, 3, 1, 8, 8)
    centre, scale = prior_spread(model)
    assert torch.equal(centre, torch.zeros(2))
    assert torch.equal(scale, torch.ones(2))
    torch.testing.assert_close(prior_quantiles(model, 3)[:, 0], torch.special.ndtri(torch.tensor([0.02, 0.5, 0.98])))
    moved = model.geometry.moved(start[0], torch.tensor([1]), torch.tensor([[-2.0, 0.5]]))
    chart = model.geometry.chart(moved)[0]
    torch.testing.assert_close(chart[:, 1], torch.tensor([-2.0, 0.5]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(chart[:, 0], model.geometry.chart(start[0])[0].expand(2), rtol=1e-4, atol=1e-5)
    assert traverse(model, start, torch.arange(2), torch.tensor([-2.0, 0.5])).shape == (2, 2, 2, 1, 8, 8)


def test_temperature_scales_distances_from_the_origin() -> None:
    model = build(3)
    latents = model.sample_prior(5, None, Noise.from_seed(0, 5))
    cooled = model.geometry.tempered(latents, 0.5)
    torch.testing.assert_close(model.geometry.chart(cooled), 0.5 * model.geometry.chart(latents))
    torch.testing.assert_close(sample(model, 3, temperature=0.0), model.decode(torch.zeros(3, 3)).mean)


def test_figures_say_what_they_show(tmp_path_factory: pytest.TempPathFactory) -> None:
    given = vaekit.configure(
        "mlp", data="digits", train_limit=250, validation=51, batch_size=32, hidden="16", epochs=1, device="cpu",
        threads=1, posterior="wrapped-normal", latent_dim=2,
    )  # fmt: skip
    run = vaekit.train(tmp_path_factory.mktemp("ball") / "run", config=given, observer=Silent())
    captions = {file.path.stem: file.caption for file in make_figures(run)}
    assert {"manifold", "latents", "latents-images", "interpolations", "traversals", "corners"} <= set(captions)
    assert "seen from its origin" in captions["latents"]
    assert "prior N(0, I)" in captions["latents"]
    assert "shortest way in hyperbolic space" in captions["interpolations"]
    assert all(caption.endswith(".") for caption in captions.values())
