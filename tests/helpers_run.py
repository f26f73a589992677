"""Runs that are stopped or killed at a chosen point, for the tests of exact resume; the library knows nothing of it.

As a script it runs the command line in this process with a fault planted:

    python helpers_run.py '{"fault": {"at": "os.replace", "call": 3, "signal": "KILL"}}' train ...
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parents[1] / "src"


def interrupted_at(step: int) -> AbstractContextManager[None]:
    """Within it, a termination signal comes to this process while it takes the given step, counted from 1."""
    return _at_step(step, lambda: signal.raise_signal(signal.SIGTERM))


def failing_at(step: int) -> AbstractContextManager[None]:
    """Within it, the given step, counted from 1, divides by zero."""
    return _at_step(step, lambda: 1 // 0)


@contextmanager
def _at_step(step: int, act: Callable[[], Any]) -> Iterator[None]:
    from vaekit.training.optimization import Optimizers

    original, calls = Optimizers.step, 0

    def patched(self: Optimizers) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            act()
        original(self)

    Optimizers.step = patched
    try:
        yield
    finally:
        Optimizers.step = original


def timeless(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records of a run without the time they took."""
    times = ("seconds", "images_per_second")
    return [{name: value for name, value in record.items() if name not in times} for record in records]


def plant(at: str, call: int, signal: str, match: str = "", after: bool = False, ready: str = "") -> None:
    """Make the nth call of a function (whose arguments' text holds `match`) send this process a signal.

    Args:
        at: dotted name of the function or method.
        call: which call, from 1.
        signal: KILL, TERM or INT; or WAIT, to write the file `ready` and then wait to be killed.
        match: only calls count whose positional arguments, as text, hold this.
        after: send the signal after the call in place of before it.
        ready: see `signal`.
    """
    path, name = at.rsplit(".", 1)
    try:
        owner: Any = importlib.import_module(path)
    except ModuleNotFoundError:
        module, kind = path.rsplit(".", 1)
        owner = getattr(importlib.import_module(module), kind)
    original, calls = getattr(owner, name), 0

    def patched(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        counts = match in " ".join(map(str, arguments))
        calls += counts
        due = counts and calls == call
        if due and not after:
            strike(signal, ready)
        result = original(*arguments, **keywords)
        if due and after:
            strike(signal, ready)
        return result

    setattr(owner, name, patched)


def strike(name: str, ready: str) -> None:
    if name == "WAIT":
        Path(ready).touch()
        time.sleep(600)
    os.kill(os.getpid(), getattr(signal, f"SIG{name}"))


def command(words: list[str], fault: dict[str, Any] | None = None, **more: Any) -> list[str]:
    """The command line of a child process that runs vaekit, perhaps with a fault; see `_main` for `more`."""
    return [sys.executable, __file__, json.dumps({"fault": fault, **more}), *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", **more}


def child(words: list[str], fault: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Run vaekit in a child process to its end."""
    return subprocess.run(
        command(words, fault), env=environment(), capture_output=True, text=True, check=False, timeout=300
    )


def _record_shares(file: str) -> None:
    """Write the images that this process takes in each step, a line a step, into `file`."""
    from vaekit.training.processes import Processes

    original = Processes.share

    def patched(self: Processes, index: Any) -> Any:
        mine = original(self, index)
        with open(file, "a") as lines:
            lines.write(json.dumps(mine.tolist()) + "\n")
        return mine

    Processes.share = patched


def _main(fault: dict[str, Any] | None, walls: bool = False, shares: str | None = None) -> None:
    """Run the command line here: with a fault, with the entries of walls.py, with a record of its images."""
    if walls:
        import walls as entries

        entries.register()
    if shares is not None:
        _record_shares(shares)
    if fault is not None:
        plant(**fault)
    from vaekit.cli import main

    main(sys.argv[2:])


if __name__ == "__main__":
    _main(**json.loads(sys.argv[1]))
