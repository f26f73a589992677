"""Tables of named parts: objectives, networks, likelihoods, data sets and the rest.

An entry is a frozen dataclass registered under a name. Its fields, made with `vaekit.config.leaf` and
`vaekit.config.choice`, are at once its constructor, its command-line flags, its JSON and its row in `vaekit list`.
A table imports every module of its room, so that a new entry is one new file; other packages add entries through an
entry point of the group ``vaekit.<room>`` that names a module to import.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, TypeVar

from vaekit.errors import InputError, unknown

T = TypeVar("T", bound=type)


class Table:
    """Names and the dataclasses they stand for.

    Args:
        kind: singular noun used in messages and as the flag, such as ``objective``.
        room: module or package whose import registers the entries, such as ``vaekit.objectives``.
    """

    def __init__(self, kind: str, room: str):
        self.kind, self.room = kind, room
        self._entries: dict[str, type] = {}
        self._filled = False

    def register(self, name: str) -> Callable[[T], T]:
        """Class decorator that enters a dataclass under `name`."""

        def enter(entry: T) -> T:
            taken = self._entries.get(name)
            if taken is not None and taken.__qualname__ != entry.__qualname__:
                raise InputError(f"{self.kind} {name!r} is registered twice; give one of them another name")
            self._entries[name] = entry
            return entry

        return enter

    def _fill(self) -> dict[str, type]:
        if not self._filled:
            self._filled = True
            room = importlib.import_module(self.room)
            for module in pkgutil.iter_modules(getattr(room, "__path__", [])):
                importlib.import_module(f"{self.room}.{module.name}")
            for plugin in entry_points(group=self.room):
                plugin.load()
        return self._entries

    def __getitem__(self, name: str) -> type:
        entries = self._fill()
        if name not in entries:
            raise unknown(self.kind, name, sorted(entries))
        return entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._fill()))

    def name_of(self, value: Any) -> str:
        """The name under which the class of `value` is registered."""
        for name, entry in self._fill().items():
            if type(value) is entry:
                return name
        raise InputError(f"{type(value).__name__} is not a registered {self.kind}; decorate it with register()")

    def summary(self, name: str) -> str:
        """First sentence of the entry's docstring."""
        return (self[name].__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ").rstrip()
