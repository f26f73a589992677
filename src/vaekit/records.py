"""Records, as JSON: numbers that JSON does not know, such as NaN, become null; and epochs whose bounds do not compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """A copy of plain values with None in place of floats that are not finite.

    >>> finite({"nll_nats": float("nan"), "rates": (1.0, float("inf"))})
    {'nll_nats': None, 'rates': [1.0, None]}
    """
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    return value


def growing(record: Mapping[str, Any]) -> bool:
    """Whether an epoch of `metrics.jsonl` ended with smaller images, or a level not yet faded in (see `--progressive`).

    Its nats are honest, but of other images or of another network than the run's.

    >>> growing({"stage": 2, "stages": 3, "alpha": 1.0}), growing({"stage": 3, "stages": 3, "alpha": 1.0}), growing({})
    (True, False, False)
    """
    return record.get("stage", 0) < record.get("stages", 0) or record.get("alpha", 1.0) < 1.0


def by_level(numbers: Mapping[str, Any]) -> list[float]:
    """The parts of the rate by level of latents, nats, of an evaluation's record or an epoch's; empty with one level.

    >>> by_level({"rate_level_1_nats": 12.0, "rate_level_2_nats": 3.0}), by_level({"rate_by_level_nats": [12.0, 3.0]})
    ([12.0, 3.0], [12.0, 3.0])
    """
    if "rate_by_level_nats" in numbers:
        return [*numbers["rate_by_level_nats"]]
    found: list[float] = []
    while (key := f"rate_level_{len(found) + 1}_nats") in numbers:
        found.append(numbers[key])
    return found


def to_json(record: Any, indent: int | None = 2) -> str:
    """JSON text of a record, in one line with `indent` None."""
    return json.dumps(finite(record), indent=indent, allow_nan=False)


def print_json(record: Any) -> None:
    """One JSON object on standard output."""
    print(to_json(record))
