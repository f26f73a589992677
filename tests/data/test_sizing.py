"""The line that shows progress."""

from __future__ import annotations

import io
import sys

import pytest

from vaekit.data import sizing
from vaekit.data.sizing import LiveLine, Opening


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, calls: list[tuple[float, float]]) -> str:
    """What is written when (seconds, fraction) come to pass."""
    now = 0.0
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sizing.time, "monotonic", lambda: now)
    line = LiveLine()
    for now, fraction in calls:  # noqa: B007  # read by the clock
        line("packing photos", fraction)
    return stream.getvalue()


def test_what_takes_a_second_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Terminal(), [(0.0, 0.0), (0.5, 0.5), (0.9, 1.0)]) == ""


def test_what_takes_longer_shows_its_part_and_the_time_left_and_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Terminal(), [(0.0, 0.0), (10.0, 0.1), (10.05, 0.11), (20.0, 0.2), (99.0, 1.0)])
    lines = text.split("\r\033[K")
    assert lines == ["", "packing photos   10%  1:30 left", "packing photos   20%  1:20 left", ""]


def test_the_time_left_counts_from_where_it_was_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "75%  0:10 left" in shown(monkeypatch, Terminal(), [(0.0, 0.5), (10.0, 0.75)])


def test_only_a_terminal_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO(), [(0.0, 0.0), (10.0, 0.1), (99.0, 1.0)]) == ""


def test_notes_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Opening().note("3 files were left out")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "vaekit: note: 3 files were left out\n")
