"""Progress of members that train together: one line an epoch for all of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TextIO

from vaekit.models.table import Model
from vaekit.training.checkpoints import Progress
from vaekit.training.reporting import EpochLines


class Together:
    """An observer that several trainings tell, and that writes how far apart they are.

    Args:
        count: how many train.
        stream: where to write; None is standard error.
    """

    def __init__(self, count: int, stream: TextIO | None = None):
        self.count, self.stream = count, sys.stderr if stream is None else stream
        self.live = EpochLines(self.stream)
        self.leader: Progress | None = None
        self.records: list[dict[str, Any]] = []
        self.awaited = count
        self.total_epochs = 0.0

    def step(self, progress: Progress, total_steps: int, means: Mapping[str, float], images_per_second: float) -> None:
        self.leader = self.leader or progress
        if progress is self.leader:
            self.live.step(progress, total_steps, means, images_per_second)

    def epoch(self, record: dict[str, Any], total_epochs: float, model: Model) -> None:
        if not self.records:
            self.awaited = self.count
        self.records.append(record)
        self.total_epochs = total_epochs
        self._write()

    def left(self, diverged: bool) -> None:
        """One has ended: after its record of this epoch, or without one where it diverged."""
        self.count -= 1
        self.leader = None
        if diverged:
            self.awaited -= 1
            self._write()

    def _write(self) -> None:
        if not self.records or len(self.records) < self.awaited:
            return
        train, val = ([each[part] for each in self.records] for part in ("train", "val"))
        words = [f"epoch {self.records[0]['epoch']:>3}/{self.total_epochs:g}", f"{len(train)} members"]
        words.append(f"loss {_span([each['loss'] for each in train])}")
        bounds = [each["elbo_nats"] for each in val if each is not None and each["elbo_nats"] is not None]
        if bounds:
            words.append(f"validation ELBO {_span(bounds)}")
        words.append(f"{sum(each['images_per_second'] for each in self.records) / len(train):,.0f} images/s of all")
        if self.stream.isatty():
            self.stream.write("\r\x1b[K")
        self.stream.write("   ".join(words) + "\n")
        self.stream.flush()
        self.records = []


def _span(values: list[float]) -> str:
    """
    >>> _span([1.0, 2.5]), _span([1.0])
    ('1.00 to 2.50', '1.00')
    """
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
