"""A trained model in somebody's hands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import vaekit
from vaekit.errors import InputError
from vaekit.trained import Trained
from vaekit.training.reporting import Silent

SMALL = {"data": "digits", "train_limit": 200, "epochs": 1, "hidden": "16", "latent_dim": 3, "batch_size": 50}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    path = tmp_path_factory.mktemp("trained") / "run"
    return vaekit.load(vaekit.train(path, "mlp", observer=Silent(), **SMALL).path)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    path = tmp_path_factory.mktemp("conditional") / "run"
    return vaekit.load(vaekit.train(path, "mlp", conditioning="onehot", observer=Silent(), **SMALL).path)


def test_batches_change_nothing(plain: Trained) -> None:
    images = plain.pack(np.random.default_rng(0).integers(0, 256, (23, 8, 8), np.uint8))
    codes = plain.codes(images)
    torch.testing.assert_close(plain.codes(images, size=5), codes)
    torch.testing.assert_close(plain.images(codes, size=7), plain.reconstructed(images), atol=1e-6, rtol=1e-5)
    assert codes.std() > 0
    assert len(plain.codes(images.select(torch.empty(0, dtype=torch.int64)))) == 0


def test_other_shapes_are_refused(plain: Trained) -> None:
    with pytest.raises(InputError, match=r"images: shape \(1, 9, 8\) is not the model's \(1, 8, 8\)"):
        plain.pack(np.zeros((2, 9, 8), np.uint8))


def test_a_conditional_model_is_given_labels(conditional: Trained) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8), np.uint8)
    with pytest.raises(InputError, match="the model is conditional"):
        conditional.codes(conditional.pack(pixels))
    with pytest.raises(InputError, match="label 10 is out of range; the model knows 0 to 9"):
        conditional.codes(conditional.pack(pixels, [0, 1, 2, 10]))
    first, second = (conditional.codes(conditional.pack(pixels, [label] * 4)) for label in (3, 4))
    assert not torch.equal(first, second)


def test_a_folder_keeps_its_names(plain: Trained, tmp_path: Path) -> None:
    from PIL import Image

    for name, grey in (("b", 200), ("a", 10)):
        Image.new("L", (20, 16), grey).save(tmp_path / f"{name}.png")
    own = plain.read(tmp_path)
    assert list(own.names) == ["a.png", "b.png"]
    assert own.images.pixels[:, 0, 0, 0].tolist() == [10, 200]
    assert own.root == tmp_path
    assert list(plain.read(tmp_path / "b.png").names) == ["b.png"]
