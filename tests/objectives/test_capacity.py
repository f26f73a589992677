"""A rate that is held at a growing capacity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_bounds import random_draw
from torch import Tensor

import cases
from vaekit.errors import InputError
from vaekit.models.draw import Draw
from vaekit.objectives import bounds
from vaekit.objectives.capacity import Capacity
from vaekit.objectives.table import MODEL
from vaekit.settings import configure
from vaekit.training.reporting import Silent
from vaekit.training.step import TrainingStep
from vaekit.training.train import train


def loss_of(draw: Draw, gamma: float, capacity: Any) -> Tensor:
    """The numbers come from the context, not from the objective's own fields."""
    context = cases.context(gamma=gamma, capacity=capacity, capacity_epochs=1.0)
    losses, _ = Capacity(gamma=77.0, capacity=55.0)(draw, None, context)  # type: ignore[arg-type]
    assert set(losses) == {MODEL}
    return losses[MODEL]


@pytest.mark.parametrize("gamma", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("capacity", [0.0, 1.0, 25.0])
def test_values_are_those_of_the_formula(gamma: float, capacity: float) -> None:
    draw = random_draw()
    distortion, rate = bounds.distortion(draw).mean().item(), bounds.rate(draw).mean().item()
    assert 1.0 < rate < 25.0  # so that the rate lies on both sides of the capacity
    assert loss_of(draw, gamma, capacity).item() == pytest.approx(distortion + gamma * abs(rate - capacity), rel=1e-6)


def test_no_capacity_and_weight_one_is_the_elbo() -> None:
    draw = random_draw()
    torch.testing.assert_close(loss_of(draw, 1.0, 0.0), -bounds.elbo(draw).mean())


def test_the_mean_rate_is_held_and_not_that_of_each_image() -> None:
    draw = random_draw()
    rates = draw.rate
    mean = rates.mean().item()
    assert (rates - mean).abs().mean() > 0.1
    assert loss_of(draw, 30.0, mean).item() == pytest.approx(draw.distortion.mean().item(), abs=1e-4)


def test_the_gap_pushes_the_rate_up_below_and_down_above() -> None:
    for capacity, sign in ((25.0, -1.0), (0.5, 1.0)):
        draw = random_draw()
        posterior = draw.latents[0].posterior
        posterior.loc.requires_grad_()
        (pull,) = torch.autograd.grad(loss_of(draw, 3.0, capacity) - draw.distortion.mean(), posterior.loc)
        torch.testing.assert_close(pull, sign * 3.0 * posterior.loc.detach() / 4)


def test_processes_join_their_means() -> None:
    draw = random_draw()
    context = cases.context(gamma=2.0, capacity=1.0, capacity_epochs=1.0)
    other = draw.rate.mean() + 3.0
    context.gather = lambda tensor: torch.cat([tensor, other[None]])
    loss = Capacity()(draw, None, context)[0][MODEL]  # type: ignore[arg-type]
    expected = draw.distortion.mean() + 2.0 * (draw.rate.mean() + 1.5 - 1.0).abs()
    torch.testing.assert_close(loss, expected)


def test_the_capacity_grows_in_a_line_and_stays() -> None:
    objective = Capacity(capacity=8.0, capacity_epochs=4.0)
    assert [objective.factors(epochs)["capacity"] for epochs in (0.0, 1.0, 2.0, 4.0, 400.0)] == [0, 0.25, 0.5, 1, 1]


def test_training_sees_it_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    forward = TrainingStep.forward

    def look(self: TrainingStep, images: Any, index: Tensor, key: Tensor, step: Tensor, hyper: Any) -> Any:
        result = forward(self, images, index, key, step, hyper)
        if self.training:
            numbers = {name: value.item() for name, value in (*hyper.items(), *result.logged.items())}
            seen.append(numbers)
        return result

    monkeypatch.setattr(TrainingStep, "forward", look)
    given = configure(
        "mlp", data="digits", train_limit=250, validation=51, batch_size=32, hidden="16", latent_dim=3, epochs=2,
        objective="capacity", gamma=5.0, capacity=6.0, capacity_epochs=1.5, device="cpu", threads=1,
    )  # fmt: skip
    run = train(tmp_path / "run", config=given, observer=Silent())
    expected = [6.0 * min(1.0, step * 32 / 250 / 1.5) for step in range(15)]
    assert [numbers["capacity"] for numbers in seen] == pytest.approx(expected, rel=1e-6)
    assert {numbers["gamma"] for numbers in seen} == {5.0}
    for numbers, capacity in zip(seen, expected, strict=True):
        gap = abs(numbers["rate_nats"] - capacity)
        assert numbers["capacity_gap"] == pytest.approx(gap, rel=1e-4, abs=1e-5)
        assert numbers["loss"] == pytest.approx(numbers["distortion_nats"] + 5.0 * gap, rel=1e-5)
    first, last = run.metrics()
    assert (first["capacity"], last["capacity"]) == pytest.approx((expected[6], expected[14]))
    for record in (first, last):
        val = record["val"]
        assert val["elbo_nats"] == pytest.approx(-(val["distortion_nats"] + val["rate_nats"]))
        gap = abs(val["rate_nats"] - record["capacity"])
        assert val["loss"] == pytest.approx(val["distortion_nats"] + 5.0 * gap, rel=1e-4)


def test_it_has_no_beta_to_schedule() -> None:
    with pytest.raises(InputError, match=r"objective 'capacity' has no beta to schedule"):
        configure("mlp", objective="capacity", beta_schedule="linear")


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [3.0, 9.0])
def test_the_rate_ends_at_the_capacity(capacity: float, tmp_path: Path) -> None:
    given = configure(
        "mlp",
        data="digits",
        objective="capacity",
        capacity=capacity,
        capacity_epochs=4,
        latent_dim=8,
        epochs=8,
        threads=1,
    )
    run = train(tmp_path / "run", config=given, observer=Silent())
    assert run.metrics()[-1]["val"]["rate_nats"] == pytest.approx(capacity, abs=0.3)
