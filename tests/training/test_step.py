"""The training step: what it logs, and that nothing in it waits for the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import cases
from vaekit.config import replace
from vaekit.corruptions.table import CORRUPTIONS, DownUp
from vaekit.data.batches import Batch, Data
from vaekit.data.binarization import BINARIZATIONS, Dynamic
from vaekit.data.images import Images
from vaekit.models.draw import Draw
from vaekit.models.vae import VAEConfig
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.objectives import bounds
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses
from vaekit.settings import Config, Training
from vaekit.training.optimization import Optimizers
from vaekit.training.step import TrainingStep, numeric_fields

SHAPE = (1, 8, 8)
SMALL = VAEConfig(latent_dim=3, network=MLP(hidden=(9,)))


def make(model: Any = SMALL, objective: Any = None, data: Data | None = None) -> TrainingStep:
    torch.manual_seed(0)
    data = data or Data()
    info = cases.info(SHAPE, attributes=cases.reads_attributes(model))
    info = dataclasses.replace(info, input_shape=data.corruption.shape(SHAPE))
    built = model.build(info)
    objective = objective or cases.objective_for(built.provides)
    return TrainingStep(built, objective, objective.players(model.num_latents(info), SHAPE), data, 100)


def run(step: TrainingStep, key: int = 1, hyper: Mapping[str, float] | None = None, count: int = 6) -> Any:
    numbers = numeric_fields(step.objective) if hyper is None else hyper
    tensors = {name: torch.tensor(value) for name, value in numbers.items()}
    return step(cases.random_images(SHAPE, 12), torch.arange(count), torch.tensor(key), torch.tensor(0), tensors)


def test_logged_means_are_those_of_the_draw() -> None:
    result = run(make(objective=Elbo(beta=4.0)))
    torch.testing.assert_close(result.logged["distortion_nats"], bounds.distortion(result.draw).mean().detach())
    torch.testing.assert_close(result.logged["rate_nats"], bounds.rate(result.draw).mean().detach())
    torch.testing.assert_close(result.logged["loss"], result.losses[MODEL].detach())
    expected = result.logged["distortion_nats"] + 4 * result.logged["rate_nats"]
    torch.testing.assert_close(result.logged["loss"], expected)
    assert set(result.logged) == {"loss", "distortion_nats", "rate_nats"}


def test_logged_rate_and_distortion_are_unweighted_whatever_the_objective() -> None:
    plain = run(make()).logged
    for objective in (Elbo(beta=7.0), Iwae(num_samples=1)):
        logged = run(make(objective=objective)).logged
        for name in ("distortion_nats", "rate_nats"):
            torch.testing.assert_close(logged[name], plain[name])


def test_numbers_come_as_arguments_and_the_objectives_own_are_the_defaults() -> None:
    step = make(objective=Elbo(beta=4.0))
    assert numeric_fields(Elbo(beta=4.0)) == {"beta": 4.0}
    assert numeric_fields(Iwae()) == {}
    halved = run(step, hyper={"beta": 2.0}).losses[MODEL]
    torch.testing.assert_close(halved, run(make(objective=Elbo(beta=2.0))).losses[MODEL])


def test_the_key_is_the_only_randomness() -> None:
    step = make(data=Data(binarization=Dynamic()))
    torch.manual_seed(5)
    first, second, other = run(step, 1), run(step, 1), run(step, 2)
    assert torch.equal(first.losses[MODEL], second.losses[MODEL])
    assert torch.equal(first.draw.target, second.draw.target)
    assert not torch.equal(first.draw.target, other.draw.target)


def test_noise_of_the_latents_is_the_evaluations_too() -> None:
    """A step's draw is the model's own draw with the noise of (key, index)."""
    step = make()
    images = cases.random_images(SHAPE, 12)
    noise = Noise(torch.tensor(1), torch.arange(6))
    expected = step.model.draw(Data().batch(images, torch.arange(6), noise), (), noise)
    torch.testing.assert_close(run(step).draw.log_w, expected.log_w)


def fake_step(objective: Any, model: Any = SMALL, data: Data | None = None, low_precision: bool = False) -> None:
    """One whole step on tensors that have no values: whatever reads a value fails."""
    with FakeTensorMode():
        step = make(model, objective, data)
        step.low_precision = low_precision
        players: dict[str, nn.Module] = {MODEL: step.model, **dict(step.players.items())}
        settings, inference = Training(gradient_clip=1.0), step.model.inference_parameters()
        optimizers = Optimizers(players, settings, torch.device("cpu"), step.objective.rates(), inference)
        optimizers.set_learning_rate(1e-3)
        pixels = torch.empty(12, *SHAPE[1:], SHAPE[0], dtype=torch.uint8)
        images = Images(pixels, torch.empty(12, dtype=torch.int64))
        if cases.reads_attributes(model):
            images = Images(pixels, None, torch.empty(12, len(cases.ATTRIBUTES)))
        index = torch.empty(6, dtype=torch.int64)
        key, now = torch.empty((), dtype=torch.int64), torch.empty((), dtype=torch.int64)
        hyper = {name: torch.empty(()) for name in numeric_fields(step.objective)}
        for _ in range(2):
            result = step(images, index, key, now, hyper)
            optimizers.backward(result.losses)
            optimizers.step()
            step.objective.after_step(step.model, hyper)
            step.model.after_step(result.draw, lambda tensor: tensor)
        assert all(value.shape == () for value in result.logged.values())


COMBINATIONS = {
    **{f"model {name}": (None, model, None) for name, model in cases.models()},
    **{
        f"objective {name}": (OBJECTIVES[name](), cases.model_for(OBJECTIVES[name](), SMALL), None)
        for name in OBJECTIVES
    },
    **{f"binarization {name}": (Elbo(), SMALL, Data(binarization=BINARIZATIONS[name]())) for name in BINARIZATIONS},
    **{f"corruption {name}": (Elbo(), SMALL, Data(corruption=CORRUPTIONS[name]())) for name in CORRUPTIONS},
}


@pytest.mark.parametrize("name", list(COMBINATIONS))
def test_nothing_in_a_step_waits_for_the_device(name: str) -> None:
    """Forward, backward and optimizer run under FakeTensorMode, where reading a value is an error."""
    objective, model, data = COMBINATIONS[name]
    fake_step(objective, model, data)


def test_nothing_in_a_step_of_low_precision_waits_for_the_device() -> None:
    fake_step(Elbo(), VAEConfig(latent_dim=3), low_precision=True)


@dataclass(frozen=True)
class Peeking(Elbo):
    """An objective that reads its loss on the host."""

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        losses, terms = super().__call__(draw, batch, context)
        return Losses({MODEL: losses[MODEL] / max(1.0, losses[MODEL].item())}, terms)


@dataclass(frozen=True)
class Branching(Elbo):
    """An objective that branches on a tensor."""

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        losses, terms = super().__call__(draw, batch, context)
        return Losses({MODEL: losses[MODEL] * (2.0 if losses[MODEL] > 0 else 1.0)}, terms)


@pytest.mark.parametrize("objective", [Peeking(), Branching()], ids=["item", "branch"])
def test_the_check_finds_a_step_that_waits(objective: Elbo) -> None:
    with pytest.raises(DataDependentOutputException):
        fake_step(objective)


def test_low_precision_gives_nearly_the_same_loss() -> None:
    step = make(VAEConfig(latent_dim=3))
    exact = run(step).losses[MODEL].item()
    step.low_precision = True
    rounded = run(step)
    assert rounded.losses[MODEL].item() == pytest.approx(exact, rel=5e-3)
    assert rounded.losses[MODEL].item() != exact
    assert rounded.draw.log_p_x.dtype == torch.float32
    assert rounded.draw.latents[0].value.dtype == torch.float32


def test_a_schedule_cannot_reach_a_whole_number() -> None:
    """Only fractions may change during a run: a number of samples is a shape."""
    config = replace(Config(), ("objective",), Iwae(num_samples=3))
    assert "num_samples" not in numeric_fields(config.objective)


def test_blur_reaches_the_encoder_only() -> None:
    step = make(data=Data(corruption=DownUp()))
    batch, draw = step.draw(cases.random_images(SHAPE, 12), torch.arange(6), torch.tensor(1), ())
    assert torch.equal(draw.target, batch.target)
    assert not torch.equal(batch.input, batch.target)
    expected = step.model.encode(batch.input).mean
    torch.testing.assert_close(draw.latents[0].posterior.mean, expected)
