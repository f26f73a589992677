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


BOUNDS = {"elbo_nats": "ELBO", "iw_elbo_nats": "importance-weighted bound"}


def best_epoch(records: Sequence[Mapping[str, Any]], bound: str | None = "elbo_nats") -> int | None:
    """The epoch of the highest validation bound, one of `BOUNDS`, once all schedules have ended.

    None without validation, or where the model or its objective has no bound.
    """
    ended = [r for r in records if r["val"] and not r.get("schedule_runs")]
    bounds = [(r["val"][bound], -r["epoch"]) for r in ended if r["val"].get(bound) is not None]
    return -max(bounds)[1] if bounds else None
