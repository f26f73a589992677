"""Models whose latents are not one vector: codes from a book, levels drawn one after the other."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from vaekit.explorer.opened import Opened
from vaekit.explorer.server import create_app
from vaekit.explorer.sheets import to_levels
from vaekit.models.vq import VQModel
from vaekit.noise import Noise
from vaekit.records import to_json


def test_the_shares_are_those_of_the_codes_that_the_model_chooses(opened: dict[str, Opened]) -> None:
    scene = opened["codes"].scene
    assert isinstance(scene.model, VQModel)
    assert scene.images is not None
    with torch.no_grad():
        chosen = scene.model.encode(scene.images.unit()).quantized.indices.flatten()
    counts = torch.bincount(chosen, minlength=12)
    about = json.loads(to_json(scene.description))["codebook"]
    np.testing.assert_allclose(about["shares"], counts / counts.sum(), atol=1e-6)
    assert about["used"] == (counts > 0).sum()
    shares = counts[counts > 0] / counts.sum()
    assert about["perplexity"] == pytest.approx(float((-(shares * shares.log()).sum()).exp()), rel=1e-5)
    assert [counts[code] for code in about["order"]] == sorted(counts.tolist(), reverse=True)


def test_each_tile_of_the_palette_is_an_image_of_one_code(opened: dict[str, Opened]) -> None:
    scene = opened["codes"].scene
    about = scene.description["codebook"]
    vectors = np.frombuffer(scene.blobs["codebook.bin"]()[0], "<f4").reshape(12, 4)
    picture = np.asarray(Image.open(io.BytesIO(scene.blobs[about["palette"]]()[0])))
    assert picture.shape == (8, 12 * 8)
    for place in (0, 5, 11):
        flat = torch.from_numpy(np.tile(vectors[about["order"][place]], int(np.prod(about["grid"]))))[None]
        expected = to_levels(scene.decoded(flat, None))[0, 0].numpy()
        np.testing.assert_array_equal(picture[:, 8 * place : 8 * place + 8], expected)


@pytest.mark.parametrize(("name", "temperatures"), [("codes", [0.7]), ("levels", [1.0, 0.5, 0.0])])
def test_the_server_draws_what_the_model_draws(opened: dict[str, Opened], name: str, temperatures: list[float]) -> None:
    scene = opened[name].scene
    weights = np.eye(10, 11, dtype="<f4")[4:5] if name == "codes" else np.zeros((1, 0), "<f4")
    weights[:, 10:] = guidance = 2.0 if name == "codes" else 1.0
    asked = f"/api/sample?seed=7&temperatures={','.join(map(str, temperatures))}"
    with TestClient(create_app(opened[name]), "http://127.0.0.1:8420") as client:
        answer = client.post(asked, content=weights.tobytes())
        assert answer.status_code == 200, answer.text
        found = np.frombuffer(answer.content, "<f4")
        given = torch.tensor([4]) if name == "codes" else None
        with scene.model.guided(guidance):
            expected = scene.model.sample_prior(1, given, Noise.from_seed(7, 1, "explorer sample"), temperatures)
        np.testing.assert_array_equal(found, expected[0].detach().numpy())
        assert client.post(asked, content=weights.tobytes()).content == answer.content
        other = client.post(asked.replace("seed=7", "seed=8"), content=weights.tobytes())
        assert other.content != answer.content
        for wrong in ("seed=-1&temperatures=1", "seed=1&temperatures=1,1,1,1", "seed=1&temperatures=nan", "seed=1"):
            refused = client.post(f"/api/sample?{wrong}", content=weights.tobytes())
            assert refused.status_code in (400, 422)
        assert client.post(asked, content=b"123").status_code == 400 if name == "codes" else True


def test_several_levels_are_told_with_their_rates_and_only_the_first_can_be_moved(opened: dict[str, Opened]) -> None:
    about = json.loads(to_json(opened["levels"].scene.description))
    assert about["fresh"] is True
    assert about["levels"] == len(about["level_rates"]) == 3
    assert sorted(about["order"]) == [0, 1, 2]
    assert opened["codes"].scene.description["order"] == []
    assert opened["plain"].scene.description["fresh"] is False
