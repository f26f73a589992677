"""Folders through a model and back: names, sizes, tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from commands import good, refused
from vaekit import generation
from vaekit.applied.restored import restore_folder
from vaekit.applied.tiles import in_tiles, starts, window
from vaekit.runs import Run

Capture = pytest.CaptureFixture[str]
SIZES = {"same.png": (8, 8), "a/large.png": (37, 21), "a/small.bmp": (5, 3), "b/photo.jpg": (16, 40)}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (height, width), np.uint8)).save(path)
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    return tmp_path / "images"


def grey(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (5, 90), (3, 4), (32, 31)])
def test_tiles_of_nothing_changed_are_the_image(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    made = in_tiles(pixels, (12, 8), lambda tiles: tiles.astype(np.float32), size=5)
    np.testing.assert_allclose(made, pixels, atol=1e-3)
    twice = in_tiles(pixels, (12, 8), lambda tiles: tiles.repeat(2, 1).repeat(2, 2).astype(np.float32), factor=2)
    np.testing.assert_allclose(twice, pixels.repeat(2, 0).repeat(2, 1), atol=1e-3)


def test_every_place_is_under_two_tiles_that_fade() -> None:
    """A tile's border counts for little wherever another tile has its middle."""
    begins = starts(100, 16)
    assert begins[0] == 0
    assert begins[-1] == 84
    assert max(np.diff(begins)) <= 8
    assert window(16, 16).max() > 0.95
    assert window(16, 16)[0].max() < 0.02


def test_names_and_sizes_are_kept(images: Path, tmp_path: Path, runs: dict[str, Run]) -> None:
    trained = vaekit.load(runs["mlp"].path)
    record = restore_folder(trained, images, tmp_path / "out")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert found == {"same.png", "a/large.png", "a/small.bmp", "b/photo.png"}
    assert record["num_images"] == 4
    assert record["left_out"] == [["broken.png", "no image of a known format"]]
    for name in SIZES:
        assert grey(tmp_path / "out" / name.replace(".jpg", ".png")).shape == grey(images / name).shape
    seen = torch.from_numpy(grey(images / "same.png").copy())[None, None] / 255.0
    expected = generation.reconstruct(trained.model, seen)[0, 0].mul(255.0).round().numpy()
    np.testing.assert_array_equal(grey(tmp_path / "out" / "same.png"), expected)


def test_tiles_keep_what_the_model_keeps(
    images: Path, tmp_path: Path, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "reconstruct", lambda model, seen, labels=None: seen)
    restore_folder(vaekit.load(runs["mlp"].path), images, tmp_path / "out", tiles=True, size=3)
    for name in ("same.png", "a/large.png", "a/small.bmp"):
        np.testing.assert_array_equal(grey(tmp_path / "out" / name), grey(images / name))


def test_a_conditional_model_reads_folders_of_classes(tmp_path: Path, runs: dict[str, Run]) -> None:
    """The same image under two classes becomes two images; a wrapping folder stays in the names."""
    pixels = np.random.default_rng(2).integers(0, 256, (8, 8), np.uint8)
    for label in ("3", "4"):
        (tmp_path / "in" / "all" / label).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "in" / "all" / label / "x.png")
    trained = vaekit.load(runs["cvae-onehot"].path)
    restore_folder(trained, tmp_path / "in", tmp_path / "out")
    made = [grey(tmp_path / "out" / "all" / label / "x.png") for label in ("3", "4")]
    seen = torch.from_numpy(pixels)[None, None] / 255.0
    for label, found in zip((3, 4), made, strict=True):
        expected = generation.reconstruct(trained.model, seen, torch.tensor([label]))[0, 0].mul(255.0).round()
        np.testing.assert_array_equal(found, expected.numpy())
    assert not np.array_equal(*made)


@pytest.mark.parametrize("verb", ["denoise", "reconstruct"])
def test_from_the_command_line(verb: str, images: Path, capsys: Capture, folder: Path, runs: dict[str, Run]) -> None:
    path = runs["denoising"].path
    record = good(capsys, verb, path, "--images", images, "--out", "out", "--json").record
    assert record["num_images"] == 4
    assert good(capsys, verb, path, "--images", images, "--out", "two", "--count", "2").out == "two\n"
    assert len(list(Path("two").rglob("*.*"))) == 2
    assert "is a run folder" in refused(capsys, verb, path, "--images", images, "--out", path)
    assert "for folders" in refused(capsys, verb, path, "--tiles", "--out", "x.png")
    (folder / "none").mkdir()
    assert "holds no images" in refused(capsys, verb, path, "--images", "none", "--out", "three")
    assert not Path("three").exists()
