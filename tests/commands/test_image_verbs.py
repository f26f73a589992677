"""The verbs that make images, end to end on small runs."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands import good, refused
from vaekit.data.images import Splits
from vaekit.generation import reconstruct
from vaekit.runs import Run
from vaekit.storage import load_model, save_model

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def named(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The conditional model, its classes called by words."""
    model, config, info = load_model(runs["cvae-onehot"].model)
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    path = tmp_path_factory.mktemp("named") / "model.safetensors"
    save_model(path, model, config, replace(info, class_names=words), model.state_dict())
    return path


def array(capsys: Capture, *words: object) -> np.ndarray:
    """The images that a verb writes, (n, height, width, channels)."""
    good(capsys, *words, "--out", "images.npy")
    return np.load("images.npy")


def test_own_files(capsys: Capture, folder: Path, runs: dict[str, Run], named: Path) -> None:
    """A model that reads no labels takes folders of any names; a single file is read without a warning."""
    for name in ("red", "zero"):
        Path("own", name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 100, np.uint8)).save(f"own/{name}/a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(array(capsys, "reconstruct", runs["mlp"].path, "--images", "own/red/a.png")) == 1
    assert len(array(capsys, "reconstruct", runs["mlp"].path, "--images", "own")) == 2
    sentence = refused(capsys, "reconstruct", named, "--images", "own", "--out", "x.png")
    assert sentence.startswith("--images 'own': class 'red' is unknown; ")


@pytest.mark.parametrize("name", ["mlp", "cvae-onehot"])
def test_sample(name: str, capsys: Capture, folder: Path, runs: dict[str, Run]) -> None:
    words = ["sample", runs[name].path]
    images = array(capsys, *words, "--count", "12")
    assert images.shape == (12, 8, 8, 1)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    first = Path("images.npy").read_bytes()
    array(capsys, *words, "--count", "12")
    assert Path("images.npy").read_bytes() == first
    np.testing.assert_allclose(array(capsys, *words, "--count", "5"), images[:5], atol=1e-6)
    assert not np.allclose(array(capsys, *words, "--count", "12", "--seed", "1"), images)
    assert len(array(capsys, *words)) == 64
    cold = array(capsys, *words, "--count", "11", "--temperature", "0")
    np.testing.assert_allclose(cold[0], cold[10], atol=1e-6)  # of one class, where classes come in turn


def test_sample_picture(capsys: Capture, folder: Path, runs: dict[str, Run]) -> None:
    words = ["sample", runs["mlp"].path, "--count", "4"]
    assert good(capsys, *words, "--out", "a.png").out == "a.png\n"
    assert good(capsys, *words, "--out", "b.PNG", "--json").record == {"file": "b.PNG", "num_images": 4}
    assert Path("a.png").read_bytes() == Path("b.PNG").read_bytes()
    with Image.open("a.png") as picture:
        assert picture.size[0] == picture.size[1] > 16


def test_sample_of_a_class(capsys: Capture, folder: Path, runs: dict[str, Run], named: Path) -> None:
    """By number or by name, and each class in turn without a label."""
    path = runs["cvae-onehot"].path
    seven = array(capsys, "sample", path, "--label", "7", "--count", "20")
    assert np.array_equal(array(capsys, "sample", named, "--label", "seven", "--count", "20"), seven)
    assert np.array_equal(array(capsys, "sample", named, "--label", "7", "--count", "20"), seven)
    assert not np.allclose(array(capsys, "sample", path, "--label", "1", "--count", "20"), seven)
    in_turn = array(capsys, "sample", path, "--count", "20")
    np.testing.assert_allclose(in_turn[[7, 17]], seven[[7, 17]], atol=1e-6)
    sentence = refused(capsys, "sample", named, "--label", "sevn", "--out", "x.png")
    assert sentence == "--label 'sevn' is unknown; did you mean 'seven'?"
    for wrong in ("10", "-1", "1.5"):
        sentence = refused(capsys, "sample", path, "--label", wrong, "--out", "x.png")
        assert sentence.startswith(f"--label {wrong!r} is unknown; choose from 0, 1, 2") or wrong == "1.5"


def test_reconstruct(capsys: Capture, folder: Path, runs: dict[str, Run], digits: Splits) -> None:
    images = array(capsys, "reconstruct", runs["mlp"].path, "--count", "6", "--split", "test")
    model, _, _ = load_model(runs["mlp"].path)
    assert digits.test is not None
    expected = reconstruct(model, digits.test.unit(torch.arange(6)))
    np.testing.assert_allclose(images, expected.permute(0, 2, 3, 1).numpy(), atol=1e-6)
    answer = good(capsys, "reconstruct", runs["cvae-onehot"].path, "--count", "3", "--out", "x.png", "--json")
    assert answer.record == {"file": "x.png", "num_images": 6}  # originals beside reconstructions


def test_own_images(capsys: Capture, folder: Path, runs: dict[str, Run], digits: Splits) -> None:
    """Own images from an array: the same pixels give the same reconstructions as the split they come from."""
    assert digits.test is not None
    pixels, labels = digits.test.pixels[:6].numpy(), digits.test.labels
    assert labels is not None
    np.save("own.npy", pixels[..., 0])
    np.savez("own.npz", images=pixels, labels=labels[:6].numpy())
    for name, file in (("mlp", "own.npy"), ("cvae-onehot", "own.npz"), ("denoising", "own.npy")):
        for verb in ("reconstruct", "interpolate", "denoise"):
            own = array(capsys, verb, runs[name].path, "--images", file, "--count", "3")
            if name != "denoising" and verb != "denoise":
                expected = array(capsys, verb, runs[name].path, "--split", "test", "--count", "3")
                np.testing.assert_allclose(own, expected, atol=1e-6)
            assert own.shape[1:] == (8, 8, 1)
    sentence = refused(capsys, "reconstruct", runs["cvae-onehot"].path, "--images", "own.npy", "--out", "x.png")
    assert (
        sentence
        == "--images 'own.npy': the model is conditional; give a .npz with images and labels, or a folder for each class"
    )
    np.savez("own.npz", images=pixels, labels=np.arange(6) + 7)
    sentence = refused(capsys, "reconstruct", runs["cvae-onehot"].path, "--images", "own.npz", "--out", "x.png")
    assert sentence == "--images 'own.npz': label 12 is out of range; the model knows 0 to 9"


def test_interpolate(capsys: Capture, folder: Path, runs: dict[str, Run]) -> None:
    """Lines start and end at reconstructions, and the middle of three is between them in latent space."""
    for name in ("mlp", "cvae-onehot"):
        path = runs[name].path
        lines = array(capsys, "interpolate", path, "--count", "3", "--steps", "5").reshape(3, 5, 8, 8)
        ends = array(capsys, "reconstruct", path, "--count", "6").reshape(6, 8, 8)
        np.testing.assert_allclose(lines[:, 0], ends[:3], atol=1e-5)
        np.testing.assert_allclose(lines[:, -1], ends[3:], atol=1e-5)
    assert good(capsys, "interpolate", path, "--out", "x.png", "--json").record["num_images"] == 80


def test_denoise(capsys: Capture, folder: Path, runs: dict[str, Run]) -> None:
    path = runs["denoising"].path
    restored = array(capsys, "denoise", path, "--count", "4")
    assert np.array_equal(restored, array(capsys, "reconstruct", path, "--count", "4"))
    answer = good(capsys, "denoise", path, "--count", "4", "--out", "x.png", "--json")
    assert answer.record["num_images"] == 12  # corrupted, restored and clean
