"""Text for a terminal, in columns."""

from __future__ import annotations

import re
import shutil
import textwrap

_JOIN = "\N{NO-BREAK SPACE}"
_HEAD = 26  # columns of an option and its placeholder


def screen_width() -> int:
    """Columns to write in: those of the terminal (or of the variable COLUMNS), between 70 and 100."""
    return max(70, min(shutil.get_terminal_size((100, 24)).columns, 100))


def entry(head: str, text: str, head_width: int = _HEAD, indent: int = 2) -> str:
    """One row of help: `head`, then `text` beside it, wrapped in a column of its own."""
    margin = " " * (indent + head_width)
    first = f"{' ' * indent}{head:<{head_width}}"
    above = ""
    if len(head) >= head_width:
        above, first = f"{' ' * indent}{head}\n", margin
    whole = re.sub(r"\[[^][]*\]$", lambda facts: facts[0].replace(" ", _JOIN), text)  # brackets stay in one line
    filled = textwrap.fill(
        whole,
        screen_width(),
        initial_indent=first,
        subsequent_indent=margin,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return above + filled.replace(_JOIN, " ")
