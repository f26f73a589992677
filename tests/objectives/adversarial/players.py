"""One step of an objective of two players, and the checks that all of them must pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import cases
import vaekit
from helpers_run import interrupted_at, timeless
from vaekit.data.batches import Data
from vaekit.errors import RunError
from vaekit.models.vae import VAEConfig
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.objectives.table import INFERENCE, MODEL
from vaekit.runs import Run
from vaekit.settings import Training
from vaekit.storage import read_tensors
from vaekit.training.optimization import Optimizers
from vaekit.training.reporting import Silent
from vaekit.training.step import StepResult, TrainingStep, numeric_fields

SHAPE = (1, 8, 8)


class Played(NamedTuple):
    """A step before its optimizers moved."""

    step: TrainingStep
    optimizers: Optimizers
    result: StepResult

    @property
    def noise(self) -> Noise:
        return Noise(torch.tensor(1), torch.arange(len(self.result.draw.target)))


def play(
    objective: Any, shape: tuple[int, int, int] = SHAPE, count: int = 6, train: bool = True, **parts: Any
) -> Played:
    """One step on random images with 3 latents; `parts` are those of the model."""
    torch.manual_seed(0)
    model = VAEConfig(latent_dim=3, **{"network": MLP(hidden=(9,)), **parts}).build(cases.info(shape))
    players = objective.players(3, shape)
    step = TrainingStep(model, objective, players, Data(), 100).train(train)
    optimizers = Optimizers(
        {MODEL: model, **players}, Training(), torch.device("cpu"), objective.rates(), model.inference_parameters()
    )
    hyper = {name: torch.tensor(value) for name, value in numeric_fields(objective).items()}
    images = cases.random_images(shape, max(12, count))
    return Played(step, optimizers, step(images, torch.arange(count), torch.tensor(1), torch.tensor(0), hyper))


def moved(played: Played) -> dict[str, list[Tensor]]:
    """Gradients that the optimizers see, by part; every one must be there."""
    played.optimizers.backward(played.result.losses)
    model, parts = played.step.model, {"encoder": [], "decoder": []}
    parts["encoder"] = [weight.grad for weight in model.inference_parameters()]
    inside = {id(weight) for weight in model.inference_parameters()}
    parts["decoder"] = [weight.grad for weight in model.parameters() if id(weight) not in inside]
    parts["discriminator"] = [weight.grad for weight in played.step.players["discriminator"].parameters()]
    assert all(gradient is not None for gradients in parts.values() for gradient in gradients)
    return parts


def assert_each_loss_moves_its_own_player(played: Played) -> None:
    """Gradients are those of each loss by its own weights, and are finite and not all zero."""
    found, losses = moved(played), played.result.losses
    model, discriminator = played.step.model, played.step.players["discriminator"]
    inside = {id(weight) for weight in model.inference_parameters()}
    weights: dict[str, tuple[str, list[nn.Parameter]]] = {
        "encoder": (INFERENCE if INFERENCE in losses else MODEL, list(model.inference_parameters())),
        "decoder": (MODEL, [weight for weight in model.parameters() if id(weight) not in inside]),
        "discriminator": ("discriminator", list(discriminator.parameters())),
    }
    for part, (name, parameters) in weights.items():
        expected = torch.autograd.grad(losses[name], parameters, retain_graph=True)
        for gradient, own in zip(found[part], expected, strict=True):
            assert torch.equal(gradient, own), part
            assert torch.isfinite(gradient).all(), part
        assert any(gradient.abs().max() > 0 for gradient in found[part]), part


def train_twice(folder: Path, at: int = 10, **given: Any) -> Run:
    """Train on digits to the end, and stopped at a step and resumed; both must leave the same bytes."""
    settings = {
        "data": "digits", "hidden": "16", "latent_dim": 3, "epochs": 2, "device": "cpu", "threads": 1,
        "train_limit": 250, "validation": 51, "batch_size": 32, **given,
    }  # fmt: skip
    chosen = vaekit.configure("mlp", **settings)
    whole = vaekit.train(folder / "whole", config=chosen, observer=Silent())
    with interrupted_at(at), pytest.raises(RunError, match=f"stopped at step {at}"):
        vaekit.train(folder / "part", config=chosen, observer=Silent())
    part = vaekit.resume(folder / "part", observer=Silent())
    assert part.model.read_bytes() == whole.model.read_bytes()
    assert timeless(part.metrics()) == timeless(whole.metrics())
    inside, again = (read_tensors(run.checkpoint, "checkpoint")[0] for run in (whole, part))
    players = [name for name in inside if name.startswith("player/discriminator/")]
    assert players
    assert all(torch.equal(inside[name], again[name]) for name in players)
    weights, _ = read_tensors(whole.model, "model")
    assert not any("discriminator" in name for name in weights)
    return whole
