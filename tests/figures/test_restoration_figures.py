"""Figures of restoring models: which exist, and that they show what was measured."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from corruption_cases import smooth
from vaekit.corruptions.chain import with_strength
from vaekit.corruptions.table import CORRUPTIONS
from vaekit.evaluation.restoration import as_target, psnr
from vaekit.figures.corruption_sheet import corruption_sheet
from vaekit.figures.grids import to_bytes
from vaekit.figures.pictures import restorations
from vaekit.figures.restoration_table import restoration_by_method, restoration_by_strength
from vaekit.figures.style import DPI, PAGE, png, style
from vaekit.figures.subject import Subject
from vaekit.generation import reconstruct
from vaekit.noise import Noise
from vaekit.runs import Run

SMALL = {"data": "digits", "network": "mlp", "hidden": (16,), "epochs": 1, "train_limit": 300, "threads": 1}


def subject(folder: Path, **given: Any) -> Subject:
    from vaekit.training.reporting import Silent

    return Subject.of(vaekit.train(folder / "run", "mlp", observer=Silent(), **SMALL, **given))


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.texts]


def tiles(figure: Any) -> np.ndarray:
    """The pixels of a figure's file, (height, width, 3)."""
    with Image.open(io.BytesIO(png(figure))) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_run_that_restores_nothing_has_none(trained_run: Run) -> None:
    with style():
        assert restoration_by_strength(Subject.of(trained_run)) is None
        assert restoration_by_method(Subject.of(trained_run)) is None


def test_lines_are_the_means_of_every_method(runs: dict[str, Run]) -> None:
    """The model's PSNR at the trained strength, computed anew from the figure's images."""
    shown = Subject.of(runs["denoising"])
    with style():
        drawn = restoration_by_strength(shown)
    assert drawn is not None
    quality, similarity = drawn.figure.axes
    assert [text.get_text() for text in quality.get_xticklabels()] == ["2", "3", "4"]
    lines = {line.get_label(): line for line in quality.lines if not line.get_label().startswith("_")}
    assert set(lines) == {"corrupted", "median", "gaussian", "back-projection", "model"}
    assert {line.get_label() for line in similarity.lines} >= set(lines)
    count = int(re.search(r"over (\d+) validation images", drawn.caption)[1])
    batch = shown.examples(count)
    key_by_place = Noise.from_seed(0, count)  # the blur is not random
    blurred = shown.data.corruption(batch.target, key_by_place)
    expected = psnr(reconstruct(shown.model, blurred), batch.target).mean().item()
    assert lines["model"].get_ydata()[0] == pytest.approx(expected, abs=1e-3)
    assert lines["corrupted"].get_ydata()[0] == pytest.approx(psnr(blurred, batch.target).mean().item(), abs=1e-3)
    assert f"the model reaches {expected:.1f} dB" in drawn.caption


@pytest.mark.parametrize(
    ("given", "strengths"),
    [
        ({"corruption": "downsample"}, ["2", "3", "4"]),
        (
            {"corruption": "chain", "corruptions": "downsample:2,gaussian-noise:0.1"},
            ["\u00d7 1", "\u00d7 1.5", "\u00d7 2"],
        ),
        ({"corruption": "jpeg"}, ["40", "20", "13", "10"]),
    ],
    ids=lambda value: str(value)[:24],
)
def test_figures_of_any_corruption(tmp_path: Path, given: dict[str, Any], strengths: list[str]) -> None:
    with style():
        shown = subject(tmp_path, **given)
        by_strength, by_method, triples = (
            make(shown) for make in (restoration_by_strength, restoration_by_method, restorations)
        )
    for drawn in (by_strength, by_method, triples):
        assert drawn is not None
        assert drawn.figure.get_figwidth() * DPI <= PAGE
        assert drawn.caption.endswith(".")
    assert [text.get_text() for text in by_strength.figure.axes[0].get_xticklabels()] == strengths
    rows = texts(by_method.figure)
    assert {"corrupted", "median", "gaussian", "model", "clean"} <= set(rows)
    assert ("bicubic" in rows) == ("downsample" in str(given))


def test_every_corruption_has_a_row_of_its_images() -> None:
    """Any picture of the sheet is found among its pixels."""
    images = smooth((3, 28, 28), 3)
    with style():
        drawn = corruption_sheet(images, seed=4)
        canvas = tiles(drawn.figure)
    assert set(CORRUPTIONS) - {"none"} <= set(texts(drawn.figure))
    assert drawn.figure.get_figwidth() * DPI <= PAGE
    noise = Noise.from_seed(4, 3, "corruptions")
    for name, strength in (("blur", 3), ("downsample", 2), ("gaussian-noise", 0.25), ("jpeg", 15)):
        tile = to_bytes(as_target(with_strength(name, strength)(images, noise), images.shape))[1]
        assert _holds(canvas, tile), name


def _holds(canvas: np.ndarray, tile: np.ndarray) -> bool:
    """Whether a picture, each pixel a square of 4, lies somewhere in the canvas."""
    row = tile[0].repeat(4, 0)
    width = len(row)
    first = (canvas[:, :, None] == row[0]).all(-1)[..., 0]
    for top, left in np.argwhere(first[:, : canvas.shape[1] - width + 1]):
        if (canvas[top, left : left + width] == row).all():
            whole = canvas[top : top + 4 * len(tile) : 4, left : left + width : 4]
            if whole.shape == tile.shape and (whole == tile).all():
                return True
    return False


def test_a_wide_image_leaves_room_for_one() -> None:
    with style():
        drawn = corruption_sheet(torch.rand(3, 1, 20, 60))
    assert drawn.figure.get_figwidth() * DPI <= PAGE
