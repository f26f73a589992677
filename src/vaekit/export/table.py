"""The table of formats that a trained model is exported to, and the contract of an entry."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vaekit.errors import InputError
from vaekit.tables import Table
from vaekit.trained import Trained

FORMATS = Table("format", "vaekit.export")


@dataclass(frozen=True)
class Exported:
    """What a format makes of a model.

    Attributes:
        files: contents by name; nothing is written before all of them are there.
        about: what the description says of them, plain JSON values.
    """

    files: dict[str, bytes]
    about: dict[str, Any] = field(default_factory=dict)


class Format(Protocol):
    """An entry: turns a trained model into files."""

    def export(self, trained: Trained) -> Exported:
        """The files, checked.

        Raises:
            InputError: when the model cannot be written in this format, or a package is missing.
        """
        ...


def need_packages(names: Sequence[str], extra: str, option: str) -> None:
    """Refuse to go on without optional packages.

    Raises:
        InputError: naming the first that is missing and the extra that brings it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"{option}: the package {name} is not installed; pip install vaekit[{extra}]")
