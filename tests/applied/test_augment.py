"""New images: nearest neighbours, the guard, labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from commands import good, refused
from vaekit.applied.augment import Augmenter
from vaekit.applied.neighbours import Guard, code_blocks, nearest
from vaekit.data.images import Images, Splits
from vaekit.errors import InputError
from vaekit.runs import Run

Capture = pytest.CaptureFixture[str]


def test_nearest_is_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    points, queries = torch.randn(70, 5, generator=generator), torch.randn(9, 5, generator=generator)
    distance, row = nearest(queries, code_blocks(points, 16))
    brute = torch.cdist(queries, points) / 5**0.5
    torch.testing.assert_close(distance, brute.min(1).values)
    assert torch.equal(row, brute.argmin(1))
    own, _ = nearest(points, code_blocks(points, 16), torch.arange(70))
    all_pairs = torch.cdist(points, points).fill_diagonal_(torch.inf) / 5**0.5
    torch.testing.assert_close(own, all_pairs.min(1).values)


def test_the_guard_finds_copies(digits: Splits, runs: dict[str, Run]) -> None:
    trained, images = vaekit.load(runs["mlp"].path), digits.train.select(torch.arange(300))
    codes = trained.codes(images)
    guard = Guard.fitted(images, codes, 1.0)
    assert guard.least_pixels > 0
    pixels, in_codes, row = guard.distances(images.unit(torch.arange(5)), codes[:5])
    assert torch.equal(row, torch.arange(5))
    assert pixels.max() == in_codes.max() == 0.0


def test_new_images_have_labels_in_turn_and_no_copies(digits: Splits, runs: dict[str, Run]) -> None:
    assert digits.train.labels is not None
    images = digits.train.select(torch.arange(400))
    for name, how in (("mlp", "near"), ("cvae-onehot", "near"), ("cvae-onehot", "prior")):
        maker = Augmenter(vaekit.load(runs[name].path), images, how, percentile=20.0)  # type: ignore[arg-type]
        parts = list(maker.make(60))
        assert sum(map(len, parts)) == 60
        for new in parts:
            assert new.labels is not None
            assert float(new.pixel_distance.min()) >= maker.guard.least_pixels
            assert float(new.code_distance.min()) >= maker.guard.least_codes
            every = torch.cdist(new.pixels.float().flatten(1), images.pixels.float().flatten(1)) / (255.0 * 8)
            torch.testing.assert_close(every.min(1).values, new.pixel_distance, atol=1e-4, rtol=1e-3)
            if new.sources is not None:
                assert images.labels is not None
                assert torch.equal(images.labels[new.sources], new.labels[:, None].expand(-1, 2))
    again = vaekit.augment(vaekit.load(runs["cvae-onehot"].path), images, 60, "prior", percentile=20.0)
    assert torch.equal(again.pixels, torch.cat([part.pixels for part in parts]))
    assert maker.dropped_by_pixels + maker.dropped_by_codes > 0


def test_labels_that_nobody_knows_are_refused(digits: Splits, runs: dict[str, Run]) -> None:
    trained = vaekit.load(runs["mlp"].path)
    with pytest.raises(InputError, match="the model reads no labels"):
        Augmenter(trained, digits.train, "prior")
    assert vaekit.augment(trained, Images(digits.train.pixels[:50]), 5, "prior").labels is None
    with pytest.raises(InputError, match="all but 0 were too near"):
        list(Augmenter(trained, digits.train.select(torch.arange(50)), "near", 0.0, percentile=100.0).make(256))


def test_files(capsys: Capture, folder: Path, runs: dict[str, Run], digits: Splits) -> None:
    assert digits.train.labels is not None
    for row in range(40):
        place = Path("few", str(int(digits.train.labels[row])))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.train.pixels[row, :, :, 0].numpy()).save(place / f"{row}.png")
    record = good(capsys, "augment", runs["mlp"].path, "few", "--count", "25", "--out", "more", "--json").record
    with open("more/labels.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == record["num_images"] == 25
    for row in rows:
        assert row["file"].split("/")[0] == row["label"] == row["from"].split("/")[0]
        with Image.open(Path("more", row["file"])) as new, Image.open(Path("few", row["nearest"])) as real:
            distance = (np.asarray(new) / 255.0 - np.asarray(real) / 255.0).__pow__(2).mean() ** 0.5
        assert distance == pytest.approx(float(row["pixel_distance"]), rel=1e-3)
    assert "reads no labels" in refused(capsys, "augment", runs["mlp"].path, "few", "--how", "prior", "--out", "x")
