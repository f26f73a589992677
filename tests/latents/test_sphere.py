"""The posterior on a sphere: its head, its geometry, and whole runs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import cases
import vaekit
from vaekit.errors import InputError
from vaekit.figures import make_figures
from vaekit.generation import corners, encode, interpolate, manifold, prior_quantiles, prior_spread, sample, traverse
from vaekit.latents.sphere import Sphere, VonMisesFisherPosterior
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.networks.conditioning import OneHot
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.objectives import bounds
from vaekit.probability.distributions import draw
from vaekit.runs import Run
from vaekit.training.reporting import Silent

SMALL = {
    "data": "digits", "train_limit": 250, "validation": 51, "batch_size": 32, "hidden": "16", "epochs": 2,
    "device": "cpu", "threads": 1, "posterior": "von-mises-fisher",
}  # fmt: skip


def build(num_latents: int, conditional: bool = False) -> VAEModel:
    torch.manual_seed(0)
    config = VAEConfig(
        latent_dim=num_latents,
        network=MLP(hidden=(9,)),
        posterior=VonMisesFisherPosterior(),
        **({"conditioning": OneHot()} if conditional else {}),
    )
    return config.build(cases.info((1, 8, 8))).eval()


IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_head_is_as_published() -> None:
    head = VonMisesFisherPosterior().build(5, 3)
    features = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    q, mapped = head(features), head.map(features)
    torch.testing.assert_close(q.mean, F.normalize(mapped[:, :3], dim=-1))
    torch.testing.assert_close(q.concentration, F.softplus(mapped[:, 3]) + 1.0)


def test_features_without_a_direction_have_one_and_a_finite_slope() -> None:
    head = VonMisesFisherPosterior().build(5, 3)
    q = head(torch.zeros(2, 5))
    assert torch.equal(q.mean, torch.tensor([[1.0, 0.0, 0.0]]).expand(2, 3))
    z = draw(q, Noise.from_seed(0, 2), "latent")
    (q.log_prob(z) + z.sum(-1)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


def test_one_dimension_is_refused() -> None:
    with pytest.raises(InputError, match=r"^--latent-dim 1: a sphere needs 2 dimensions or more; give --latent-dim 2$"):
        build(1)


def test_model_provides_a_rate_and_path_gradients_but_no_rate_by_dimension() -> None:
    provides = build(3).provides
    assert {"rate", "log_w", "path", "vectors"} <= provides
    assert not {"diagonal", "rate_by_dimension"} & provides


@pytest.mark.parametrize("num_latents", [2, 3, 10])
def test_closed_form_rate_is_the_mean_of_samples(num_latents: int) -> None:
    """Within 4.5 standard errors of -log_ratio over 2,000 samples."""
    model = build(num_latents)
    with torch.no_grad():
        found = model.draw(cases.plain_batch(IMAGES), (2000,), Noise.from_seed(0, 4))
    gap = found.latents[0].rate + found.latents[0].log_ratio
    assert found.rate.shape == (4,)
    assert (gap.mean(0).abs() < 4.5 * gap.std(0) / math.sqrt(2000)).all()
    assert bounds.importance_weighted(found.log_w).mean() >= bounds.elbo(found).mean()


def test_path_gradients_leave_the_parameters_of_the_density_out() -> None:
    """Their mean is that of the whole gradient, by a z-test of 4.5 standard errors over the concentration's bias."""
    model = build(3)
    noise, batch = Noise.from_seed(0, 4), cases.plain_batch(IMAGES)
    found = model.draw(batch, (3000,), noise)
    value, again = found.latents[0].value, found.rescore(path_only=True).latents[0]
    bias = model.posterior.map.bias
    totals = []
    for latent in (found.latents[0], again):
        each = latent.prior.log_prob(value) - latent.posterior.log_prob(value)
        torch.testing.assert_close(each, found.latents[0].log_ratio)
        totals.append(torch.autograd.grad(each.mean(0).sum(), bias, retain_graph=True)[0])
    whole, path = totals
    assert not torch.equal(whole, path)
    exact = torch.autograd.grad(-found.latents[0].rate.sum(), bias)[0]
    torch.testing.assert_close(path[-1], exact[-1], rtol=0.1, atol=0.02)


@pytest.mark.parametrize("num_latents", [2, 3, 8])
def test_every_walk_stays_on_the_sphere(num_latents: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(num_latents)
    seen = []
    decode = type(model).decode

    def look(self: VAEModel, latents: Tensor, *given: Any, **more: Any) -> Any:
        seen.append(latents)
        return decode(self, latents, *given, **more)

    monkeypatch.setattr(type(model), "decode", look)
    interpolate(model, IMAGES[:2], IMAGES[2:], 5)
    corners(model, IMAGES, 3)
    centre, scale = prior_spread(model)
    assert centre.abs().max() < 4.5 * scale.max() / 64
    torch.testing.assert_close(scale, torch.full_like(scale, 1 / math.sqrt(num_latents)), rtol=0.1, atol=0)
    chosen = torch.arange(2)
    traverse(model, encode(model, IMAGES), chosen, torch.tensor([-2.0, -0.5, 0.0, 0.9]))
    sample(model, 5)
    if num_latents == 3:
        manifold(model, 4)
    for latents in seen:
        torch.testing.assert_close(latents.norm(dim=-1), torch.ones(latents.shape[:-1]))
    moved = seen[-3 if num_latents == 3 else -2].unflatten(0, (2, 4))
    for place in range(2):
        torch.testing.assert_close(moved[place, :, place], torch.tensor([-1.0, -0.5, 0.0, 0.9]))


def test_lines_go_evenly_along_great_circles() -> None:
    start, end = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.6, 0.8]])
    way = Sphere(3).path(start, end, torch.linspace(0, 1, 4))
    torch.testing.assert_close((way[:, 1:] * way[:, :-1]).sum(-1), torch.full((1, 3), math.cos(math.pi / 6)))


def test_maps_are_inverse_and_of_equal_area() -> None:
    for num_latents in (2, 3):
        space, noise = Sphere(num_latents), Noise.from_seed(0, 4000)
        points = F.normalize(noise.normal("x", (num_latents,)), dim=-1)
        places = space.drawn(points)
        assert places.shape == (4000, num_latents - 1)
        torch.testing.assert_close(space.placed(places), points, rtol=0, atol=1e-5)
        for axis, (low, high) in enumerate(space.range):
            shares = ((places[:, axis] - low) / (high - low)).sort().values
            gap = (shares - (torch.arange(4000) + 0.5) / 4000).abs().max()
            assert gap < 1.95 / math.sqrt(4000)  # Kolmogorov-Smirnov at a level of 0.001
    quantiles = prior_quantiles(build(3), 3)
    torch.testing.assert_close(quantiles[1], torch.zeros(2), rtol=0, atol=1e-4)
    assert Sphere(5).drawn(torch.ones(2, 5)).shape == (2, 5)


def test_a_temperature_is_refused_in_one_sentence() -> None:
    model = build(3)
    assert sample(model, 2, temperature=1.0).shape == (2, 1, 8, 8)
    with pytest.raises(
        InputError, match=r"^--temperature 0.5: the uniform prior on a sphere is equally likely everywhere"
    ):
        sample(model, 2, temperature=0.5)


def test_conditional_models_walk_too() -> None:
    model, labels = build(4, conditional=True), torch.tensor([0, 1, 2, 1])
    assert interpolate(model, IMAGES[:2], IMAGES[2:], 3, labels[:2], labels[2:]).shape == (2, 3, 1, 8, 8)
    assert corners(model, IMAGES, 3, labels).shape == (3, 3, 1, 8, 8)


@pytest.fixture(scope="module", params=[2, 3])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("sphere") / "run"
    return vaekit.train(path, config=vaekit.configure("mlp", latent_dim=request.param, **SMALL), observer=Silent())


def test_figures_know_the_circle_and_the_sphere(run: Run) -> None:
    dim = vaekit.load_model(run.path)[1].model.latent_dim
    files = {file.path.stem: file for file in make_figures(run)}
    assert {"manifold", "latents", "interpolations", "traversals", "corners", "samples"} <= set(files)
    assert ("latents-images" in files) == (dim == 3)
    captions = {name: file.caption for name, file in files.items()}
    assert not any("N(0" in caption or "arc" in caption.split() for caption in captions.values())
    assert "shortest way on the sphere" in captions["interpolations"]
    assert all(caption.endswith(".") for caption in captions.values())
