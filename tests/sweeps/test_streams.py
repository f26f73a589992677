"""Members that train side by side, each by its own steps, end with the bits that they have alone.

Without a GPU there is one stream: then the loop is tested, and that all of a member's work is done on its own stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import vaekit
from helpers_run import interrupted_at, timeless
from vaekit.errors import StoppedError
from vaekit.runs import Run
from vaekit.storage import read_tensors
from vaekit.sweeps import streams as module
from vaekit.sweeps import sweep as sweeping
from vaekit.sweeps.joint import may_join
from vaekit.sweeps.streams import Streams
from vaekit.training.reporting import Silent
from vaekit.training.trainer import Trainer

CONV: dict[str, Any] = {
    "data": "digits",
    "validation": 51,
    "train_limit": 160,
    "batch_size": 32,
    "channels": (4,),
    "dense": 8,
    "latent_dim": 2,
    "epochs": 2,
    "device": "cpu",
    "threads": 1,
}


def sweep(path: Path, grid: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {name: value for name, value in {**CONV, **more}.items() if name not in grid}
    return vaekit.sweep(path, "conv", grid, observer=Silent(), **given)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets a CPU take the way of a GPU; how many members took each round of steps."""
    found: list[int] = []
    step = Streams.step

    def counted(self: Streams) -> None:
        found.append(len(self.trainers))
        step(self)

    monkeypatch.setattr(Streams, "may", staticmethod(may_join))
    monkeypatch.setattr(Streams, "step", counted)
    return found


def same_as_alone(record: dict[str, Any], folder: Path, **more: Any) -> None:
    """Weights to the bit, and every record but its times."""
    for each in record["members"]:
        given = {**CONV, **more, **each["values"]}
        single = vaekit.train(folder / each["name"], "conv", observer=Silent(), **given)
        member = Run(each["path"])
        assert member.model.read_bytes() == single.model.read_bytes()
        assert timeless(member.metrics()) == timeless(single.metrics())


@pytest.mark.parametrize(
    ("grid", "more"),
    [
        ({"beta": [0.5, 2.0], "seed": [0, 1]}, {"conditioning": "embedding", "ema_decay": 0.9}),
        ({"seed": [0, 1]}, {"channels": (4, 4), "progressive": 2}),
        ({"learning_rate": [0.001, 0.01]}, {"precision": "bfloat16"}),
        ({"seed": [0, 1]}, {"objective": "factor", "beta": 1.0}),
    ],
    ids=["conditional", "growing", "low precision", "two players"],
)
def test_members_equal_single_runs(
    grid: dict[str, Any], more: dict[str, Any], tmp_path: Path, rounds: list[int]
) -> None:
    record = sweep(tmp_path / "sweep", grid, **more)
    assert rounds == [len(record["members"])] * 10
    assert len({each["val"]["loss"] for each in record["members"]}) == len(record["members"])
    same_as_alone(record, tmp_path / "alone", **more)


def test_on_a_cpu_convolutions_run_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Streams, "step", None)
    record = sweep(tmp_path / "sweep", {"seed": [0, 1]}, epochs=1)
    assert [each["status"] for each in record["members"]] == ["finished", "finished"]


def test_more_than_fit_side_by_side_come_in_parts(
    tmp_path: Path, rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "SIDE_BY_SIDE", 2)
    record = sweep(tmp_path / "sweep", {"seed": [0, 1, 2]}, epochs=1)
    assert rounds == [2] * 5 + [1] * 5
    same_as_alone(record, tmp_path / "alone", epochs=1)


def test_a_stopped_sweep_goes_on_to_the_same_bits(tmp_path: Path, rounds: list[int]) -> None:
    with interrupted_at(2 * 6 + 1), pytest.raises(StoppedError, match=r"^stopped at step 7; repeat the command"):
        sweep(tmp_path / "sweep", {"seed": [0, 1]})
    checkpoints = sorted((tmp_path / "sweep").glob("*/checkpoint"))
    assert [read_tensors(path, "c")[1]["progress"]["step"] for path in checkpoints] == [7, 7]
    same_as_alone(sweep(tmp_path / "sweep", {"seed": [0, 1]}), tmp_path / "alone")
    assert rounds == [2] * 10


def test_one_that_diverges_leaves_the_others_at_it(tmp_path: Path, rounds: list[int]) -> None:
    more = {"warmup": 0.0, "train_limit": 640, "epochs": 6, "gradient_clip": None}
    record = sweep(tmp_path / "sweep", {"learning_rate": [0.004, 10.0]}, **more)
    good, bad = record["members"]
    assert (good["status"], bad["status"]) == ("finished", "diverged")
    assert {1, 2} == set(rounds)
    same_as_alone({"members": [good]}, tmp_path / "alone", **more)


def test_what_does_not_fit_into_the_memory_of_a_gpu_is_trained_in_turn(
    tmp_path: Path, rounds: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take = Trainer.take_step

    def full(self: Trainer) -> None:
        if len(rounds) == 7 and self.settings.seed == 1:
            monkeypatch.undo()
            raise torch.OutOfMemoryError("CUDA out of memory")
        take(self)

    monkeypatch.setattr(Trainer, "take_step", full)
    record = sweep(tmp_path / "sweep", {"seed": [0, 1]})
    sentence = "2 members at once do not fit into the GPU's memory; the rest is trained one after the other"
    assert sentence in capsys.readouterr().err
    assert [each["status"] for each in record["members"]] == ["finished", "finished"]
    same_as_alone(record, tmp_path / "alone")


def test_all_work_of_a_member_is_on_its_own_stream(
    tmp_path: Path, rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now: list[Any] = []
    seen: dict[str, set[tuple[int, Any]]] = {}

    @contextmanager
    def on(stream: Any) -> Iterator[None]:
        now.append(stream)
        yield
        now.pop()

    def noted(owner: Any, name: str, seed: Any) -> None:
        original = getattr(owner, name)

        def wrapped(first: Any, *rest: Any, **named: Any) -> Any:
            seen.setdefault(name, set()).add((seed(first), now[-1]))
            return original(first, *rest, **named)

        monkeypatch.setattr(owner, name, wrapped)

    make = Streams.__init__

    def numbered(self: Streams, trainers: list[Trainer]) -> None:
        make(self, trainers)
        self.streams = {id(each): f"stream {each.settings.seed}" for each in trainers}

    monkeypatch.setattr(module.torch.cuda, "stream", on)
    monkeypatch.setattr(Streams, "__init__", numbered)
    for name in ("take_step", "stepped", "weights", "save"):
        noted(Trainer, name, lambda trainer: trainer.settings.seed)
    noted(sweeping, "keep", lambda trainer: trainer.settings.seed)
    sweep(tmp_path / "sweep", {"seed": [3, 4]})
    assert seen.keys() == {"take_step", "stepped", "weights", "save", "keep"}
    assert all(places == {(3, "stream 3"), (4, "stream 4")} for places in seen.values())
    assert now == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_streams_of_a_gpu_give_the_bits_of_single_runs(tmp_path: Path, precision: str) -> None:
    more = {"device": "cuda", "precision": precision, "epochs": 12}
    record = sweep(tmp_path / "sweep", {"beta": [0.5, 2.0], "seed": [0, 1, 2]}, **more)
    same_as_alone(record, tmp_path / "alone", **more)
