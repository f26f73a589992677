"""Regularized autoencoders: penalties by hand, Jacobians written out, singular values by a decomposition."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_autoencoder import SMALL
from torch import Tensor, nn

import cases
import vaekit
from helpers_run import interrupted_at
from vaekit.config import hints
from vaekit.data.batches import Batch
from vaekit.errors import InputError, RunError
from vaekit.latents.deterministic import DeterministicHead, DeterministicPosterior
from vaekit.latents.gaussian import StandardNormalPrior
from vaekit.models.draw import Draw
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.networks.conditioning import OneHot
from vaekit.networks.conv import Conv
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.objectives.rae import (
    Rae,
    decoder_parameters,
    largest_singular_value,
    limit_singular_values,
    squared_jacobian,
    sum_of_squares,
)
from vaekit.objectives.table import MODEL, Context
from vaekit.probability.likelihoods import Gaussian
from vaekit.settings import configure
from vaekit.training.reporting import Silent

SHAPE, LATENTS = (1, 8, 8), 3


def build(network: Any = None, **parts: Any) -> VAEModel:
    torch.manual_seed(0)
    config = VAEConfig(
        latent_dim=LATENTS, network=network or MLP(hidden=(9,)), posterior=DeterministicPosterior(), **parts
    )
    return config.build(cases.info(SHAPE))


@pytest.fixture
def fake_step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """One whole step on tensors that have no values."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "training")
    return importlib.import_module("test_step").fake_step


def linear_model() -> VAEModel:
    """A decoder that is a matrix (16, 3), with normal pixels, so that the Jacobian is that matrix."""
    torch.manual_seed(1)
    decoder = nn.Sequential(nn.Linear(LATENTS, 16), nn.Unflatten(1, (1, 4, 4)))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    return VAEModel(encoder, DeterministicHead(5, LATENTS), StandardNormalPrior(LATENTS), decoder, Gaussian().build())


def situation(model: VAEModel, images: Tensor, **hyper: float) -> tuple[Draw, Batch, Context]:
    batch = cases.plain_batch(images, torch.arange(len(images)) % 3)
    noise = Noise.from_seed(3, len(images))
    scalars = {name: torch.tensor(value) for name, value in hyper.items()}
    return model.draw(batch, (), noise), batch, Context(torch.tensor(0), scalars, 100, model, noise)


def run(regularizer: str, code_weight: float = 0.0, decoder_weight: float = 0.0) -> tuple[Any, Draw, VAEModel]:
    """The numbers come from the context, not from the objective's own fields."""
    model = build()
    images = cases.random_images(SHAPE, 6).unit()
    draw, batch, context = situation(model, images, code_weight=code_weight, decoder_weight=decoder_weight)
    return Rae(regularizer=regularizer, code_weight=7.0, decoder_weight=5.0)(draw, batch, context), draw, model


@pytest.mark.parametrize("regularizer", ["l2", "gp", "sn", "none"])
def test_without_weights_it_is_the_autoencoder(regularizer: str) -> None:
    (losses, terms), draw, _ = run(regularizer)
    assert set(losses) == {MODEL}
    torch.testing.assert_close(losses[MODEL], draw.distortion.mean())
    assert set(terms) == {"code_penalty"} | ({"decoder_penalty"} if regularizer in ("l2", "gp") else set())


def test_the_code_penalty_is_half_the_squared_length() -> None:
    (losses, terms), draw, _ = run("none", code_weight=3.0)
    expected = sum(0.5 * value**2 for code in draw.latents[0].value.tolist() for value in code) / 6
    assert terms["code_penalty"].item() == pytest.approx(expected, rel=1e-6)
    assert losses[MODEL].item() == pytest.approx(draw.distortion.mean().item() + 3.0 * expected, rel=1e-6)


def test_the_weight_penalty_is_that_of_the_decoder_alone() -> None:
    (losses, _), draw, model = run("l2", decoder_weight=0.1)
    expected = sum((weight.detach().double() ** 2).sum().item() for weight in model.decoder.parameters())
    assert expected > 1.0
    assert losses[MODEL].item() == pytest.approx(draw.distortion.mean().item() + 0.1 * expected, rel=1e-6)
    slopes = torch.autograd.grad(sum_of_squares(model), list(model.parameters()), allow_unused=True)
    decoders = {id(weight) for weight in model.decoder.parameters()}
    for weight, slope in zip(model.parameters(), slopes, strict=True):
        assert (slope is not None) == (id(weight) in decoders)
        assert slope is None or torch.allclose(slope, 2.0 * weight)


def test_a_model_without_a_decoder_of_its_own_gives_all_that_is_not_of_inference() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def inference_parameters(self) -> list[nn.Parameter]:
            return list(self.first.parameters())

    model = Other()
    assert [id(each) for each in decoder_parameters(model)] == [id(each) for each in model.second.parameters()]


def test_the_gradient_penalty_of_a_linear_decoder_is_the_squared_frobenius_norm() -> None:
    """Its mean over 20,000 images with a direction each; the z-bound is 4.5 standard errors."""
    model = linear_model()
    draw, batch, context = situation(model, torch.rand(20000, 1, 4, 4))
    found = squared_jacobian(draw.latents[0].value, batch, context).detach().double()
    expected = model.decoder[0].weight.double().square().sum().item()
    error = found.std().item() / math.sqrt(len(found))
    assert error < 0.02 * expected
    assert found.mean().item() == pytest.approx(expected, abs=4.5 * error)


def explicit(model: VAEModel, codes: Tensor, batch: Batch, noise: Noise) -> Tensor:
    """|J^T v|^2 of each image from the whole Jacobian, written down one code at a time."""
    direction = noise.normal("jacobian", SHAPE)
    found = []
    for place, code in enumerate(codes):
        condition = None if batch.condition is None else batch.condition[place : place + 1]

        def image(at: Tensor, condition: Tensor | None = condition) -> Tensor:
            return model.decode(at[None], condition).mean.flatten()

        jacobian = torch.autograd.functional.jacobian(image, code.detach())
        found.append((jacobian.T @ direction[place].flatten()).square().sum())
    return torch.stack(found)


@pytest.mark.parametrize("conditioning", [{}, {"conditioning": OneHot()}], ids=["plain", "conditional"])
@pytest.mark.parametrize(
    "network",
    [MLP(hidden=(9,)), Conv(channels=(4, 8), dense=9), Conv(channels=(4, 8), dense=9, normalization="batch")],
    ids=["mlp", "conv", "batch-normalization"],
)
def test_the_gradient_penalty_is_that_of_the_whole_jacobian(network: Any, conditioning: Any) -> None:
    model = build(network, **conditioning)
    draw, batch, context = situation(model, cases.random_images(SHAPE, 6).unit())
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    found = squared_jacobian(draw.latents[0].value, batch, context)
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert model.training
    expected = explicit(model.eval(), draw.latents[0].value, batch, context.noise)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_penalty_moves_decoder_and_encoder_as_finite_differences_say() -> None:
    model = build(MLP(hidden=(9,), activation="tanh"))
    images = cases.random_images(SHAPE, 4).unit()

    def penalty() -> Tensor:
        draw, batch, context = situation(model, images)
        return squared_jacobian(draw.latents[0].value, batch, context).sum()

    for part in (model.decoder, model.encoder):
        weight = next(each for each in part.parameters() if each.dim() == 2)
        (slope,) = torch.autograd.grad(penalty(), weight)
        way = slope / slope.norm()
        sides = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                weight += sign * 1e-2 * way
            sides.append(penalty().item())
            with torch.no_grad():
                weight -= sign * 1e-2 * way
        assert (sides[0] - sides[1]) / 2e-2 == pytest.approx(slope.norm().item(), rel=0.02)


def test_without_gradients_the_penalty_has_the_same_value() -> None:
    model = build(Conv(channels=(4, 8), dense=9))
    draw, batch, context = situation(model, cases.random_images(SHAPE, 6).unit())
    expected = squared_jacobian(draw.latents[0].value, batch, context)
    assert expected.requires_grad
    with torch.no_grad():
        found = squared_jacobian(draw.latents[0].value.detach(), batch, context)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (64, 3), (16, 8, 3, 3), (1, 4), (40, 40)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_largest_singular_value_is_never_underestimated_and_hardly_over(
    shape: tuple[int, ...], scale: float
) -> None:
    weight = scale * torch.randn(shape, generator=torch.Generator().manual_seed(5))
    exact = torch.linalg.svdvals(weight.flatten(1).double())[0].item()
    found = largest_singular_value(weight).item()
    assert exact * (1 - 1e-5) <= found <= exact * min(weight.flatten(1).shape) ** (1 / 128) * (1 + 1e-5)


def test_the_loosest_case_is_the_one_that_is_stated() -> None:
    assert largest_singular_value(torch.eye(64)).item() == pytest.approx(64 ** (1 / 128), rel=1e-5)
    assert 64 ** (1 / 128) < 1.04
    assert 512 ** (1 / 128) < 1.05


def test_weights_below_the_bound_and_vectors_stay_as_they_are() -> None:
    weights = [nn.Parameter(0.1 * torch.eye(4)), nn.Parameter(100.0 * torch.ones(4)), nn.Parameter(torch.zeros(3, 2))]
    before = [weight.detach().clone() for weight in weights]
    limit_singular_values(weights, torch.tensor(1.0))
    assert all(torch.equal(weight, kept) for weight, kept in zip(weights, before, strict=True))


def singular_values(model: nn.Module) -> list[float]:
    weights = [each for each in model.decoder.parameters() if each.dim() > 1]
    return [torch.linalg.svdvals(each.detach().double().flatten(1))[0].item() for each in weights]


def train(path: Path, **given: Any) -> Any:
    shape = {"channels": "4,8", "dense": 16} if given.get("preset") == "conv" else {"hidden": "16"}
    settings = {**SMALL, **shape, "objective": "rae", "posterior": "deterministic", **given}
    name = settings.pop("preset", "mlp")
    if name == "conv":
        settings.pop("hidden", None)
    return vaekit.train(path, config=configure(name, **settings), observer=Silent())


@pytest.mark.parametrize("preset", ["mlp", "conv"])
def test_trained_weights_keep_the_spectral_bound(preset: str, tmp_path: Path) -> None:
    bound = 0.7
    free, _, _ = vaekit.load_model(train(tmp_path / "free", preset=preset, regularizer="none").path)
    assert max(singular_values(free)) > 1.1 * bound
    held, _, _ = vaekit.load_model(train(tmp_path / "held", preset=preset, regularizer="sn", spectral_bound=bound).path)
    assert max(singular_values(held)) <= bound * (1 + 1e-5)
    assert max(singular_values(held)) > 0.9 * bound  # it binds, and no more than that
    assert set(held.state_dict()) == set(free.state_dict())


def test_averaged_weights_keep_the_spectral_bound_too(tmp_path: Path) -> None:
    run = train(tmp_path / "run", regularizer="sn", spectral_bound=0.7, ema_decay=0.9)
    assert max(singular_values(vaekit.load_model(run.path)[0])) <= 0.7 * (1 + 1e-5)


@pytest.mark.parametrize("regularizer", ["l2", "gp", "sn"])
def test_a_resumed_run_ends_at_the_same_weights(regularizer: str, tmp_path: Path) -> None:
    options = {"regularizer": regularizer, "preset": "conv", "spectral_bound": 0.7}
    whole = train(tmp_path / "whole", **options)
    with interrupted_at(9), pytest.raises(RunError, match="stopped at step 9"):
        train(tmp_path / "part", **options)
    assert vaekit.resume(tmp_path / "part", observer=Silent()).model.read_bytes() == whole.model.read_bytes()
    record = whole.metrics()[-1]
    for split in ("train", "val"):
        assert record[split]["code_penalty"] > 0
        assert ("decoder_penalty" in record[split]) == (regularizer != "sn")
        weighted = record["code_weight"] * record[split]["code_penalty"]
        weighted += record["decoder_weight"] * record[split].get("decoder_penalty", 0.0)
        assert record[split]["loss"] == pytest.approx(record[split]["distortion_nats"] + weighted, rel=1e-5)
    assert record["val"]["elbo_nats"] is None


@pytest.mark.parametrize(("regularizer", "weight"), [("l2", 1.0), ("gp", 30.0)])
def test_a_weight_makes_its_penalty_smaller(regularizer: str, weight: float, tmp_path: Path) -> None:
    found = [
        train(tmp_path / str(each), regularizer=regularizer, decoder_weight=each).metrics()[-1]["val"]
        for each in (0.0, weight)
    ]
    assert found[1]["decoder_penalty"] < 0.7 * found[0]["decoder_penalty"]
    assert found[1]["distortion_nats"] > found[0]["distortion_nats"]


@pytest.mark.parametrize("regularizer", hints(Rae)["regularizer"].__args__)
@pytest.mark.parametrize("network", [MLP(hidden=(9,)), Conv(channels=(4, 8), dense=9)], ids=["mlp", "conv"])
def test_nothing_in_a_step_waits_for_the_device(regularizer: str, network: Any, fake_step: Callable[..., None]) -> None:
    model = VAEConfig(latent_dim=LATENTS, network=network, posterior=DeterministicPosterior())
    fake_step(replace(Rae(), regularizer=regularizer), model)


def test_a_density_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--objective rae: needs a deterministic code \(--posterior deterministic\)"):
        train(tmp_path / "run", posterior="gaussian")
