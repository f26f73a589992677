"""What figures and reports share; light to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FigureFile:
    """A picture on disk, what it is, and how to read it."""

    path: Path
    title: str
    caption: str


def best_epoch(records: Sequence[Mapping[str, Any]]) -> int | None:
    """The epoch of the highest validation ELBO once all schedules have ended; None without validation or a bound."""
    ended = [r for r in records if r["val"] and not r.get("schedule_runs")]
    bounds = [(r["val"]["elbo_nats"], -r["epoch"]) for r in ended if r["val"]["elbo_nats"] is not None]
    return -max(bounds)[1] if bounds else None
