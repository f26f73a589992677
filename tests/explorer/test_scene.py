"""What the page reads."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from vaekit import generation
from vaekit.explorer.opened import Opened
from vaekit.explorer.scene import Scene, most_points
from vaekit.explorer.sheets import to_levels
from vaekit.noise import Noise
from vaekit.records import to_json
from vaekit.training.reporting import Silent


@pytest.mark.parametrize("name", ["plain", "classes"])
def test_the_description_is_json_and_the_blobs_have_its_sizes(opened: dict[str, Opened], name: str) -> None:
    scene = opened[name].scene
    about = json.loads(to_json(scene.description))
    sizes = {blob: len(make()[0]) for blob, make in scene.blobs.items()}
    assert sizes["codes.bin"] == 4 * about["count"] * about["latent_dim"]
    assert sizes["draws.bin"] == 4 * about["draws"] * about["latent_dim"]
    assert sizes["labels.bin"] == 2 * about["count"]
    assert sum("sheet" in blob for blob in sizes) == -(-about["count"] // 256)
    assert about["count"] == 161
    assert sorted(about["order"]) == list(range(about["latent_dim"]))
    assert [each["name"] for each in about["maps"]] == (["pca", "tsne"] if name == "plain" else ["latents"])
    assert ("draw-labels.bin" in sizes) == (about["class_map"] is not None) == (name == "classes")


def test_the_plane_is_that_of_principal_components(opened: dict[str, Opened]) -> None:
    from sklearn.decomposition import PCA

    scene = opened["plain"].scene
    axes, center, share = scene.plane
    found = PCA(2).fit(scene.codes.means)
    np.testing.assert_allclose(np.abs((axes * found.components_).sum(1)), 1.0, atol=1e-5)
    np.testing.assert_allclose(center, found.mean_, atol=1e-5)
    np.testing.assert_allclose(share, found.explained_variance_ratio_, rtol=1e-4)


def test_a_class_is_a_corner_of_the_weights_and_between_them_vectors_are_mixed(opened: dict[str, Opened]) -> None:
    scene = opened["classes"].scene
    codes = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([3, 0, 9, 3])
    weights = torch.nn.functional.one_hot(labels, 10).float()
    torch.testing.assert_close(scene.decoded(codes, weights), generation.decode(scene.model, codes, labels))
    with torch.no_grad():
        first, second = (scene.model.code(labels[:1] * 0 + label) for label in (3, 8))
    mixed = torch.zeros(1, 10)
    mixed[0, 3], mixed[0, 8] = 0.25, 0.75
    expected = generation.decode(scene.model, codes[:1], code=0.25 * first + 0.75 * second)  # type: ignore[operator]
    torch.testing.assert_close(scene.decoded(codes[:1], mixed), expected)
    images = scene.images.unit(torch.arange(4))  # type: ignore[union-attr]
    torch.testing.assert_close(scene.encoded(images, weights), generation.encode(scene.model, images, labels))


def test_sheets_hold_the_images_row_by_row(opened: dict[str, Opened]) -> None:
    scene = opened["plain"].scene
    content, kind = scene.blobs["sheet-0.png"]()
    sheet = np.asarray(Image.open(io.BytesIO(content)))
    assert kind == "image/png"
    assert sheet.shape == (128, 128)
    for index in (0, 15, 16, 160):
        row, column = divmod(index, 16)
        tile = sheet[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        np.testing.assert_array_equal(tile, scene.images.pixels[index, ..., 0].numpy())  # type: ignore[union-attr]
    assert not sheet[88:].any()


def test_large_images_become_small_thumbnails(opened: dict[str, Opened], tmp_path: Path) -> None:
    from vaekit.data.images import DataInfo, Images
    from vaekit.settings import configure
    from vaekit.trained import Trained

    pixels = torch.zeros(3, 96, 192, 3, dtype=torch.uint8)
    pixels[1, :, 96:] = torch.tensor([200, 40, 10], dtype=torch.uint8)
    config = configure("mlp", hidden="4", latent_dim=3)
    info = DataInfo("own", (3, 96, 192))
    scene = Scene(Trained(config.model.build(info).eval(), config, info, tmp_path), Images(pixels), "own")
    assert scene.sheets.thumbnail == (32, 64)
    content, kind = scene.blobs["sheet-0.webp"]()
    sheet = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    assert kind == "image/webp"
    assert sheet.shape == (512, 1024, 3)
    assert np.abs(sheet[8:24, 104:120].mean((0, 1)) - [200, 40, 10]).max() < 12
    assert sheet[8:24, 72:88].max() < 12


def test_without_its_data_a_model_shows_its_prior(runs: dict[str, Path], tmp_path: Path) -> None:
    from vaekit.storage import load_model, save_model

    model, config, info = load_model(runs["classes"])
    config = vaekit_elsewhere(config)
    save_model(tmp_path / "model.safetensors", model, config, info, model.state_dict())
    found = Opened(tmp_path / "model.safetensors")
    assert found.scene.images is None
    assert "samples of the prior" in found.note
    about = found.scene.description
    assert about["split"] == "prior"
    assert about["count"] == 512
    sheet = np.asarray(Image.open(io.BytesIO(found.scene.blobs["sheet-1.png"]()[0])))
    codes = torch.from_numpy(found.scene.codes.means[256:257])
    assert found.scene.codes.labels is not None
    label = torch.tensor(found.scene.codes.labels[256:257])
    expected = to_levels(generation.decode(model, codes, label))[0, 0].numpy()
    np.testing.assert_array_equal(sheet[:8, :8], expected)


def vaekit_elsewhere(config: object) -> object:
    """The same configuration, of data that nobody has."""
    from vaekit.config import replace

    return replace(config, ("data", "data"), "/nowhere/own.npy")


@pytest.mark.parametrize(
    ("latents", "asked", "most"), [(2, 10_000, 10_000), (4096, 10_000, 976), (65536, 9000, 256), (2, 50, 50)]
)
def test_wide_codes_are_fewer(latents: int, asked: int, most: int) -> None:
    assert most_points(latents, asked) == most


def test_a_model_that_reads_attributes_and_one_without_a_rate(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    brightness = draw.random((200, 1)).astype(np.float32)
    pixels = (255 * brightness[:, :, None] * draw.random((200, 6, 6))).astype(np.uint8)
    np.savez(tmp_path / "own.npz", images=pixels, attributes=brightness, attribute_names=["brightness"])
    given = {"data": str(tmp_path / "own.npz"), "hidden": "16", "latent_dim": 2, "epochs": 2, "batch_size": 40}
    run = vaekit.train(tmp_path / "run", "mlp", conditioning="attributes", observer=Silent(), **given)
    scene = Opened(run.path).scene
    about = json.loads(to_json(scene.description))
    assert (about["condition"], about["conditions"], about["attributes"]) == ("attributes", 1, ["brightness"])
    assert len(scene.blobs["attributes.bin"]()[0]) == 4 * about["count"]
    codes = torch.randn(3, 2)
    given_values = torch.tensor([[0.1], [0.9], [torch.nan]])
    torch.testing.assert_close(scene.decoded(codes, given_values), generation.decode(scene.model, codes, given_values))

    plain = vaekit.train(
        tmp_path / "plain", "mlp", objective="autoencoder", posterior="deterministic", observer=Silent(), **given
    )
    scene = Opened(plain.path).scene
    assert json.loads(to_json(scene.description))["rates"] is None


def test_draws_of_a_prior_that_reads_attributes_are_of_usual_ones(tmp_path: Path) -> None:
    """Attributes far from 0: draws under zeros would be those of images that nobody has."""
    random = np.random.default_rng(0)
    attributes = random.normal(100.0, 3.0, (120, 1)).astype(np.float32)
    pixels = random.integers(0, 255, (120, 8, 8), np.uint8)
    np.savez(tmp_path / "own.npz", images=pixels, attributes=attributes, attribute_names=["weight"])
    given: dict[str, Any] = {
        "data": str(tmp_path / "own.npz"), "hidden": "4", "latent_dim": 2, "epochs": 1, "batch_size": 32,
        "prior": "conditional",
    }  # fmt: skip
    run = vaekit.train(tmp_path / "run", "mlp", conditioning="attributes", observer=Silent(), **given)
    scene = Opened(run.path).scene
    with torch.no_grad():
        noise = Noise.from_seed(0, len(scene.draws[0]), "explorer")
        usual = scene.trained.model.sample_prior(len(scene.draws[0]), torch.full((512, 1), math.nan), noise)
    np.testing.assert_allclose(scene.draws[0], usual.numpy(), rtol=1e-5)
