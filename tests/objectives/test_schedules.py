"""How beta changes over the epochs."""

from __future__ import annotations

import pytest

from vaekit.objectives.schedules import BETA_SCHEDULES, Constant, Cyclical, Linear


@pytest.mark.parametrize("name", list(BETA_SCHEDULES))
def test_factor_lies_between_zero_and_one(name: str) -> None:
    schedule = BETA_SCHEDULES[name]()
    values = [schedule(epoch / 7) for epoch in range(300)]
    assert all(0.0 <= value <= 1.0 for value in values)
    assert max(values) == 1.0


def test_constant() -> None:
    assert [Constant()(epoch) for epoch in (0.0, 3.3)] == [1.0, 1.0]


def test_linear_grows_and_stays() -> None:
    assert [Linear(4.0)(epoch) for epoch in (0.0, 1.0, 2.0, 4.0, 40.0)] == [0.0, 0.25, 0.5, 1.0, 1.0]


def test_cyclical_grows_holds_and_starts_again() -> None:
    assert [Cyclical(4.0)(epoch) for epoch in (0.0, 1.0, 2.0, 3.9, 4.0, 5.0)] == [
        0.0,
        0.5,
        1.0,
        1.0,
        0.0,
        0.5,
    ]
