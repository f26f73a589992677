"""The Riemannian Hamiltonian VAE against a model of known evidence, its memory, and through a whole run."""

from __future__ import annotations

import math
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cases
import vaekit
from helpers_run import interrupted_at, timeless
from oracles import LinearGaussian
from vaekit.config import replace
from vaekit.data.batches import Data
from vaekit.data.images import Splits
from vaekit.errors import InputError, RunError
from vaekit.evaluation.likelihood import estimate
from vaekit.models.draw import Draw
from vaekit.models.hamiltonian import HamiltonianVAE
from vaekit.models.hamiltonian_flow import LeapfrogFlow
from vaekit.models.metric import Memory, MetricNetwork
from vaekit.models.riemannian import RiemannianConfig, RiemannianVAE
from vaekit.models.vae import VAEModel
from vaekit.networks.conditioning import OneHot
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.settings import configure
from vaekit.training.reporting import Silent
from vaekit.training.train import train

SHAPE = (1, 8, 8)
SMALL = RiemannianConfig(latent_dim=3, network=MLP(hidden=(9,)), metric_hidden=(7,), centroids=10)


@pytest.fixture(scope="module")
def linear(digits: Splits) -> tuple[LinearGaussian, Tensor]:
    """The oracle with 5 latents, fitted to the digits, and 40 of them."""
    images = digits.train.unit()
    return LinearGaussian.fit(images.numpy(), 5), images[:40]


def draw_of(model: VAEModel, images: Tensor, samples: int) -> Draw:
    return model.draw(cases.plain_batch(images), (samples,), Noise.from_seed(0, len(images)))


def curved(parts: VAEModel, flow: LeapfrogFlow, floor: float = 0.1, iterations: int = 3) -> RiemannianVAE:
    """Around an oracle with 5 latents: centroids where some posteriors are, matrices as a network makes them."""
    torch.manual_seed(0)
    network, memory = MetricNetwork(MLP((6,)).encoder(SHAPE, 0), 5), Memory(20, 5)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.5)
    memory.take(torch.randn(20, 5), network(torch.rand(20, *SHAPE), None))
    return RiemannianVAE(parts, flow, network, memory, 2.0, floor, iterations).eval()


def build(config: RiemannianConfig = SMALL, filled: bool = True, **info: Any) -> Any:
    torch.manual_seed(0)
    model = config.build(cases.info(SHAPE, **info))
    if filled:
        model.memory.take(torch.randn(7, 3), model.network(torch.rand(7, *SHAPE), None))
    return model


# against a known evidence


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "tempering", "iterations"), [(0.05, "none", 3), (0.05, "fixed", 3), (0.08, "none", 1), (0.05, "free", 1)]
)
def test_weights_average_to_the_evidence(
    size: float, tempering: Any, iterations: int, linear: tuple[LinearGaussian, Tensor]
) -> None:
    """E w / p(x) = 1 within 4 standard errors of 40 x 1000 ratios, with implicit steps poorly solved too."""
    oracle, images = linear
    flow = LeapfrogFlow(5, 2, 2 * size, 0.5, tempering, 0.7)
    draw = draw_of(curved(oracle.model(0.5, 0.3), flow, iterations=iterations), images, 1000)
    ratio = (draw.log_w.double() - torch.from_numpy(oracle.log_p(images.numpy()))).exp()
    error = ratio.std().item() / math.sqrt(ratio.numel())
    assert error < 0.02
    assert abs(ratio.mean().item() - 1.0) < 4 * error
    assert ratio.std() > 0.3


@torch.no_grad()
def test_a_metric_that_is_the_identity_gives_the_hamiltonian_model(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    flow = LeapfrogFlow(5, 3, 0.2, 0.5, "fixed", 0.7)
    model = curved(oracle.model(0.5, 0.3), flow, floor=1.0)
    model.memory.matrices.zero_()
    for layer in (model.network.diagonal, model.network.below):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, 0.0 if layer is model.network.below else -40.0)
    found, plain = draw_of(model, images, 5), draw_of(HamiltonianVAE(oracle.model(0.5, 0.3), flow), images, 5)
    torch.testing.assert_close(found.latents[0].value, plain.latents[0].value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.log_w, plain.log_w, rtol=0, atol=2e-3)


# the memory


def test_centroids_move_after_the_step_and_not_in_it_nor_in_evaluation(digits: Splits) -> None:
    model, batch = build(), Data().batch(digits.train, torch.arange(4), Noise.from_seed(0, 4))
    before = {name: value.clone() for name, value in model.named_buffers()}
    assert {"memory.centres", "memory.matrices", "memory.next"} <= set(model.state_dict())
    draw = model.draw(batch, (), Noise.from_seed(0, 4))
    draw.elbo.mean().backward()
    model.eval()
    model.draw(batch, (3,), Noise.from_seed(0, 4))
    model.encode(batch.input)
    estimate(model, Data(), digits.val.spread(9), 4)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    model.train().after_step(draw, lambda tensor: tensor)
    places = [7, 8, 9, 0]
    torch.testing.assert_close(model.memory.centres[places], model.posterior(model.encoder(batch.input)).loc)
    torch.testing.assert_close(model.memory.matrices[places], model.network(batch.input, None))
    assert torch.equal(model.memory.centres[1:7], before["memory.centres"][1:7])
    assert not model.memory.matrices.requires_grad


def test_processes_that_share_a_batch_remember_the_same() -> None:
    """The parts of two processes, gathered, are the batch of one."""
    images, noise = torch.rand(6, *SHAPE), Noise.from_seed(0, 6)
    whole, shared = build(), build()
    parts = []
    for part in (slice(0, 3), slice(3, 6)):
        batch = cases.plain_batch(images[part])._replace(index=noise.index[part])
        parts.append(shared.draw(batch, (), noise._replace(index=noise.index[part])))
    whole.after_step(whole.draw(cases.plain_batch(images), (), noise), lambda tensor: tensor)
    kernels = [draw.latents[0].posterior.flow.metric.kernels[-1] for draw in parts]
    gathered = iter([torch.cat([each[place][:, 0] for each in kernels]) for place in range(2)])
    shared.after_step(parts[0], lambda tensor: next(gathered))
    for name, value in whole.memory.named_buffers():
        torch.testing.assert_close(dict(shared.memory.named_buffers())[name], value)


@torch.no_grad()
def test_numbers_of_an_image_do_not_depend_on_its_company_or_on_chunks_of_samples() -> None:
    model, images = build().eval(), cases.random_images(SHAPE, 5)
    whole = estimate(model, Data(), images, 4)
    for at_once in (1, 7):
        found = estimate(model, Data(), images, 4, decodes_at_once=at_once)
        for field in ("distortion", "rate", "log_p", "codes"):
            torch.testing.assert_close(getattr(found, field), getattr(whole, field), rtol=5e-6, atol=5e-4, msg=field)


# as an entry of the table


@pytest.mark.parametrize("filled", [True, False])
def test_every_parameter_has_a_finite_gradient_from_the_first_step_on(filled: bool) -> None:
    model = build(filled=filled)
    batch = Data().batch(cases.random_images(SHAPE, 6), torch.arange(6), Noise.from_seed(0, 6))
    (-model.draw(batch, (2,), Noise.from_seed(0, 6)).elbo.mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_a_condition_reaches_the_metric() -> None:
    model = build(replace(SMALL, ("conditioning",), OneHot()), filled=False).eval()
    images = torch.rand(1, *SHAPE)
    first, second = (model.network(images, model.code(torch.tensor([label]))) for label in (0, 1))
    assert not torch.allclose(first, second)


def test_too_many_latents_are_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^--latent-dim 129: model 'riemannian' makes a matrix.*--model hamiltonian$"):
        build(changed(SMALL, latent_dim=129), filled=False)


def test_a_run_is_trained_resumed_evaluated_and_shown(tmp_path: Path, digits: Splits) -> None:
    given = {"data": "digits", "validation": 51, "train_limit": 192, "batch_size": 32, "epochs": 2, "latent_dim": 3}
    given |= {"network": "mlp", "hidden": "16", "metric_hidden": "8", "centroids": 40, "leapfrog_steps": 2}
    config = configure("mlp", model="riemannian", device="cpu", threads=1, **given)
    whole = train(tmp_path / "whole", config=config, observer=Silent())
    with interrupted_at(8), pytest.raises(RunError, match="stopped at step 8"):
        train(tmp_path / "part", config=config, observer=Silent())
    part = vaekit.resume(tmp_path / "part", observer=Silent())
    assert part.model.read_bytes() == whole.model.read_bytes()
    assert timeless(part.metrics()) == timeless(whole.metrics())

    model, _, _ = vaekit.load_model(whole.path)
    assert model.memory.next == (12 * 32) % 40
    assert (model.memory.matrices.diagonal(dim1=1, dim2=2) > 0).all()
    found = vaekit.evaluate(whole.path, num_importance_samples=8, limit=20)
    assert found["elbo_nats"] == pytest.approx(-(found["distortion_nats"] + found["rate_nats"]), abs=1e-9)
    assert -found["nll_nats"] > found["elbo_nats"]
    images = digits.test.unit()[:3]
    assert vaekit.reconstruct(model, images).shape == vaekit.sample(model, 3).shape == (3, *SHAPE)
