"""The two ways a command can end badly, and the sentence that suggests a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong: one sentence that names the thing, the value and the mend."""


class RunError(RuntimeError):
    """A run failed midway for a stated reason; what it had saved is intact."""


class DivergedError(RunError):
    """A loss or a weight became infinite or NaN."""


class StoppedError(RunError):
    """A training was asked to stop, by an interrupt or a termination signal."""


_MOST_SHOWN = 20


def _nearest(word: str, names: Iterable[str]) -> str | None:
    """
    >>> _nearest("gpu", ["cpu", "cuda"]), _nearest("lr", ["beta", "learning-rate"]), _nearest("vea", ["vae"])
    (None, 'learning-rate', 'vae')
    """
    if close := difflib.get_close_matches(word, names, n=1, cutoff=0.7):
        return close[0]
    for name in names:
        initials = "".join(part[0] for part in name.split("-") if part)
        if sorted(word) == sorted(name) or (len(word) > 1 and (name.startswith(word) or word == initials)):
            return name
    return None


def unknown(what: str, value: str, known: Iterable[str], more: str = "") -> InputError:
    """An error for a name that is not in a list, with the nearest name that is, or else the first of them.

    Near are names that share most letters in order, all letters in disorder, the beginning, or the initials;
    capitals and leading dashes do not count, and numbers are near to nothing. Of a list too long to read,
    `more` tells where to look.

    >>> str(unknown("preset", "cvae-onehto", ["mlp", "cvae-onehot"]))
    "preset 'cvae-onehto' is unknown; did you mean 'cvae-onehot'?"
    >>> str(unknown("class", "x", [f"person-{number}" for number in range(371)]))[-35:]
    'person-18, person-19, or 351 others'
    """
    names = {name.lstrip("-").lower(): name for name in known}
    word = str(value).lstrip("-").lower()
    near = None if word.isdigit() else _nearest(word, names)
    if near:
        hint = f"did you mean {names[near]!r}?"
    elif more and len(names) > _MOST_SHOWN:
        hint = f"see {more}"
    else:
        rest = len(names) - _MOST_SHOWN
        some = list(names.values())[:_MOST_SHOWN] + ([f"or {rest:,} others"] if rest > 0 else [])
        hint = "choose from " + ", ".join(some)
    return InputError(f"{what} {str(value)!r} is unknown; {hint}")
