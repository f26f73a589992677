"""Small trained models that come with the package: explorer, denoising and teaching work in the first minute, offline."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from vaekit.errors import InputError

INDEX = "index.json"


@dataclass(frozen=True)
class Shipped:
    """A model that comes along.

    Attributes:
        name: what `vaekit.load` and every verb call it by.
        about: what it is, in a sentence.
        licence: of the data it was trained on, which its weights follow.
        recipe: the command that trained it.
        sha256: of the file.
        numbers: what `vaekit evaluate` finds.
    """

    name: str
    about: str
    licence: str
    recipe: str
    sha256: str
    numbers: dict[str, Any]


def shipped() -> dict[str, Shipped]:
    """Every model that comes along, by name.

    >>> all(each.name == name for name, each in shipped().items())
    True
    """
    index = files(__name__) / INDEX
    stored = json.loads(index.read_text()) if index.is_file() else {}
    return {name: Shipped(name, **about) for name, about in stored.items()}


def find(name: str) -> Path | None:
    """The file of a model that comes along; None for any other name.

    Raises:
        InputError: when the file is missing, or is not the one that was released.
    """
    known = shipped().get(name)
    if known is None:
        return None
    path = Path(str(files(__name__) / f"{name}.safetensors"))
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        raise InputError(f"model {name!r}: its file {path} is missing; install vaekit again") from None
    if found != known.sha256:
        raise InputError(f"model {name!r}: its file {path} is not the one released; install vaekit again")
    return path
