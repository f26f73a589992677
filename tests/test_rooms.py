"""docs/architecture.md names every room of the code, each above all that it imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import vaekit

PACKAGE = Path(vaekit.__file__).parent
PAGE = PACKAGE.parent.parent / "docs" / "architecture.md"


def rows() -> dict[str, tuple[int, str]]:
    """Place of each room in the page's table, from the top, and what the table says of it."""
    table = PAGE.read_text().split("## Rooms")[1].split("## Contracts")[0]
    found: dict[str, tuple[int, str]] = {}
    for place, line in enumerate(line for line in table.splitlines() if line.startswith("| `")):
        _, names, text, _ = re.split(r" *\| *", line)
        found |= {name.strip("/").removesuffix(".py"): (place, text) for name in re.findall(r"`([^`]+)`", names)}
    return found


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> set[str]:
    """Rooms that a file imports, at its head or later."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vaekit":
            _, *inner = (node.module or "").split(".")
            found |= {inner[0]} if inner else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("vaekit.")}
    return found


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if room(file) not in ("__init__", "__main__")]


def test_every_room_is_named() -> None:
    assert set(rows()) == set(map(room, FILES))


def test_rooms_import_from_below() -> None:
    places = {name: place for name, (place, _) in rows().items()}
    upwards = {
        (str(file.relative_to(PACKAGE)), other)
        for file in FILES
        for other in imported(file) & set(places)
        if other != room(file) and places[other] < places[room(file)]
    }
    assert not upwards


def test_files_that_the_table_names_are_there() -> None:
    for name, (_, text) in rows().items():
        here = {file.name for file in (PACKAGE / name).glob("*")}
        if here:
            assert set(re.findall(r"`(\w+\.(?:py|c|h))`", text)) <= here, name
