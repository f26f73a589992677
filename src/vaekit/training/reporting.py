"""Progress on standard error: a live bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from vaekit.models.table import Model
from vaekit.training.checkpoints import Progress


def _time(seconds: float) -> str:
    """
    >>> _time(3725)
    '1:02:05'
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

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.started = time.perf_counter()
        self.first_step: int | None = None

    def step(self, progress: Progress, total_steps: int, means: Mapping[str, float]) -> None:
        if not self.live:
            return
        if self.first_step is None:
            self.first_step, self.started = progress.step, time.perf_counter()
            return
        done = progress.step - self.first_step
        left = (time.perf_counter() - self.started) / max(done, 1) * (total_steps - progress.step)
        width = 24
        filled = width * progress.step // total_steps
        bar = "━" * filled + "╌" * (width - filled)
        line = f"\r{bar} {100 * progress.step // total_steps:3d}%  {_terms(means)}  {_time(left)} left"
        sys.stderr.write(line.ljust(100)[:140])
        sys.stderr.flush()

    def epoch(self, record: dict[str, Any], total_epochs: float, model: Model) -> None:
        val = record["val"]
        held_out = ""
        if val is not None:
            name = "elbo_nats" if val["elbo_nats"] is not None else "loss"
            held_out = f"   validation {'ELBO' if name == 'elbo_nats' else 'loss'} {val[name]:.2f}"
        line = (
            f"epoch {record['epoch']:>3}/{total_epochs:g}   {_terms(record['train'])}{held_out}   "
            f"{record['images_per_second']:,.0f} images/s"
        )
        clear = "\r" + " " * 140 + "\r" if self.live else ""
        sys.stderr.write(f"{clear}{line}\n")
        sys.stderr.flush()


class Silent:
    """Writes nothing."""

    def step(self, progress: Progress, total_steps: int, means: Mapping[str, float]) -> None:
        pass

    def epoch(self, record: dict[str, Any], total_epochs: float, model: Model) -> None:
        pass
