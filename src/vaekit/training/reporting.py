"""Progress on standard error: a live bar on a terminal, one line an epoch everywhere. And, as an option, TensorBoard."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from vaekit.errors import InputError
from vaekit.models.table import Model
from vaekit.runs import Run
from vaekit.settings import Training
from vaekit.training.checkpoints import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_BAR = 24


class Observer(Protocol):
    """Who is told how training goes. `means` are running means over the epoch, by name."""

    def step(
        self, progress: Progress, total_steps: int, means: Mapping[str, float], images_per_second: float
    ) -> None: ...

    def epoch(self, record: dict[str, Any], total_epochs: float, model: Model) -> None: ...


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any.

    >>> duration(65), duration(3725)
    ('1:05', '1:02:05')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _terms(means: Mapping[str, Any]) -> str:
    parts = [f"loss {means['loss']:.2f}", f"distortion {means['distortion_nats']:.2f}"]
    if means.get("rate_nats") is not None:
        parts.append(f"rate {means['rate_nats']:.2f}")
    return "  ".join(parts)


def _size(record: Mapping[str, Any]) -> str:
    """The size of the images, where it grows."""
    return f"   {'x'.join(map(str, record['resolution']))}" if "resolution" in record else ""


class EpochLines:
    """Writes a line an epoch, and on a terminal a line that is rewritten as the steps go by."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.first: tuple[int, float] | None = None

    def step(self, progress: Progress, total_steps: int, means: Mapping[str, float], images_per_second: float) -> None:
        if not self.stream.isatty():
            return
        now = time.perf_counter()
        first_step, started = self.first = self.first or (progress.step, now)
        done = progress.step - first_step
        left = duration((now - started) / done * (total_steps - progress.step)) if done else "?"
        filled = _BAR * progress.step // total_steps
        bar = "━" * filled + "╌" * (_BAR - filled)
        percent = f"{100 * progress.step // total_steps:3d}%"
        self._rewrite(f"{bar} {percent}  {_terms(means)}  {images_per_second:,.0f} images/s  {left} left")

    def epoch(self, record: dict[str, Any], total_epochs: float, model: Model) -> None:
        val = record["val"]
        held_out = ""
        if val is not None:
            name, words = ("loss", "loss") if val["elbo_nats"] is None else ("elbo_nats", "ELBO")
            held_out = f"   validation {words} {val[name]:.2f}"
        if self.stream.isatty():
            self._rewrite("")
        self.stream.write(
            f"epoch {record['epoch']:>3}/{total_epochs:g}{_size(record)}   {_terms(record['train'])}{held_out}   "
            f"{record['images_per_second']:,.0f} images/s\n"
        )
        self.stream.flush()

    def _rewrite(self, line: str) -> None:
        width = shutil.get_terminal_size((100, 24)).columns - 1
        self.stream.write("\r" + line[:width].ljust(width) + ("" if line else "\r"))
        self.stream.flush()


class Silent:
    """Writes nothing."""

    def step(self, progress: Progress, total_steps: int, means: Mapping[str, float], images_per_second: float) -> None:
        pass

    def epoch(self, record: dict[str, Any], total_epochs: float, model: Model) -> None:
        pass


class Several:
    """Tells several observers, one after the other."""

    def __init__(self, *observers: Observer):
        self.observers = observers

    def step(self, progress: Progress, total_steps: int, means: Mapping[str, float], images_per_second: float) -> None:
        for observer in self.observers:
            observer.step(progress, total_steps, means, images_per_second)

    def epoch(self, record: dict[str, Any], total_epochs: float, model: Model) -> None:
        for observer in self.observers:
            observer.epoch(record, total_epochs, model)


def check_tensorboard(training: Training) -> None:
    """Refuse to log for TensorBoard where it is not installed.

    Raises:
        InputError: when it is asked for and missing.
    """
    if training.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard: the package tensorboard is not installed; pip install vaekit[tensorboard]")


class TensorBoard:
    """Writes the numbers of each epoch's record, by step, into ``RUN/tensorboard/train`` and ``RUN/tensorboard/val``.

    Both use the same names, so that TensorBoard draws training and validation into one chart. After a resume the last
    epoch of before is written again and what stood from there on is purged: a run that was killed between checkpoint and
    log has no gap, and nothing stands twice.

    Args:
        run: whose `metrics.jsonl` is written before an observer is told of an epoch.
    """

    def __init__(self, run: Run):
        self.run = run
        self.folder = run.path / "tensorboard"
        self.writers: dict[str, SummaryWriter] = {}

    def step(self, progress: Progress, total_steps: int, means: Mapping[str, float], images_per_second: float) -> None:
        pass

    def epoch(self, record: dict[str, Any], total_epochs: float, model: Model) -> None:
        records = [record] if self.writers else self._open()
        for one in records:
            numbers = {name: value for name, value in one.items() if isinstance(value, float) and name != "seconds"}
            self._write("train", {**numbers, **one["train"]}, one["step"])
            self._write("val", one["val"] or {}, one["step"])
        for writer in self.writers.values():
            writer.flush()

    def _open(self) -> list[dict[str, Any]]:
        """Begin files beside those that are there; returns the records to write into them."""
        from torch.utils.tensorboard import SummaryWriter

        records, purge = self.run.metrics(), None
        if self.folder.exists():
            records = records[-2:]
            purge = records[0]["step"]
        for part in ("train", "val") if records[0]["val"] is not None else ("train",):
            self.writers[part] = SummaryWriter(str(self.folder / part), purge_step=purge)
        return records

    def _write(self, part: str, means: Mapping[str, float | None], step: int) -> None:
        for name, value in means.items():
            if value is not None:
                self.writers[part].add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files."""
        for writer in self.writers.values():
            writer.close()
