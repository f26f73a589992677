"""Members that train together end as they would alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import vaekit
from helpers_run import interrupted_at, timeless
from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.errors import StoppedError
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer
from vaekit.runs import Run
from vaekit.storage import read_tensors
from vaekit.sweeps import sweep as module
from vaekit.sweeps.joint import JointTrainer
from vaekit.training.reporting import Silent

SMALL: dict[str, Any] = {
    "data": "digits",
    "validation": 51,
    "train_limit": 250,
    "batch_size": 32,
    "hidden": (16,),
    "latent_dim": 3,
    "epochs": 2,
    "device": "cpu",
    "threads": 1,
}


def sweep(path: Path, grid: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    given = {name: value for name, value in {**SMALL, **more}.items() if name not in grid}
    return vaekit.sweep(path, "mlp", grid, observer=Silent(), **given)


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many members each stack began with."""
    found: list[int] = []
    fit = JointTrainer.fit

    def counted(self: JointTrainer) -> None:
        found.append(len(self.active))
        fit(self)

    monkeypatch.setattr(JointTrainer, "fit", counted)
    return found


def numbers(value: Any) -> dict[str, float]:
    """Every number of a record but the times, by where it stands."""
    if isinstance(value, dict):
        return {
            f"{key}/{inner}": number
            for key, part in value.items()
            if key not in ("seconds", "images_per_second")
            for inner, number in numbers(part).items()
        }
    return {"": value} if isinstance(value, (int, float)) else {}


def alike(member: Run, alone: Run) -> None:
    """Records within 1e-4, weights and moments close, the same progress: all that differs is the order of sums."""
    ours, theirs = member.metrics(), alone.metrics()
    assert len(ours) == len(theirs)
    for record, other in zip(ours, theirs, strict=True):
        assert numbers(record) == pytest.approx(numbers(other), rel=1e-4, abs=1e-6)
    (kept, _), (other_kept, _) = (read_tensors(run.model, "model") for run in (member, alone))
    (inside, about), (other_inside, other_about) = (read_tensors(run.checkpoint, "c") for run in (member, alone))
    assert inside.keys() == other_inside.keys()
    for mine, yours in ((kept, other_kept), (inside, other_inside)):
        for name, tensor in mine.items():
            torch.testing.assert_close(tensor, yours[name], rtol=2e-3, atol=2e-4)
    progress, other_progress = about["progress"], other_about["progress"]
    for name in ("step", "epoch", "best_epoch", "finished", "summed"):
        assert progress[name] == other_progress[name]


def alone(path: Path, each: dict[str, Any], **more: Any) -> Run:
    return vaekit.train(path / each["name"], "mlp", observer=Silent(), **{**SMALL, **more, **each["values"]})


def test_sixteen_members_equal_sixteen_runs(tmp_path: Path, stacks: list[int]) -> None:
    record = sweep(tmp_path / "sweep", {"beta": [0.25, 0.5, 1, 2], "seed": [0, 1, 2, 3]})
    assert stacks == [16]
    assert len({each["val"]["elbo_nats"] for each in record["members"]}) == 16
    for each in record["members"]:
        assert each["status"] == "finished"
        alike(Run(each["path"]), alone(tmp_path / "alone", each))


@pytest.mark.parametrize(
    ("grid", "more"),
    [
        ({"learning_rate": [0.001, 0.01], "warmup": [0.1, 0.5]}, {}),
        ({"gradient_clip": [0.5, 5.0, 50.0]}, {"adam_epsilon": 1e-3}),
        ({"beta": [0.1, 3.0]}, {"beta_schedule": "linear", "beta_warmup_epochs": 1.5, "ema_decay": 0.8}),
        ({"seed": [3, 4, 5]}, {"likelihood": "optimal-gaussian", "binarization": "dequantize"}),
        ({"seed": [3, 4]}, {"objective": "iwae", "num_samples": 3, "binarization": "dynamic", "prior": "vamp"}),
        ({"tc_weight": [1.0, 5.0], "seed": [0, 1]}, {"objective": "beta-tcvae", "conditioning": "embedding"}),
        ({"capacity": [1.0, 5.0]}, {"objective": "capacity", "capacity_epochs": 1.0, "dense_normalization": "layer"}),
        ({"spectral_bound": [0.2, 0.5]}, {"objective": "rae", "posterior": "deterministic", "regularizer": "sn"}),
        ({"code_weight": [0.1, 1.0]}, {"objective": "rae", "posterior": "deterministic"}),
    ],
)
def test_numbers_and_parts_of_all_kinds_are_stacked(
    grid: dict[str, Any], more: dict[str, Any], tmp_path: Path, stacks: list[int]
) -> None:
    record = sweep(tmp_path / "sweep", grid, **more)
    assert stacks == [len(record["members"])]
    for each in record["members"]:
        alike(Run(each["path"]), alone(tmp_path / "alone", each, **more))


def test_shapes_make_groups_and_convolutions_run_in_turn(tmp_path: Path, stacks: list[int]) -> None:
    record = sweep(tmp_path / "sizes", {"latent_dim": [2, 4], "seed": [0, 1], "beta": [1, 2]})
    assert stacks == [4, 4]
    alike(Run(record["members"][5]["path"]), alone(tmp_path / "alone", record["members"][5]))
    stacks.clear()
    conv = {"channels": (4,), "dense": 8, "epochs": 1}
    given = {name: value for name, value in SMALL.items() if name != "hidden"} | conv
    record = vaekit.sweep(tmp_path / "conv", "conv", {"seed": [0, 1]}, observer=Silent(), **given)
    assert stacks == []
    assert [each["status"] for each in record["members"]] == ["finished", "finished"]


@dataclass(frozen=True)
class Stubborn(SinglePlayer):
    """Reads its number on the host, where a stack has that of its first member."""

    weight: float = leaf(1.0, "of the rate", ge=0)

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        return Losses({MODEL: draw.distortion.mean() + self.weight * draw.rate.mean()}, {})


def test_what_a_stack_would_get_wrong_runs_in_turn(tmp_path: Path, stacks: list[int]) -> None:
    OBJECTIVES.register("stubborn")(Stubborn)
    try:
        record = sweep(tmp_path / "sweep", {"weight": [0.0, 5.0]}, objective="stubborn")
        assert stacks == []
        first, second = record["members"]
        assert first["val"]["rate_nats"] > 1.5 * second["val"]["rate_nats"]
        single = alone(tmp_path / "alone", second, objective="stubborn")
        assert single.model.read_bytes() == Run(second["path"]).model.read_bytes()  # the trial left no trace
    finally:
        del OBJECTIVES._entries["stubborn"]


def test_a_stopped_sweep_goes_on_to_the_same_bits(tmp_path: Path, stacks: list[int]) -> None:
    grid = {"beta": [0.5, 2.0], "seed": [0, 1]}
    whole = sweep(tmp_path / "whole", grid)
    with interrupted_at(4 * 9 + 2), pytest.raises(StoppedError, match=r"^stopped at step 10; repeat the command"):
        sweep(tmp_path / "again", grid)
    unfinished = sorted((tmp_path / "again").glob("*/checkpoint"))
    assert [read_tensors(path, "c")[1]["progress"]["step"] for path in unfinished] == [10] * 4
    assert not list((tmp_path / "again").glob("*/model.safetensors"))
    again = sweep(tmp_path / "again", grid)
    assert stacks == [4, 4, 4]
    for mine, yours in zip(again["members"], whole["members"], strict=True):
        assert numbers(mine) == numbers(yours)
        assert Run(mine["path"]).model.read_bytes() == Run(yours["path"]).model.read_bytes()
    before = (tmp_path / "again" / "beta-0.5-seed-0" / "checkpoint").stat().st_mtime_ns
    sweep(tmp_path / "again", grid)
    assert stacks == [4, 4, 4]  # nothing was left to train
    assert (tmp_path / "again" / "beta-0.5-seed-0" / "checkpoint").stat().st_mtime_ns == before


def test_a_member_is_a_run_that_resume_continues(tmp_path: Path, stacks: list[int]) -> None:
    grid = {"seed": [0, 1, 2]}
    with interrupted_at(3 * 9 + 1), pytest.raises(StoppedError):
        sweep(tmp_path / "sweep", grid)
    run = vaekit.resume(tmp_path / "sweep" / "seed-1", observer=Silent())
    kept = run.model.read_bytes()
    record = sweep(tmp_path / "sweep", grid)
    assert stacks == [3, 2]
    assert run.model.read_bytes() == kept
    for each in record["members"]:
        alike(Run(each["path"]), alone(tmp_path / "alone", each))


def test_members_at_different_steps_are_stacked_apart(tmp_path: Path, stacks: list[int]) -> None:
    """As a kill between the checkpoints of an epoch leaves them."""
    grid = {"seed": [0, 1, 2, 3]}
    with interrupted_at(4 * 9 + 1), pytest.raises(StoppedError):
        sweep(tmp_path / "sweep", grid)
    for name in ("seed-2", "seed-3"):
        (tmp_path / "sweep" / name / "checkpoint").unlink()
    record = sweep(tmp_path / "sweep", grid)
    assert stacks == [4, 2, 2]
    for each in record["members"]:
        alike(Run(each["path"]), alone(tmp_path / "alone", each))


def test_one_that_a_kill_left_behind_the_others_ends_with_the_same_bits(tmp_path: Path, stacks: list[int]) -> None:
    """It goes on stacked, as it would have done beside them."""
    grid = {"seed": [0, 1, 2]}
    whole = sweep(tmp_path / "whole", grid)
    with interrupted_at(3 * 9 + 1), pytest.raises(StoppedError):
        sweep(tmp_path / "again", grid)
    (tmp_path / "again" / "seed-0" / "checkpoint").unlink()
    again = sweep(tmp_path / "again", grid)
    assert sorted(stacks[2:]) == [1, 2]
    for mine, yours in zip(again["members"], whole["members"], strict=True):
        assert Run(mine["path"]).model.read_bytes() == Run(yours["path"]).model.read_bytes()
        assert timeless(Run(mine["path"]).metrics()) == timeless(Run(yours["path"]).metrics())


def test_a_stop_in_the_last_step_of_a_member_stops_the_sweep(tmp_path: Path, stacks: list[int]) -> None:
    """Else the next would be trained as if nobody had asked."""
    grid, more = {"latent_dim": [2, 3]}, {"epochs": 1}  # two shapes: one after the other, of 7 steps each
    whole = sweep(tmp_path / "whole", grid, **more)
    with interrupted_at(7), pytest.raises(StoppedError, match=r"; repeat the command to continue$"):
        sweep(tmp_path / "again", grid, **more)
    assert stacks == []
    assert (tmp_path / "again" / "latent-dim-2" / "model.safetensors").exists()
    again = sweep(tmp_path / "again", grid, **more)
    for mine, yours in zip(again["members"], whole["members"], strict=True):
        assert Run(mine["path"]).model.read_bytes() == Run(yours["path"]).model.read_bytes()


def test_a_member_that_diverges_leaves_the_others_at_it(tmp_path: Path, stacks: list[int]) -> None:
    more = {"epochs": 4, "hidden": (64, 64, 64), "warmup": 0.0}
    record = sweep(tmp_path / "sweep", {"learning_rate": [0.004, 10.0], "seed": [0, 1]}, **more)
    assert stacks == [4]
    good, bad = record["members"][:2], record["members"][2:]
    diverged = [each for each in bad if each["status"] == "diverged"]
    assert diverged, "the test needs one that diverges"
    for each in diverged:
        assert each["failure"].startswith(("the loss became infinite", "a weight became infinite"))
        assert Run(each["path"]).failure() == each["failure"]
        assert not Run(each["path"]).model.exists()
    for each in good:
        assert each["status"] == "finished"
        alike(Run(each["path"]), alone(tmp_path / "alone", each, **more))
    again = sweep(tmp_path / "sweep", {"learning_rate": [0.004, 10.0], "seed": [0, 1]}, **more)
    assert numbers(again) == numbers(record)
    assert stacks == [4]  # what diverged would do so again


def test_members_run_out_of_patience_each_for_itself(tmp_path: Path, stacks: list[int]) -> None:
    more = {"train_limit": 40, "batch_size": 20, "epochs": 20, "learning_rate": 0.02, "warmup": 0.0, "patience": 2}
    record = sweep(tmp_path / "sweep", {"beta": [0.0, 1.0], "seed": [0, 1]}, **more)
    assert stacks == [4]
    ends = [Run(each["path"]).metrics()[-1]["epoch"] for each in record["members"]]
    assert len(set(ends)) > 1
    assert min(ends) < 20
    for each in record["members"]:
        alike(Run(each["path"]), alone(tmp_path / "alone", each, **more))


def test_another_look_at_the_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stacks: list[int]) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    record = sweep(tmp_path / "sweep", {"seed": [0, 1, 2]}, epochs=1)
    assert stacks == [2]
    assert all(math.isfinite(each["val"]["elbo_nats"]) for each in record["members"])
