"""What training says on standard error."""

from __future__ import annotations

import io

import pytest
from torch import nn

from vaekit.models.table import Model
from vaekit.training.checkpoints import Progress
from vaekit.training.reporting import EpochLines

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
