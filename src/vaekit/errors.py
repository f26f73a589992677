"""The two ways a command can end badly, and the sentence that suggests a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong: the message is one sentence that names the thing, the value and the mend."""


class RunError(RuntimeError):
    """A run failed midway for a stated reason; what it had saved is intact."""


def unknown(what: str, value: str, known: Iterable[str]) -> InputError:
    """An error for a name that is not in a list, with the nearest names that are.

    >>> str(unknown("preset", "cvae-onehto", ["mlp", "cvae-onehot"]))
    "preset 'cvae-onehto' is unknown; did you mean 'cvae-onehot'?"
    """
    names = list(known)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "choose from " + ", ".join(names)
    return InputError(f"{what} {str(value)!r} is unknown; {hint}")
