"""Writes the generated parts of docs/families.md from the tables: ``python docs/families.py``."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from vaekit.commands.console import combination, setting_row
from vaekit.config import flags
from vaekit.families import FAMILIES, OWN, fitting_priors, latents
from vaekit.latents.table import POSTERIORS, PRIORS
from vaekit.models.table import MODELS
from vaekit.objectives.table import OBJECTIVES
from vaekit.samplers.table import SAMPLERS
from vaekit.tables import Table

PAGE = Path(__file__).with_name("families.md")


def plain(text: str) -> str:
    """Text that Markdown shows as it stands, but for what stands between backticks."""
    parts = re.split(r"(`+[^`]+`+)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<>|\\])", r"\\\1", part) for part in parts)


def paragraph(part: str) -> str:
    """One of a docstring: indented lines are formulas, and lists stay lists."""
    lines = part.split("\n")
    if all(line.startswith("    ") for line in lines):
        return "\n".join(["```", *(line[4:] for line in lines), "```"])
    if lines[0].startswith("- "):
        return "\n".join(plain(line) for line in lines)
    return plain(" ".join(part.split()))


def families() -> str:
    rows = [
        f"| {name} | `{each.command}` | {each.source} |".replace("``", "`--model vae`, the default")
        for name, each in FAMILIES.items()
    ]
    return "\n".join(
        [
            "| model | settings, added to a preset of `--model vae` such as `conv` or `mlp` | source |",
            "| --- | --- | --- |",
            *rows,
        ]
    )


def combinations() -> str:
    rows = [f"| `{name}` | {plain(combination(name))} |" for name in OBJECTIVES]
    return "\n".join(["| objective | trains |", "| --- | --- |", *rows])


def spaces() -> str:
    """Which prior goes with which posterior."""
    lines = ["| | " + " | ".join(f"`{prior}`" for prior in PRIORS) + " |", "| --- " * (len(list(PRIORS)) + 1) + "|"]
    for name, _ in latents():
        fitting = fitting_priors(name)
        if fitting != [OWN]:
            lines.append(f"| `{name}` | " + " | ".join("yes" if prior in fitting else "" for prior in PRIORS) + " |")
    return "\n".join(lines)


def entries(table: Table) -> str:
    """Every entry with its whole docstring and its settings."""
    parts = []
    for name in table:
        text = inspect.cleandoc(table[name].__doc__ or "")
        lines = [f"### `{name}`", *map(paragraph, text.split("\n\n"))]
        own = [flag for flag in flags(table[name]()) if len(flag.path) == 1]
        if own:
            lines.append("\n".join(f"- `{option}`: {plain(words)}" for option, words in map(setting_row, own)))
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


PARTS = {
    "families": families,
    "combinations": combinations,
    "spaces": spaces,
    "objectives": lambda: entries(OBJECTIVES),
    "posteriors": lambda: entries(POSTERIORS),
    "priors": lambda: entries(PRIORS),
    "models": lambda: entries(MODELS),
    "samplers": lambda: entries(SAMPLERS),
}


def written(text: str) -> str:
    """The page with every part between its marks made anew."""
    for name, make in PARTS.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n\n{make()}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
