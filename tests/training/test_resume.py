"""Exact resume: a run that is killed or stopped anywhere ends with the same bits as one that never was."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaekit
from helpers_run import child, command, environment, failing_at, interrupted_at, timeless
from vaekit.config import set_flags
from vaekit.errors import InputError, RunError
from vaekit.runs import Run
from vaekit.settings import Config, configure
from vaekit.storage import read_tensors
from vaekit.training.reporting import Silent

COMMON = {
    "data": "digits",
    "validation": 51,
    "train_limit": 250,
    "batch_size": 32,
    "latent_dim": 3,
    "epochs": 4,
    "device": "cpu",
    "threads": 1,
}
SMALL = {
    "mlp": {"preset": "mlp", "hidden": "16,8"},
    "conv": {"preset": "conv", "channels": "4,8", "dense": 16},
}
NETWORKS = [("mlp", "float32"), ("conv", "float32"), ("mlp", "bfloat16"), ("conv", "bfloat16")]
STEPS = 31  # 4 epochs of 250 images in batches of 32; epochs end at steps 7, 15, 23 and 31


def settings(network: str = "mlp", precision: str = "float32", **more: Any) -> dict[str, Any]:
    return {**COMMON, **SMALL[network], "precision": precision, **more}


def config(given: dict[str, Any]) -> Config:
    flat = {name: value for name, value in given.items() if name != "preset"}
    return set_flags(configure(given["preset"]), flat)


def words(given: dict[str, Any], out: Path, report: bool = False) -> list[str]:
    flags = [word for name, value in given.items() for word in ("--" + name.replace("_", "-"), str(value))]
    return ["train", *flags, "--out", str(out), *([] if report else ["--no-report"])]


@cache
def whole(folder: Path, network: str, precision: str) -> Run:
    """The run that never stopped."""
    return vaekit.train(
        folder / f"{network}-{precision}", config=config(settings(network, precision)), observer=Silent()
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


def assert_equal_runs(found: Run, expected: Run) -> None:
    """Same weights bit by bit, same file, same records, each epoch once."""
    ours, _ = read_tensors(found.model, "model")
    theirs, _ = read_tensors(expected.model, "model")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    assert found.model.read_bytes() == expected.model.read_bytes()
    assert [record["epoch"] for record in found.metrics()] == list(range(1, len(expected.metrics()) + 1))
    assert timeless(found.metrics()) == timeless(expected.metrics())
    _, about = read_tensors(found.checkpoint, "checkpoint")
    assert about["progress"]["records"] == found.metrics()
    assert about["progress"]["finished"]


def killed(run: Path, given: dict[str, Any], fault: dict[str, Any], report: bool = False) -> None:
    done = child(words(given, run, report), {"signal": "KILL", **fault})
    assert done.returncode == -9, done.stderr


MID_STEP = {"at": "vaekit.training.optimization.Optimizers.step", "call": 19}
FAULTS = {
    "mid-step": MID_STEP,
    "before-the-checkpoint-is-renamed": {"at": "os.replace", "call": 3, "match": "/checkpoint"},
    "after-the-checkpoint-is-renamed": {"at": "os.replace", "call": 3, "match": "/checkpoint", "after": True},
    "before-the-metrics-are-renamed": {"at": "os.replace", "call": 2, "match": "/metrics.jsonl"},
    "before-the-last-metrics-are-renamed": {"at": "os.replace", "call": 4, "match": "/metrics.jsonl"},
    "before-the-model-is-renamed": {"at": "os.replace", "call": 1, "match": "/model.safetensors"},
    "in-the-write-of-a-checkpoint": {"at": "os.fsync", "call": 4},
    "before-validation": {"at": "vaekit.training.trainer.validate", "call": 2},
    "after-validation": {"at": "vaekit.training.trainer.validate", "call": 3, "after": True},
}
FAST = {("mid-step", "conv", "bfloat16"), ("before-the-checkpoint-is-renamed", "mlp", "float32")}
CASES = [
    pytest.param(*case, marks=() if case in FAST else pytest.mark.slow)
    for case in [
        *((fault, *network) for fault in ("mid-step", "before-the-checkpoint-is-renamed") for network in NETWORKS),
        *((fault, "mlp", "float32") for fault in list(FAULTS)[2:]),
    ]
]


@pytest.mark.parametrize(("fault", "network", "precision"), CASES)
def test_a_killed_run_resumes_to_the_same_bits(
    fault: str, network: str, precision: str, folder: Path, tmp_path: Path
) -> None:
    killed(tmp_path / "run", settings(network, precision), FAULTS[fault])
    run = Run(tmp_path / "run")
    assert run.checkpoint.exists()
    assert not run.model.exists()
    vaekit.resume(run.path, observer=Silent())
    assert_equal_runs(run, whole(folder, network, precision))


def test_a_kill_leaves_what_the_fault_says(tmp_path: Path) -> None:
    """A fault strikes where it claims to: the temporary file is there, and so is the old checkpoint."""
    killed(tmp_path / "run", settings(), FAULTS["before-the-checkpoint-is-renamed"])
    run = Run(tmp_path / "run")
    _, about = read_tensors(run.checkpoint, "checkpoint")
    assert about["progress"]["step"] == 15
    assert [record["step"] for record in run.metrics()] == [7, 15]
    (left,) = run.path.glob(".checkpoint.*")
    _, newer = read_tensors(left, "checkpoint")
    assert newer["progress"]["step"] == 23


def test_a_run_stopped_again_and_again_resumes_to_the_same_bits(folder: Path, tmp_path: Path) -> None:
    """The first time before its first checkpoint: then it starts from the seed anew."""
    path = tmp_path / "run"
    with failing_at(3), pytest.raises(ZeroDivisionError):
        vaekit.train(path, config=config(settings("conv")), observer=Silent())
    assert not (path / "checkpoint").exists()
    reached = []
    for more in (5, 2, 1, 13):
        with interrupted_at(more), pytest.raises(RunError):
            vaekit.resume(path, observer=Silent())
        reached.append(read_tensors(path / "checkpoint", "checkpoint")[1]["progress"]["step"])
    assert reached == [5, 7, 8, 21]
    vaekit.resume(path, observer=Silent())
    assert_equal_runs(Run(path), whole(folder, "conv", "float32"))


@pytest.mark.slow
@pytest.mark.parametrize("match", [".png", "report.html"])
def test_a_run_killed_in_its_figures_keeps_its_weights(match: str, folder: Path, tmp_path: Path) -> None:
    fault = {"at": "os.replace", "call": 2 if match == ".png" else 1, "match": match}
    killed(tmp_path / "run", settings(), fault, report=True)
    run = Run(tmp_path / "run")
    assert_equal_runs(run, whole(folder, "mlp", "float32"))
    assert not run.report.exists()
    done = child(["resume", str(run.path)])
    assert done.returncode == 0, done.stderr
    assert_equal_runs(run, whole(folder, "mlp", "float32"))
    assert run.report.exists()


@pytest.mark.parametrize("name", ["TERM", pytest.param("INT", marks=pytest.mark.slow)])
def test_a_signal_stops_with_a_checkpoint_of_that_step(name: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    done = child(words(settings("conv"), path), {**MID_STEP, "signal": name})
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == f"vaekit: stopped at step 19; continue: vaekit resume {path}"
    assert "Traceback" not in done.stderr
    _, about = read_tensors(path / "checkpoint", "checkpoint")
    assert (about["progress"]["step"], about["progress"]["epoch"]) == (19, 2)
    vaekit.resume(path, observer=Silent())
    assert_equal_runs(Run(path), whole(folder, "conv", "float32"))


@pytest.mark.parametrize("step", [7, 8, 14, 30])
def test_a_stop_at_the_edge_of_an_epoch_loses_and_doubles_nothing(step: int, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with interrupted_at(step), pytest.raises(RunError, match=f"stopped at step {step};"):
        vaekit.train(path, config=config(settings("conv", "bfloat16")), observer=Silent())
    vaekit.resume(path, observer=Silent())
    assert_equal_runs(Run(path), whole(folder, "conv", "bfloat16"))


def test_a_signal_in_the_last_step_lets_the_run_finish(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with interrupted_at(STEPS):
        vaekit.train(path, config=config(settings("conv")), observer=Silent())
    assert_equal_runs(Run(path), whole(folder, "conv", "float32"))


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with interrupted_at(2), pytest.raises(RunError):
        vaekit.train(tmp_path / "run", config=config(settings()), observer=Silent())
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


OVERFIT = {
    "train_limit": 40,
    "batch_size": 20,
    "epochs": 40,
    "learning_rate": 0.02,
    "decay": "none",
    "latent_dim": 8,
}


def test_early_stopping_and_the_best_weights_survive(tmp_path: Path) -> None:
    given = config(settings(**{**OVERFIT, "hidden": "64", "patience": 6}))
    expected = vaekit.train(tmp_path / "whole", config=given, observer=Silent())
    _, about = read_tensors(expected.checkpoint, "checkpoint")
    best, last = about["progress"]["best_epoch"], about["progress"]["epoch"]
    assert last == best + 6 < 40  # it did stop early
    for step in (2 * best + 1, 2 * last - 3):
        path = tmp_path / f"run-{step}"
        with interrupted_at(step), pytest.raises(RunError):
            vaekit.train(path, config=given, observer=Silent())
        vaekit.resume(path, observer=Silent())
        assert_equal_runs(Run(path), expected)
        _, found = read_tensors(path / "checkpoint", "checkpoint")
        assert (found["progress"]["best_epoch"], found["progress"]["epoch"]) == (best, last)


def test_metrics_beyond_the_checkpoint_are_cut_back(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with interrupted_at(16), pytest.raises(RunError):
        vaekit.train(path, config=config(settings()), observer=Silent())
    file = path / "metrics.jsonl"
    lines = file.read_text()
    assert lines.count("\n") == 2
    file.write_text(lines + json.dumps({"epoch": 3, "step": 23, "train": {"loss": -1.0}}) + '\n{"epoch": 4, "ste')
    with interrupted_at(1), pytest.raises(RunError):
        vaekit.resume(path, observer=Silent())
    assert file.read_text() == lines
    vaekit.resume(path, observer=Silent())
    assert_equal_runs(Run(path), whole(folder, "mlp", "float32"))


def test_metrics_that_were_lost_come_back_from_the_checkpoint(tmp_path: Path) -> None:
    run = vaekit.train(tmp_path / "run", config=config(settings()), observer=Silent())
    records = run.metrics()
    (run.path / "metrics.jsonl").unlink()
    vaekit.resume(run.path, observer=Silent())
    assert run.metrics() == records


def test_a_finished_run_does_not_change(tmp_path: Path) -> None:
    run = vaekit.train(tmp_path / "run", config=config(settings("conv")), observer=Silent())
    before = {file.name: file.read_bytes() for file in run.path.iterdir() if file.is_file()}
    assert {"config.json", "metrics.jsonl", "checkpoint", "model.safetensors"} <= before.keys()
    vaekit.resume(run.path, observer=Silent())
    assert {file.name: file.read_bytes() for file in run.path.iterdir() if file.is_file()} == before


def test_a_second_process_is_refused_while_the_first_trains(folder: Path, tmp_path: Path) -> None:
    path, ready = tmp_path / "run", tmp_path / "ready"
    fault = {**MID_STEP, "signal": "WAIT", "ready": str(ready)}
    first = subprocess.Popen(
        command(words(settings(), path), fault),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while not ready.exists():
            assert first.poll() is None, first.stderr.read()
            time.sleep(0.02)
        with pytest.raises(InputError) as refusal:
            vaekit.resume(path, observer=Silent())
        assert str(refusal.value) == f"run {str(path)!r} is in use by another process; wait for it or stop it"
        with pytest.raises(InputError, match=r"holds a run already; continue it with vaekit resume"):
            vaekit.train(path, config=config(settings()), observer=Silent())
    finally:
        first.kill()
        first.communicate()
    vaekit.resume(path, observer=Silent())
    assert_equal_runs(Run(path), whole(folder, "mlp", "float32"))


@pytest.mark.parametrize("change", ["pixel", "label", "count"])
def test_changed_data_are_refused(change: str, tmp_path: Path) -> None:
    file, path = tmp_path / "own.npz", tmp_path / "run"
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (300, 8, 8), dtype=np.uint8), np.arange(300) % 3
    np.savez(file, images=images, labels=labels)
    given = config(settings(data=str(file), validation=30))
    with interrupted_at(8), pytest.raises(RunError):
        vaekit.train(path, config=given, observer=Silent())
    if change == "pixel":
        images[:, 3, 3] ^= 1
    elif change == "label":
        labels = labels[::-1]
    count = 299 if change == "count" else 300
    np.savez(file, images=images[:count], labels=labels[:count])
    before = (path / "checkpoint").read_bytes()
    with pytest.raises(InputError) as refusal:
        vaekit.resume(path, observer=Silent())
    assert str(refusal.value) == f"data {str(file)!r} changed since the run began; restore them or train anew"
    assert (path / "checkpoint").read_bytes() == before


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    with interrupted_at(8), pytest.raises(RunError):
        vaekit.train(tmp_path / "run", config=config(settings()), observer=Silent())
    file = tmp_path / "run" / "config.json"
    stored = json.loads(file.read_text())
    stored["resolved"]["processes"] = 4
    file.write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"was begun with 4 processes and this is 1; start as many$"):
        vaekit.resume(tmp_path / "run", observer=Silent())


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config.json; give a folder made by vaekit train"):
        vaekit.resume(tmp_path)


def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with interrupted_at(8), pytest.raises(RunError):
        vaekit.train(path, config=config(settings()), observer=Silent())
    damaged = (path / "checkpoint").read_bytes()[:-10]
    (path / "checkpoint").write_bytes(damaged)
    with pytest.raises(InputError, match=r"checkpoint: is not a checkpoint of vaekit, or is damaged"):
        vaekit.resume(path, observer=Silent())
    assert (path / "checkpoint").read_bytes() == damaged
