"""The examples of docs/estimators.md, one after the other, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "estimators.md"


@pytest.mark.filterwarnings("ignore:lbfgs")
def test_every_example_runs(folder: Path) -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        exec(block, names)
    assert names["z"].shape == (1797, 16)
    assert names["new"].shape == (64, 8, 8)
    assert names["restored"].shape == names["images"].shape
    assert (folder / "model.safetensors").exists()
