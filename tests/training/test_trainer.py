"""The training loop: counting, stopping, choosing, and what it refuses."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vaekit
from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.data.splits import load_splits
from vaekit.errors import InputError, RunError
from vaekit.figures.basics import best_epoch
from vaekit.models.draw import Draw
from vaekit.noise import seeded
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer
from vaekit.runs import Run
from vaekit.settings import Config, Training, configure
from vaekit.storage import read_tensors
from vaekit.training import trainer
from vaekit.training.optimization import Optimizers, learning_rate
from vaekit.training.reporting import Silent
from vaekit.training.step import StepResult, TrainingStep
from vaekit.training.trainable import check_trainable


def config(**more: Any) -> Config:
    given = {
        "data": "digits",
        "validation": 51,
        "train_limit": 250,
        "batch_size": 32,
        "hidden": "16",
        "latent_dim": 3,
    }
    return configure("mlp", **{**given, "epochs": 2, "device": "cpu", "threads": 1, **more})


def train(path: Path, given: Config | None = None, **more: Any) -> Run:
    return vaekit.train(path, config=given or config(**more), observer=Silent())


def progress(run: Run) -> dict[str, Any]:
    return read_tensors(run.checkpoint, "checkpoint")[1]["progress"]


@dataclass
class Seen:
    """What came into and out of each training step of a run."""

    index: list[Tensor]
    step: list[int]
    hyper: list[dict[str, float]]
    logged: list[dict[str, float]]
    rates: list[float]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found = Seen([], [], [], [], [])
    forward, set_rate = TrainingStep.forward, Optimizers.set_learning_rate

    def look(self: TrainingStep, images: Any, index: Tensor, key: Tensor, step: Tensor, hyper: Any) -> StepResult:
        result = forward(self, images, index, key, step, hyper)
        if self.training:
            found.index.append(index)
            found.step.append(int(step))
            found.hyper.append({name: value.item() for name, value in hyper.items()})
            found.logged.append({name: value.item() for name, value in result.logged.items()})
        return result

    def look_at_rate(self: Optimizers, value: float) -> None:
        found.rates.append(value)
        set_rate(self, value)

    monkeypatch.setattr(TrainingStep, "forward", look)
    monkeypatch.setattr(Optimizers, "set_learning_rate", look_at_rate)
    return found


# Counting


@pytest.mark.parametrize(
    ("images", "batch", "epochs", "steps"),
    [
        (1000, 96, 2.5, {1: 10, 2: 20, 3: 26}),  # 10.4 batches an epoch; 26.04 in 2.5 epochs
        (1000, 100, 2, {1: 10, 2: 20}),
        (1000, 700, 3, {1: 1, 2: 2, 3: 4}),
        (1000, 1000, 2, {1: 1, 2: 2}),
        (100, 96, 3, {1: 1, 2: 2, 3: 3}),
        (100, 32, 0.1, {1: 1}),  # at least one step
        (100, 32, 1.0, {1: 3}),
        (100, 32, 1.3, {1: 3, 2: 4}),
        (100, 32, 1.2, {1: 3}),
        (100, 7, 1.999, {1: 14, 2: 28}),
    ],
)
def test_steps_and_epochs_are_counted(
    images: int, batch: int, epochs: float, steps: dict[int, int], seen: Seen, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (images, 2, 2), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", x_train=pixels, x_test=pixels[:3])
    given = config(
        data=str(tmp_path / "own.npz"),
        validation=0,
        train_limit=None,
        batch_size=batch,
        epochs=epochs,
        hidden="2",
    )
    run = train(tmp_path / "run", given)
    records = run.metrics()
    assert {record["epoch"]: record["step"] for record in records} == steps
    total = max(steps.values())
    assert seen.step == list(range(total))
    assert all(len(index) == batch for index in seen.index)
    order = torch.cat(seen.index)
    for first in range(0, len(order), images):
        part = order[first : first + images]
        assert len(part.unique()) == len(part)  # nothing comes twice before everything came once
    assert progress(run)["finished"]
    assert all(record["val"] is None for record in records)
    # a record is the mean over exactly the steps since the record before
    edges = [0, *steps.values()]
    for record, first, last in zip(records, edges[:-1], edges[1:], strict=True):
        losses = [logged["loss"] for logged in seen.logged[first:last]]
        assert record["train"]["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_records_hold_what_was_promised(tmp_path: Path) -> None:
    for record in train(tmp_path / "run").metrics():
        assert {"epoch", "step", "seconds", "images_per_second", "train", "val"} <= record.keys()
        images, seconds = record["step"] * 32, record["seconds"]  # rounded to a thousandth
        assert images / (seconds + 0.001) <= record["images_per_second"] <= images / max(seconds - 0.001, 1e-9)
        for split in ("train", "val"):
            means = record[split]
            assert {"loss", "elbo_nats", "rate_nats", "distortion_nats"} <= means.keys()
            assert means["elbo_nats"] == pytest.approx(-(means["distortion_nats"] + means["rate_nats"]), rel=1e-12)
            assert means["loss"] == pytest.approx(-means["elbo_nats"], rel=1e-6)


def test_the_learning_rate_warms_up_and_decays(seen: Seen, tmp_path: Path) -> None:
    run = train(tmp_path / "run", learning_rate=0.01, warmup=0.2, epochs=2)  # 15 steps, 3 of them warm-up
    assert len(seen.rates) == 15
    assert seen.rates[:4] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01, 0.01])
    assert seen.rates[3:] == pytest.approx([0.005 * (1 + math.cos(math.pi * k / 12)) for k in range(12)])
    assert [record["learning_rate"] for record in run.metrics()] == pytest.approx([seen.rates[6], seen.rates[14]])
    assert learning_rate(Training(learning_rate=0.5, warmup=0.0, decay="none"), 99, 100) == 0.5


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        ({}, lambda epochs: 1.0),
        ({"beta_schedule": "linear", "beta_warmup_epochs": 1.5}, lambda epochs: min(1.0, epochs / 1.5)),
        (
            {"beta_schedule": "cyclical", "beta_cycle_epochs": 0.8},
            lambda epochs: min(1.0, 2.0 * (epochs / 0.8 - math.floor(epochs / 0.8))),
        ),
    ],
)
def test_schedules_of_beta_reach_the_objective(schedule: Any, factor: Any, seen: Seen, tmp_path: Path) -> None:
    run = train(tmp_path / "run", beta=3.0, **schedule)
    expected = [3.0 * factor(step * 32 / 250) for step in range(15)]
    assert [hyper["beta"] for hyper in seen.hyper] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    for logged, beta in zip(seen.logged, expected, strict=True):
        assert logged["loss"] == pytest.approx(logged["distortion_nats"] + beta * logged["rate_nats"], rel=1e-5)
    assert [record["beta"] for record in run.metrics()] == pytest.approx([expected[6], expected[14]])


# The same numbers


def test_one_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = train(tmp_path / "first", seed=5)
    torch.manual_seed(2)  # the global generator plays no part
    second, other = train(tmp_path / "second", seed=5), train(tmp_path / "other", seed=6)
    assert first.model.read_bytes() == second.model.read_bytes()
    ours, theirs = (read_tensors(run.model, "model")[0] for run in (first, other))
    for name, tensor in ours.items():
        assert not torch.equal(tensor, theirs[name]), name


def test_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    train(tmp_path / "run")
    assert torch.equal(torch.rand(2), expected)


def test_looking_changes_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train(tmp_path / "plain")
    monkeypatch.setattr(trainer, "_LOOK_EVERY", 2)
    looks = []

    class Watcher(Silent):
        def step(self, progress: Any, total_steps: int, means: Any, images_per_second: float) -> None:
            looks.append((progress.step, total_steps, means["loss"]))

    watched = vaekit.train(tmp_path / "watched", config=config(), observer=Watcher())
    assert watched.model.read_bytes() == plain.model.read_bytes()
    assert {step for step, _, _ in looks} == {2, 4, 6, 7, 8, 10, 12, 14, 15}
    assert all(total == 15 and math.isfinite(loss) for _, total, loss in looks)


# Stopping and choosing

# without the rate in the loss it grows, and the bound, which has it, gets worse after the first epochs
WORSENS = {
    "train_limit": 40,
    "batch_size": 20,
    "epochs": 20,
    "beta": 0.0,
    "learning_rate": 0.02,
    "warmup": 0.0,
}


def test_the_best_validation_weights_are_kept(tmp_path: Path) -> None:
    given = config(**WORSENS, decay="none")
    kept = train(tmp_path / "best", given)
    elbos = [record["val"]["elbo_nats"] for record in kept.metrics()]
    best = elbos.index(max(elbos)) + 1
    assert 1 < best < 15
    assert (progress(kept)["best_epoch"], progress(kept)["best_elbo"]) == (best, max(elbos))
    # at a constant rate a run of so many epochs, which keeps its last weights, ends with the very same ones
    training = replace(given.training, select_best=False)
    short = train(tmp_path / "short", replace(given, training=replace(training, epochs=float(best))))
    last = train(tmp_path / "last", replace(given, training=training))
    assert [record["val"]["elbo_nats"] for record in last.metrics()] == elbos
    weights = {run.path.name: read_tensors(run.model, "model")[0] for run in (kept, short, last)}
    for name, tensor in weights["best"].items():
        assert torch.equal(tensor, weights["short"][name]), name
        assert not torch.equal(tensor, weights["last"][name]), name


def test_patience_stops_so_many_epochs_after_the_best(tmp_path: Path) -> None:
    whole, run = train(tmp_path / "whole", **WORSENS), train(tmp_path / "run", **WORSENS, patience=3)
    elbos = [record["val"]["elbo_nats"] for record in whole.metrics()]
    waits = [epoch - elbos.index(max(elbos[: epoch + 1])) for epoch in range(20)]
    assert [record["val"]["elbo_nats"] for record in run.metrics()] == elbos[: waits.index(3) + 1]
    assert len(run.metrics()) < 20
    assert progress(run)["finished"]


@pytest.mark.parametrize(
    "schedule",
    [
        {"objective": "capacity", "capacity": 20.0, "capacity_epochs": 6.0},
        {"beta": 0.01, "beta_schedule": "linear", "beta_warmup_epochs": 6.0},
    ],
)
@pytest.mark.parametrize("patience", [None, 1])
def test_nothing_is_selected_while_a_schedule_runs(
    schedule: dict[str, Any], patience: int | None, tmp_path: Path
) -> None:
    """Else a capacity of 20 nats would give the weights of the first epochs, when it was nearly 0."""
    given = {"epochs": 9, "patience": patience, "learning_rate": 0.01, "decay": "none", "latent_dim": 8, **schedule}
    run = train(tmp_path / "run", **given)
    records = run.metrics()
    assert [bool(record.get("schedule_runs")) for record in records] == [
        epoch <= 6 for epoch in range(1, len(records) + 1)
    ]
    assert len(records) > 7
    elbos = {record["epoch"]: record["val"]["elbo_nats"] for record in records}
    assert max(elbos, key=elbos.get) <= 6  # the schedule made it worse, as it was asked to
    ended = {epoch: elbo for epoch, elbo in elbos.items() if epoch > 6}
    assert progress(run)["best_epoch"] == max(ended, key=ended.get) == best_epoch(records)
    short = train(tmp_path / "short", **{**given, "epochs": 4})
    assert progress(short)["best_epoch"] is None is best_epoch(short.metrics())
    last = train(tmp_path / "last", **{**given, "epochs": 4, "patience": None, "select_best": False})
    for name, tensor in read_tensors(last.model, "model")[0].items():
        assert torch.equal(tensor, read_tensors(short.model, "model")[0][name]), name


def test_without_validation_images_the_last_weights_are_kept(tmp_path: Path) -> None:
    run = train(tmp_path / "run", validation=0)
    assert [record["epoch"] for record in run.metrics()] == [1, 2]
    kept, inside = read_tensors(run.model, "model")[0], read_tensors(run.checkpoint, "checkpoint")[0]
    assert all(torch.equal(kept[name], inside[f"player/model/{name}"]) for name in kept)
    assert not any(name.startswith("best/") for name in inside)


@dataclass(frozen=True)
class BreaksAt(SinglePlayer):
    """The loss, or its gradient alone, is not a number in one step."""

    at: int = leaf(18, "step counted from 0", ge=0)
    gradient_only: bool = leaf(False, "keep the loss finite")

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        loss = (draw.distortion + draw.rate).mean()
        now = context.step == self.at
        if self.gradient_only:  # the root of 0 has an infinite slope, and 0 times infinity is not a number
            zero = torch.where(now, loss - loss.detach(), torch.ones_like(loss))
            loss = loss + 0.0 * zero.sqrt()
        else:
            loss = loss + torch.where(now, float("nan"), 0.0)
        return Losses({MODEL: loss}, {})


@pytest.fixture
def breaks() -> Iterator[None]:
    OBJECTIVES.register("breaks")(BreaksAt)
    yield
    del OBJECTIVES._entries["breaks"]


@pytest.mark.usefixtures("breaks")
@pytest.mark.parametrize(
    ("objective", "problem"),
    [
        (BreaksAt(18), "the loss became infinite or NaN at step 18"),
        (BreaksAt(22), "the loss became infinite or NaN at step 22"),  # the last step of an epoch
        (BreaksAt(22, gradient_only=True), "a weight became infinite or NaN"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run_with_its_checkpoint_intact(
    objective: BreaksAt, problem: str, tmp_path: Path
) -> None:
    given = replace(config(epochs=4), objective=objective)
    with pytest.raises(RunError) as stop:
        train(tmp_path / "run", given)
    advice = "lower --learning-rate, or set --gradient-clip, --warmup or --precision float32"
    assert str(stop.value) == f"{problem}; {advice}"
    run = Run(tmp_path / "run")
    assert [record["step"] for record in run.metrics()] == [7, 15]
    tensors, about = read_tensors(run.checkpoint, "checkpoint")
    assert about["progress"]["step"] == 15
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert not run.model.exists()
    with pytest.raises(RunError, match=problem):
        vaekit.resume(run.path, observer=Silent())


def test_a_learning_rate_that_is_far_too_high_ends_in_the_same_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"infinite or NaN.*; lower --learning-rate"):
        train(tmp_path / "run", learning_rate=10.0, warmup=0.0, epochs=40, hidden="64,64,64")


# Gradients


def test_players_move_as_under_adams_of_their_own() -> None:
    """Against plain Adam on contiguous copies: gradients may come in another memory order than their weights."""
    with seeded(0, "test"):
        players = {"model": torch.nn.Conv2d(3, 4, 3), "other": torch.nn.Conv2d(4, 5, 3)}
    plain = copy.deepcopy(players)
    for module in players.values():
        module.to(memory_format=torch.channels_last)
    oracles = {name: torch.optim.Adam(m.parameters(), 0.05, eps=1e-7, foreach=False) for name, m in plain.items()}
    optimizers = Optimizers(players, Training(adam_epsilon=1e-7), torch.device("cpu"))
    optimizers.set_learning_rate(0.05)

    def loss(module: torch.nn.Module) -> Tensor:
        flat = module.weight.flatten()  # copies channels_last weights, so that the gradient is contiguous
        return (flat * torch.linspace(-1, 1, len(flat))).square().sum() + module.bias.square().sum()

    for _ in range(3):
        optimizers.backward({name: loss(module) for name, module in players.items()})
        optimizers.step()
        for name, oracle in oracles.items():
            oracle.zero_grad()
            loss(plain[name]).backward()
            oracle.step()
    for name, module in players.items():
        for ours, theirs in zip(module.parameters(), plain[name].parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_clipping_bounds_the_norm_of_each_players_gradients() -> None:
    players = {"model": torch.nn.Linear(4, 3), "other": torch.nn.Linear(2, 2)}
    optimizers = Optimizers(players, Training(gradient_clip=0.5), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)

    def norm(name: str) -> float:
        return torch.cat([p.grad.flatten() for p in players[name].parameters()]).norm().item()

    losses = {
        "model": 1e3 * players["model"](torch.randn(8, 4, generator=generator)).square().sum(),
        "other": 1e-3 * players["other"](torch.randn(8, 2, generator=generator)).square().sum(),
    }
    optimizers.backward(losses)
    before = {name: norm(name) for name in players}
    direction = players["model"].weight.grad.clone() / before["model"]
    assert before["model"] > 100.0
    assert before["other"] < 0.5
    optimizers.step()
    assert norm("model") == pytest.approx(0.5, rel=1e-4)
    assert norm("other") == before["other"]
    torch.testing.assert_close(players["model"].weight.grad / 0.5, direction, rtol=1e-4, atol=1e-6)


def test_clipping_reaches_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []
    adam_step = torch.optim.Adam.step

    def look(self: torch.optim.Adam, closure: Any = None) -> Any:
        norms.append(torch.cat([p.grad.flatten() for g in self.param_groups for p in g["params"]]).norm().item())
        return adam_step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", look)
    train(tmp_path / "free")
    free, norms[:] = list(norms), []
    train(tmp_path / "clipped", gradient_clip=0.01)
    assert min(free) > 0.1
    assert norms == pytest.approx([0.01] * 15, rel=1e-3)


# Refusals


@dataclass(frozen=True)
class NeedsTwo(SinglePlayer):
    """Needs of a model what no model has."""

    needs = frozenset({"rate", "wings", "gills"})


def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    OBJECTIVES.register("needs-two")(NeedsTwo)
    try:
        cases = [
            (config(batch_size=251), "--batch-size: 251 is more than the 250 training images; lower it"),
            (
                replace(config(), objective=NeedsTwo()),
                "--objective needs-two: needs gills; and wings, which this model does not have; choose another of the two",
            ),
            (
                config(patience=3, validation=0),
                "--patience 3: no images are held out to judge by; add --validation 5000",
            ),
        ]
        for given, message in cases:
            with pytest.raises(InputError) as refusal:
                train(tmp_path / "run", given)
            assert str(refusal.value) == message
            assert not (tmp_path / "run").exists()
    finally:
        del OBJECTIVES._entries["needs-two"]


def test_a_batch_must_be_shared_evenly() -> None:
    class Three:
        count = 3

    given = config()
    splits = load_splits("digits", None)
    model = given.model.build(splits.info)
    with pytest.raises(InputError) as refusal:
        check_trainable(given, model, splits, Three())
    assert str(refusal.value) == "--batch-size: 32 cannot be shared by 3 processes; use a multiple"
    check_trainable(config(batch_size=33), model, splits, Three())
