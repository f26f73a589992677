"""Progress on standard error: a live bar on a terminal, one line an epoch everywhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from vaekit.models.table import Model
from vaekit.training.checkpoints import Progress

_BAR = 24


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
            f"epoch {record['epoch']:>3}/{total_epochs:g}   {_terms(record['train'])}{held_out}   "
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
