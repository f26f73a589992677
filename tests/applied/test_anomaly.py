"""Anomaly scores: calibration, ranking, the files."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from commands import good, refused
from vaekit.applied.anomaly import calibrated, check_rate, png_bits
from vaekit.data.images import Images, Splits
from vaekit.errors import InputError
from vaekit.runs import Run

Capture = pytest.CaptureFixture[str]


def test_p_values_are_counted() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, normal = (torch.randint(0, 40, (count,), generator=generator).double() for count in (200, 60))
    limit, found = calibrated(scores, normal, 0.1)
    brute = [(1 + sum(float(n >= s) for n in normal)) / 61 for s in scores]
    np.testing.assert_allclose(found, brute)
    assert torch.equal(scores > limit, found <= 0.1)


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Over many draws of normal images the mean rate is at most the stated one, and near it, whatever the distribution."""
    generator = torch.Generator().manual_seed(1)
    rates = []
    for _ in range(400):
        normal, new = (torch.randn(count, generator=generator).exp() for count in (99, 200))
        rates.append(float((new > calibrated(new, normal, 0.05)[0]).double().mean()))
    assert np.mean(rates) == pytest.approx(0.05, abs=3 * np.std(rates) / math.sqrt(len(rates)))
    check_rate(99, 0.01)
    with pytest.raises(InputError, match="takes 99 normal images or more, and there are 98"):
        check_rate(98, 0.01)


@pytest.mark.parametrize("score", ["bound", "reconstruction"])
def test_upside_down_digits_are_less_like_digits(score: str, runs: dict[str, Run], digits: Splits) -> None:
    assert digits.test is not None
    assert digits.val is not None
    trained = vaekit.load(runs["mlp"].path)
    turned = Images(255 - digits.test.pixels[:30])
    both = Images(torch.cat([digits.test.pixels[:100], turned.pixels]))
    found = vaekit.anomalies(trained, both, digits.val, score, 0.05, num_samples=5)  # type: ignore[arg-type]
    assert set(found.ranked[:30]) == set(range(100, 130))
    assert bool(found.anomalous[100:].all())
    assert int(found.anomalous[:100].sum()) <= 15


def test_bits_of_a_picture_grow_with_what_is_in_it() -> None:
    noise = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    flat, random = png_bits(Images(torch.cat([torch.full_like(noise, 90), noise]))).tolist()
    assert flat < 500
    assert random == pytest.approx(16 * 16 * 3 * 8, rel=0.1)


def test_files(
    capsys: Capture, folder: Path, runs: dict[str, Run], digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert digits.test is not None
    for row in range(6):
        Path("own", str(row % 2)).mkdir(parents=True, exist_ok=True)
        pixels = digits.test.pixels[row, :, :, 0].numpy()
        Image.fromarray(255 - pixels if row == 3 else pixels).save(f"own/{row % 2}/{row}.png")
    path = runs["mlp"].path
    words = ["anomaly", path, "own", "--false-alarms", "0.05", "--importance-samples", "5", "--heatmaps", "2"]
    record = good(capsys, *words, "--out", "odd", "--json").record
    with open("odd/scores.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 7)]
    assert rows[0]["file"] == "1/3.png"
    assert rows[0]["anomalous"] == "1"
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert record["num_anomalous"] == sum(score > record["threshold"] for score in scores)
    maps = sorted(str(each.relative_to("odd/heatmaps")) for each in Path("odd/heatmaps").rglob("*.png"))
    assert maps == sorted(row["file"] for row in rows[:2])
    with Image.open("odd/contact-sheet.png") as sheet:
        assert sheet.width > 300
    monkeypatch.setattr("vaekit.commands.applied._MOST_NORMAL", 3)  # of the run's own; all that are given count
    good(capsys, *words, "--out", "again", "--normal", "own", "--false-alarms", "0.2")
    assert "takes 99 normal images" in refused(capsys, "anomaly", path, "own", "--normal", "own", "--out", "x")
    assert "has no bits" in refused(capsys, "anomaly", path, "own", "--score", "complexity-corrected", "--out", "x")
    assert not Path("x").exists()
