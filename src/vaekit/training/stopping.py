"""Signals that ask a training to stop: it takes its step to the end, writes a checkpoint, and goes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_asked: list[threading.Event] = []  # that of the main thread, while it waits for signals


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that an interrupt or a termination signal sets; a second interrupt acts as ever.

    Within another one it is the other's: a signal in the last step of one training stops the next.
    """
    alone = threading.current_thread() is not threading.main_thread()  # signals come to the main thread
    if alone or _asked:
        yield threading.Event() if alone else _asked[0]
        return
    event = threading.Event()

    def ask(number: int, frame: object) -> None:
        event.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    _asked.append(event)
    try:
        yield event
    finally:
        _asked.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
