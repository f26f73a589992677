"""Codes as tables, and which images count."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from commands import good, refused
from vaekit.runs import Run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def photos(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("train/3/a.png", "train/3/b.png", "test/4/a.png"):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8), np.uint8)).save(Path("photos", name))
    return folder / "photos"


def test_tables_say_the_same(capsys: Capture, photos: Path, runs: dict[str, Run]) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    path = runs["mlp"].path
    for ending in ("csv", "npy", "parquet"):
        good(capsys, "embed", path, photos, "--scales", "--out", f"codes.{ending}")
    array = np.load("codes.npy")
    own = vaekit.load(path).read(photos)
    with torch.no_grad():
        posterior = vaekit.load(path).model.encode(own.images.unit())  # type: ignore[operator]
    np.testing.assert_allclose(array, torch.cat([posterior.loc, posterior.log_scale.exp()], 1), atol=1e-6)
    with open("codes.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["label"]) for row in rows] == [
        ("test/4/a.png", "4"), ("train/3/a.png", "3"), ("train/3/b.png", "3"),
    ]  # fmt: skip
    names = [f"{kind}-{number}" for kind in ("mean", "scale") for number in (1, 2, 3, 4)]
    assert np.array_equal(np.array([[row[name] for name in names] for row in rows], np.float32), array)
    table = pyarrow.parquet.read_table("codes.parquet")
    assert table.column_names == ["file", "label", *names]
    assert table["file"].to_pylist() == [row["file"] for row in rows]
    assert np.array_equal(np.stack([table[name].to_numpy() for name in names], 1), array)
    assert Path("codes.names.csv").read_text().splitlines()[:2] == ["file,label", "test/4/a.png,4"]


def test_what_is_refused(capsys: Capture, photos: Path, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    path = runs["mlp"].path
    assert "choose one" in refused(capsys, "embed", path, photos, "--out", "codes.txt")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    sentence = refused(capsys, "embed", path, photos, "--out", "codes.parquet")
    assert sentence == (
        "--out: .parquet needs pyarrow, which is not installed; pip install pyarrow, or choose .csv or .npy"
    )
    assert not list(Path().glob("codes*"))


def test_one_image_has_the_class_of_its_folder(photos: Path, runs: dict[str, Run]) -> None:
    trained = vaekit.load(runs["cvae-onehot"].path)
    own = trained.read(photos / "train" / "3" / "b.png")
    assert own.label_names == ["3"]
    every = trained.read(photos)
    assert every.label_names == ["4", "3", "3"]
    torch.testing.assert_close(trained.codes(own.images)[0], trained.codes(every.images)[2])
