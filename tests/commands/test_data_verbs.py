"""The command line of `vaekit inspect`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import good, refused

Capture = pytest.CaptureFixture[str]


def test_text_or_one_json_object(capsys: Capture) -> None:
    text = good(capsys, "inspect", "digits")
    assert text.err == ""
    assert text.out.startswith("digits: 1,797 images, 8x8 grey")
    record = good(capsys, "inspect", "digits", "--json").record
    assert record["num_images"] == 1797
    assert sum(part["num_images"] for part in record["splits"].values()) == 1797


def test_data_settings_are_taken(capsys: Capture, tmp_path: Path) -> None:
    record = good(capsys, "inspect", "digits", "--validation", "100", "--json").record
    assert record["splits"]["val"]["num_images"] == 100
    Path(tmp_path / "photos").mkdir()
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    answer = good(capsys, "inspect", tmp_path / "photos", "--image-size", 16, "--colour", "grey", "--json")
    assert answer.record["shape"] == {"channels": 1, "height": 16, "width": 16}


def test_pictures_and_record_are_written(capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "new" / "looked-at"
    answer = good(capsys, "inspect", "digits", "--out", out)
    assert f"picture: {out / 'contact-sheet.png'}" in answer.err
    assert json.loads((out / "inspection.json").read_text())["num_images"] == 1797
    with Image.open(out / "contact-sheet.png") as picture:
        assert picture.width > 500


def test_bad_input_is_one_sentence(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert "did you mean 'digits'?" in refused(capsys, "inspect", "digts")
    assert "DATA is missing" in refused(capsys, "inspect")
    assert "--image-size" in refused(capsys, "inspect", "digits", "--image-size", "0")
    assert "--resize" in refused(capsys, "inspect", "digits", "--resize", "squash")
    assert "one too many" in refused(capsys, "inspect", "digits", "mnist")
    assert "folder cannot be made" in refused(capsys, "inspect", "digits", "--out", "file")
    assert "does not exist" in refused(capsys, "inspect", "./gone")
