"""Films from image to image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from commands import good, refused
from vaekit.data.images import Splits
from vaekit.runs import Run

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("name", ["mlp", "cvae-onehot"])
def test_each_image_is_passed_in_turn(name: str, runs: dict[str, Run], digits: Splits) -> None:
    assert digits.test is not None
    trained, images = vaekit.load(runs[name].path), digits.test.select(torch.arange(3))
    film = vaekit.morph(trained, images, frames=5)
    assert film.shape == (15, 1, 8, 8)
    torch.testing.assert_close(film[::5], trained.reconstructed(images), atol=1e-5, rtol=1e-5)
    back = vaekit.morph(trained, images.select(torch.tensor([0, 2])), frames=5)
    torch.testing.assert_close(back[6:], film[11:], atol=1e-5, rtol=1e-5)  # from the third to the first


def test_files(capsys: Capture, folder: Path, runs: dict[str, Run], digits: Splits) -> None:
    assert digits.test is not None
    for row in range(3):
        Image.fromarray(digits.test.pixels[row, :, :, 0].numpy()).save(f"{row}.png")
    path = runs["mlp"].path
    words = ["morph", path, "0.png", "1.png", "2.png", "--frames", "4"]
    good(capsys, *words, "--duration", "0.4", "--out", "film.gif")
    with Image.open("film.gif") as film:
        assert film.n_frames == 12  # type: ignore[attr-defined]
        assert film.info["loop"] == 0
        assert film.info["duration"] == 100
    assert good(capsys, *words, "--out", "film.npy", "--json").record["num_images"] == 12
    assert np.load("film.npy").shape == (12, 8, 8, 1)
    assert "one image is too few" in refused(capsys, "morph", path, "0.png", "--out", "x.gif")
    assert "is no image file" in refused(capsys, "morph", path, "0.png", "nowhere.png", "--out", "x.gif")
