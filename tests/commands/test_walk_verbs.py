"""The verbs that walk: what they write, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands import good, refused
from vaekit.data.images import Splits
from vaekit.generation import corners, encode, interpolate, traverse
from vaekit.runs import Run
from vaekit.storage import load_model

Capture = pytest.CaptureFixture[str]


def array(capsys: Capture, *words: object) -> np.ndarray:
    good(capsys, *words, "--out", "images.npy")
    return np.load("images.npy")


def last(images: torch.Tensor) -> np.ndarray:
    return images.movedim(-3, -1).numpy()


def test_traverse_moves_the_latents_asked_for(
    capsys: Capture, folder: Path, runs: dict[str, Run], digits: Splits
) -> None:
    assert digits.test is not None
    path = runs["mlp"].path
    found = array(capsys, "traverse", path, "--latents", "3,1", "--steps", "5", "--range", "2", "--image-index", "7")
    model, _, _ = load_model(path)
    code = encode(model, digits.test.unit(torch.tensor([7])))
    wanted = traverse(model, code, torch.tensor([2, 0]), torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]))
    np.testing.assert_allclose(found.reshape(2, 5, 8, 8, 1), last(wanted)[0], atol=1e-6)
    two = array(
        capsys,
        "traverse",
        path,
        "--latents",
        "3,1",
        "--steps",
        "5",
        "--range",
        "2",
        "--image-index",
        "6",
        "--count",
        "2",
    )
    np.testing.assert_allclose(two[10:], found, atol=1e-6)


def test_traverse_begins_with_the_highest_rate(
    capsys: Capture, folder: Path, runs: dict[str, Run], digits: Splits
) -> None:
    assert digits.test is not None
    path = runs["mlp"].path
    record = good(capsys, "traverse", path, "--out", "x.png", "--json").record
    model, _, _ = load_model(path)
    with torch.no_grad():
        posterior = model.encode(digits.test.unit())  # type: ignore[operator]
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(posterior.loc, posterior.log_scale.exp()), torch.distributions.Normal(0.0, 1.0)
    ).mean(0)
    assert record["latents"] == [number + 1 for number in kl.argsort(descending=True).tolist()]
    np.testing.assert_allclose(record["rate_nats"], kl.sort(descending=True).values, rtol=1e-4)
    assert record["num_images"] == 4 * 11
    assert record["values"][0] == -2.5
    with Image.open("x.png") as picture:
        assert picture.width > picture.height > 400


def test_traverse_under_another_label(capsys: Capture, folder: Path, runs: dict[str, Run], digits: Splits) -> None:
    """The code is read under the image's own label, and decoded under the one asked for."""
    assert digits.test is not None
    assert digits.test.labels is not None
    path = runs["cvae-onehot"].path
    words = ["traverse", path, "--latents", "1", "--steps", "3"]
    model, _, _ = load_model(path)
    code = encode(model, digits.test.unit(torch.tensor([0])), digits.test.labels[:1])
    values = torch.tensor([-2.5, 0.0, 2.5])
    for more, label in (([], digits.test.labels[:1]), (["--label", "7"], torch.tensor([7]))):
        wanted = last(traverse(model, code, torch.tensor([0]), values, label))[0, 0]
        np.testing.assert_allclose(array(capsys, *words, *more), wanted, atol=1e-6)


def test_traverse_of_own_images(capsys: Capture, folder: Path, runs: dict[str, Run], digits: Splits) -> None:
    assert digits.test is not None
    np.save("own.npy", digits.test.pixels[:3].numpy())
    words = ["traverse", runs["mlp"].path, "--latents", "2", "--image-index", "2"]
    np.testing.assert_allclose(array(capsys, *words, "--images", "own.npy"), array(capsys, *words), atol=1e-6)
    sentence = refused(capsys, *words[:-1], "3", "--images", "own.npy", "--out", "x.png")
    assert sentence == "--image-index 3: there are 3 images; give 0 to 2"


@pytest.mark.parametrize("verb", ["interpolate", "traverse"])
def test_films(verb: str, capsys: Capture, folder: Path, runs: dict[str, Run]) -> None:
    good(capsys, verb, runs["mlp"].path, "--out", "x.gif")
    with Image.open("x.gif") as film:
        assert film.n_frames == 40  # type: ignore[attr-defined]  # 21 there, and 19 between on the way back
        assert film.info["loop"] == 0
    good(capsys, verb, runs["mlp"].path, "--out", "y.gif", "--steps", "4")
    with Image.open("y.gif") as film:
        assert film.n_frames == 6  # type: ignore[attr-defined]


def test_interpolate_on_arcs_and_in_squares(
    capsys: Capture, folder: Path, runs: dict[str, Run], digits: Splits
) -> None:
    assert digits.test is not None
    assert digits.test.labels is not None
    for name in ("mlp", "cvae-onehot"):
        path = runs[name].path
        model, _, _ = load_model(path)
        images = digits.test.unit(torch.arange(8))
        labels = digits.test.labels[:8] if model.conditional else None
        ends = (None, None) if labels is None else (labels[:4], labels[4:])
        arcs = array(capsys, "interpolate", path, "--count", "4", "--steps", "6", "--how", "spherical")
        wanted = interpolate(model, images[:4], images[4:], 6, *ends, how="spherical")
        np.testing.assert_allclose(arcs, last(wanted.flatten(0, 1)), atol=1e-5)
        squares = array(capsys, "interpolate", path, "--count", "2", "--steps", "3", "--corners")
        four = torch.tensor([1, 3, 5, 7])
        wanted = corners(model, images[four], 3, None if labels is None else labels[four])
        np.testing.assert_allclose(squares[9:], last(wanted.flatten(0, 1)), atol=1e-5)


def test_what_is_refused(capsys: Capture, folder: Path, runs: dict[str, Run]) -> None:
    path = runs["mlp"].path
    walk = ["interpolate", path, "--out"]
    assert "does not move" in refused(capsys, *walk, "x.gif", "--corners")
    assert "straight lines" in refused(capsys, *walk, "x.png", "--corners", "--how", "spherical")
    assert refused(capsys, *walk, "x.jpg") == "--out 'x.jpg': the ending '.jpg' is not .png, .gif or .npy; choose one"
    assert "did you mean 'spherical'" in refused(capsys, *walk, "x.png", "--how", "sperical")
    move = ["traverse", path, "--out", "x.png"]
    for wrong in ("5", "0", "x", "1,", "-1", "1;2"):
        assert f"--latents {wrong}: " in refused(capsys, *move, f"--latents={wrong}")
    assert refused(capsys, *move, "--label", "3") == (
        "--label 3: the model is not conditional on labels; leave the label out"
    )
    assert "too many for a picture" in refused(capsys, *move, "--count", "101")
    assert not list(folder.iterdir())
