"""The parts of docs/extending.md, each in one file of another package, from the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vaekit

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with the page's files and entry points."""
    folder = tmp_path_factory.mktemp("site")
    text = PAGE.read_text()
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", code)
        assert name, "each block begins with the name of its file"
        (folder / name[1]).write_text(code)
    (toml,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    points = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", toml).replace('"', "")
    info = folder / "examples-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    return folder


def call(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), str(Path(vaekit.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "vaekit", *words], env=environment, capture_output=True, text=True, check=False
    )


def test_the_page_has_an_objective_a_network_and_a_data_set(site: Path) -> None:
    assert len(list(site.glob("*.py"))) == 3


def test_the_pages_own_command_trains_and_measures_with_all_three(site: Path, tmp_path: Path) -> None:
    (command,) = re.findall(r"^vaekit (train .*) --out \S+$", PAGE.read_text(), re.MULTILINE)
    short = ["--epochs", "1", "--no-report", "--json", "--out", str(tmp_path / "run")]
    done = call(site, *command.split(), *short)
    assert done.returncode == 0, done.stderr
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert stored["objective"] == {"name": "worst-image", "worst_share": 0.3}
    assert stored["model"]["network"] == {"name": "linear", "features": 64}
    train = json.loads(done.stdout)["train"]
    expected = -train["elbo_nats"] + 0.3 * (train["worst_nats"] + train["elbo_nats"])
    assert train["loss"] == pytest.approx(expected, rel=1e-6)
    found = call(site, "evaluate", str(tmp_path / "run"), "--json", "--importance-samples", "5")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["num_images"] == 100


def test_their_settings_are_listed_and_checked(site: Path) -> None:
    listed = call(site, "list", "objectives").stdout
    assert "worst-image" in listed
    assert "weight of the worst image's loss [0.5; 0 to 1]" in " ".join(listed.split())
    refused = call(site, "train", "--objective", "worst-image", "--worst-share", "2", "--out", "x")
    assert refused.returncode == 2
    assert "--worst-share: 2 is out of range; it must be at least 0 and at most 1" in refused.stderr
