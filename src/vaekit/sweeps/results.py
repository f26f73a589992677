"""What a sweep says of its members, from their run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaekit.errors import InputError
from vaekit.figures.basics import best_epoch
from vaekit.runs import Run
from vaekit.sweeps.grid import Member

FINISHED, DIVERGED, UNFINISHED = "finished", "diverged", "unfinished"


def member_record(member: Member, path: Path, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Name, values, status and the records of the epoch whose weights were kept, or of the last so far.

    Args:
        member: of the sweep.
        path: its run folder, which may not be there yet.
        before: what was said of it last, with an evaluation that need not be repeated.
    """
    found: dict[str, Any] = {"name": member.name, "path": str(path), "values": member.values, "status": UNFINISHED}
    found |= {
        "failure": None,
        "epoch": None,
        "train": None,
        "val": None,
        "evaluation": (before or {}).get("evaluation"),
    }
    try:
        run = Run(path)
    except InputError:
        return found
    found["failure"] = run.failure()
    found["status"] = DIVERGED if found["failure"] else FINISHED if run.model.exists() else UNFINISHED
    records = run.metrics()
    if not records:
        return found
    training, bound = run.config.training, run.config.objective.selects
    best = best_epoch(records, bound) if training.select_best and bound is not None else None
    kept = next((record for record in records if record["epoch"] == best), records[-1])
    return found | {name: kept[name] for name in ("epoch", "train", "val")}


PARTS = {"test": "evaluation", "validation": "val", "training": "train"}


def measured_on(members: Sequence[Mapping[str, Any]]) -> str:
    """The images that all finished members have numbers of: ``test``, ``validation`` or, as where none did, ``training``."""
    done = [each for each in members if each["status"] == FINISHED]
    found = (name for name, part in PARTS.items() if done and all(each[part] is not None for each in done))
    return next(found, "training")


def measured(each: Mapping[str, Any], split: str) -> Mapping[str, Any]:
    """A member's numbers in nats on the images that `measured_on` names."""
    return each[PARTS[split]] or {}
