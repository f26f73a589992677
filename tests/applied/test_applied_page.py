"""The commands and the Python of docs/applied.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commands import good

PAGE = (Path(__file__).parents[2] / "docs" / "applied.md").read_text()


def test_the_page_runs(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    Path("runs").mkdir()
    block = next(text for text in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) if "vaekit train" in text)
    for line in block.splitlines():
        words = line.split("#")[0].split()[1:]
        more = ["--no-report", "--threads", "1", "--epochs", "2"] if words[0] == "train" else []
        good(capsys, *words, *more)
    for made in ("codes.csv", "more/labels.csv", "again", "smooth", "odd/scores.csv", "filled.png", "typical.png"):
        assert Path(made).exists()
    names = sorted(str(path.relative_to("more")) for path in Path("more").rglob("*.png"))
    assert len(names) == 40
    for out in ("again", "smooth"):
        assert sorted(str(path.relative_to(out)) for path in Path(out).rglob("*.png")) == names
    python = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert python is not None
    found: dict[str, object] = {}
    exec(python[1], found)
    assert found["record"]["num_images"] == 40  # type: ignore[index]
    assert bool((found["filled"].mean == found["images"]).all())  # type: ignore[attr-defined]
