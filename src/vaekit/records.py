"""Records as JSON: numbers that JSON does not know, such as NaN, become null."""

from __future__ import annotations

import json
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


def to_json(record: Any, indent: int | None = 2) -> str:
    """JSON text of a record, in one line with `indent` None."""
    return json.dumps(finite(record), indent=indent, allow_nan=False)


def print_json(record: Any) -> None:
    """One JSON object on standard output."""
    print(to_json(record))
