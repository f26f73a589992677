"""What training says on standard error."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers_run import interrupted_at, timeless
from vaekit.errors import InputError, RunError
from vaekit.models.table import Model
from vaekit.runs import Run
from vaekit.storage import read_tensors
from vaekit.training.checkpoints import Progress
from vaekit.training.reporting import EpochLines, Several, Silent, TensorBoard
from vaekit.training.train import resume, train

MEANS = {"loss": 130.456, "distortion_nats": 125.0, "rate_nats": 5.456}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Nothing(Model):
    layer: nn.Module


def record(val: dict[str, float | None] | None) -> dict[str, object]:
    return {"epoch": 2, "images_per_second": 4321.4, "train": MEANS, "val": val}


def test_a_file_gets_one_line_an_epoch_and_no_bar() -> None:
    stream = io.StringIO()
    lines = EpochLines(stream)
    lines.step(Progress(step=100), 400, MEANS, 4000.0)
    lines.epoch(record({"elbo_nats": -131.2, "loss": 131.2}), 4.0, Nothing())
    assert stream.getvalue() == (
        "epoch   2/4   loss 130.46  distortion 125.00  rate 5.46   validation ELBO -131.20   4,321 images/s\n"
    )


def test_without_a_bound_the_line_shows_the_loss_and_no_rate() -> None:
    stream = io.StringIO()
    means = {"loss": 9.0, "distortion_nats": 9.0}
    EpochLines(stream).epoch({**record({"elbo_nats": None, "loss": 9.5}), "train": means}, 4.0, Nothing())
    assert stream.getvalue() == "epoch   2/4   loss 9.00  distortion 9.00   validation loss 9.50   4,321 images/s\n"


def test_a_terminal_gets_a_bar_with_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    clock = iter([10.0, 20.0])
    monkeypatch.setattr("vaekit.training.reporting.time.perf_counter", lambda: next(clock))
    stream = Terminal()
    lines = EpochLines(stream)
    lines.step(Progress(step=100), 400, MEANS, 4000.0)
    lines.step(Progress(step=200), 400, MEANS, 4000.0)
    shown = stream.getvalue().split("\r")[-1].strip()
    assert shown == "━" * 12 + "╌" * 12 + "  50%  loss 130.46  distortion 125.00  rate 5.46  4,000 images/s  0:20 left"


def test_the_bar_never_passes_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    EpochLines(stream).step(Progress(step=100), 400, MEANS, 4000.0)
    assert all(len(line) < 40 for line in stream.getvalue().split("\r"))


# TensorBoard

LOGGED = {
    "data": "digits",
    "validation": 51,
    "train_limit": 250,
    "batch_size": 32,
    "hidden": "16",
    "latent_dim": 3,
    "epochs": 4,
    "device": "cpu",
    "threads": 1,
    "objective": "free-bits",
    "beta_schedule": "linear",
}


def logged(run: Run) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """What TensorBoard's own reader finds: (step, value) by part and name."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = {}
    for part in sorted((run.path / "tensorboard").iterdir()):
        events = reader.EventAccumulator(str(part))
        events.Reload()
        found[part.name] = {
            name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]
        }
    return found


def expected(run: Run) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """The same of the run's records, as float32."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {"train": {}, "val": {}}
    for record in run.metrics():
        beside = ("images_per_second", "learning_rate", "beta", "free_bits")
        means = {"train": {**{name: record[name] for name in beside}, **record["train"]}, "val": record["val"] or {}}
        for part, values in means.items():
            for name, value in values.items():
                if value is not None:
                    found[part].setdefault(name, []).append((record["step"], float(np.float32(value))))
    return {part: values for part, values in found.items() if values}


def test_tensorboard_shows_the_records(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = train(tmp_path / "run", "mlp", **LOGGED, tensorboard=True, observer=Silent())
    found = logged(run)
    assert found == expected(run)
    assert [step for step, _ in found["val"]["elbo_nats"]] == [7, 15, 23, 31]
    assert {"loss", "elbo_nats", "rate_nats", "distortion_nats"} <= found["train"].keys() & found["val"].keys()


def test_tensorboard_changes_no_number_and_is_off_by_default(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    plain = train(tmp_path / "plain", "mlp", **LOGGED, observer=Silent())
    run = train(tmp_path / "run", "mlp", **LOGGED, tensorboard=True, observer=Silent())
    assert not (plain.path / "tensorboard").exists()
    assert timeless(plain.metrics()) == timeless(run.metrics())
    ours, theirs = (read_tensors(one.model, "model")[0] for one in (run, plain))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.parametrize("stops", [(3,), (7,), (10, 3, 6), (23,), (30,)])
def test_after_a_resume_nothing_is_missing_and_nothing_twice(stops: tuple[int, ...], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with interrupted_at(stops[0]), pytest.raises(RunError):
        train(tmp_path / "run", "mlp", **LOGGED, tensorboard=True, observer=Silent())
    for more in stops[1:]:
        with interrupted_at(more), pytest.raises(RunError):
            resume(tmp_path / "run", observer=Silent())
    run = resume(tmp_path / "run", observer=Silent())
    assert logged(run) == expected(run)


def test_a_run_killed_between_checkpoint_and_log_has_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    write, calls = TensorBoard.epoch, 0

    def dies(self: TensorBoard, *arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ZeroDivisionError
        write(self, *arguments)

    monkeypatch.setattr(TensorBoard, "epoch", dies)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "run", "mlp", **LOGGED, tensorboard=True, observer=Silent())
    monkeypatch.undo()
    assert [record["step"] for record in Run(tmp_path / "run").metrics()] == [7, 15]
    assert [step for step, _ in logged(Run(tmp_path / "run"))["train"]["loss"]] == [7]
    run = resume(tmp_path / "run", observer=Silent())
    assert logged(run) == expected(run)


def test_a_finished_run_logs_nothing_more(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = train(tmp_path / "run", "mlp", **LOGGED, tensorboard=True, observer=Silent())
    before = sorted(path.name for path in run.path.rglob("*"))
    resume(run.path, observer=Silent())
    assert sorted(path.name for path in run.path.rglob("*")) == before


def test_without_validation_images_there_are_curves_of_training_alone(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = train(tmp_path / "run", "mlp", **{**LOGGED, "validation": 0}, tensorboard=True, observer=Silent())
    assert logged(run) == expected(run)
    assert list(logged(run)) == ["train"]


def test_without_the_package_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError) as refusal:
        train(tmp_path / "run", "mlp", **LOGGED, tensorboard=True, observer=Silent())
    sentence = "--tensorboard: the package tensorboard is not installed; pip install vaekit[tensorboard]"
    assert str(refusal.value) == sentence
    assert not (tmp_path / "run").exists()
    train(tmp_path / "run", "mlp", **{**LOGGED, "epochs": 0.1}, observer=Silent())


def test_several_observers_are_told_the_same() -> None:
    streams = io.StringIO(), io.StringIO()
    both = Several(*map(EpochLines, streams))
    both.step(Progress(step=100), 400, MEANS, 4000.0)
    both.epoch(record({"elbo_nats": -131.2, "loss": 131.2}), 4.0, Nothing())
    assert streams[0].getvalue() == streams[1].getvalue() != ""
