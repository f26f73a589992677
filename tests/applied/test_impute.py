"""Hidden pixels: against the closed form, and what is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from commands import good, refused
from oracles import LinearGaussian
from vaekit.data.images import DataInfo, Splits
from vaekit.models.vae import VAEConfig
from vaekit.probability.likelihoods import Gaussian
from vaekit.runs import Run
from vaekit.settings import configure
from vaekit.trained import Trained

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def oracle(digits: Splits) -> LinearGaussian:
    """On grey values that keep away from 0 and 1, where means would be clipped."""
    return LinearGaussian.fit(0.3 + 0.4 * digits.train.unit().numpy(), 3)


def trained(oracle: LinearGaussian, log_variance: float) -> Trained:
    vae = VAEConfig(latent_dim=3, likelihood=Gaussian(sigma=oracle.sigma))
    config = dataclasses.replace(configure("mlp", data="digits"), model=vae)
    return Trained(oracle.model(0.0, log_variance), config, DataInfo("digits", oracle.shape), Path("linear"))


def test_chains_end_in_the_conditional_distribution(oracle: LinearGaussian, digits: Splits) -> None:
    """With a posterior twice too wide: mean and spread of W z given the seen pixels, in closed form; pseudo-Gibbs is off."""
    image = 0.3 + 0.4 * digits.train.unit(torch.tensor([5]))
    hidden = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    hidden[..., 2:7] = True
    seen = ~hidden.flatten().numpy()
    w, x = oracle.loadings[seen], image.flatten().double().numpy()[seen]
    precision = np.eye(3) + w.T @ w / oracle.sigma**2
    code = np.linalg.solve(precision, w.T @ (x - oracle.mean[seen]) / oracle.sigma**2)
    rest = oracle.loadings[~seen]
    mean = rest @ code + oracle.mean[~seen]
    variance = np.einsum("ij,jk,ik->i", rest, np.linalg.inv(precision), rest)

    model = trained(oracle, 2 * np.log(2.0))
    found = vaekit.impute(model, image, hidden, imputations=600, steps=300, warmup=100, size=600)
    assert found.exact
    assert 0.2 < found.acceptance < 0.9
    np.testing.assert_allclose(found.mean[hidden].numpy(), mean, atol=0.004)
    spread = found.samples[0][:, 0][:, hidden[0, 0]].double().var(0).numpy()
    assert (spread / variance).mean() == pytest.approx(1.0, abs=0.12)

    model.model.provides -= {"path"}
    pseudo = vaekit.impute(model, image, hidden, imputations=600, steps=300, warmup=100, size=600)
    assert not pseudo.exact
    spread = pseudo.samples[0][:, 0][:, hidden[0, 0]].double().var(0).numpy()
    assert (spread / variance).mean() > 1.5

    exact = vaekit.impute(trained(oracle, 0.0), image, hidden, imputations=10, steps=20, warmup=5)
    assert exact.acceptance > 0.99  # an exact posterior is never refused


def test_parts_equal_the_whole(oracle: LinearGaussian, digits: Splits) -> None:
    images, hidden = 0.3 + 0.4 * digits.train.unit(torch.arange(4)), torch.rand(1, 1, 8, 8) < 0.5
    model, few = trained(oracle, 0.5), {"imputations": 3, "steps": 6, "warmup": 2}
    whole = vaekit.impute(model, images, hidden, **few)  # type: ignore[arg-type]
    part = vaekit.impute(model, images[2:], hidden, first=2, size=3, **few)  # type: ignore[arg-type]
    torch.testing.assert_close(part.samples, whole.samples[2:])
    torch.testing.assert_close(part.mean, whole.mean[2:])


def test_the_command_keeps_what_is_seen(capsys: Capture, folder: Path, runs: dict[str, Run], digits: Splits) -> None:
    assert digits.test is not None
    pixels = digits.test.pixels[:3].numpy()
    values = (pixels / 255.0).astype(np.float32)
    hidden = np.zeros_like(values, bool)
    hidden[:, 2:5, 1:7] = True
    np.save("holes.npy", np.where(hidden, np.nan, values))
    few = ["--steps", "6", "--warmup", "2", "--imputations", "2"]
    path = runs["mlp"].path
    good(capsys, "impute", path, "holes.npy", "--out", "filled.npy", *few)
    filled = np.load("filled.npy")
    assert filled.shape == (3, 2, 8, 8, 1)
    for chain in range(2):
        assert np.array_equal(filled[:, chain][~hidden], values[~hidden])
        assert not np.allclose(filled[:, chain][hidden], 0.0)

    Path("own").mkdir()
    for row in range(3):
        Image.fromarray(pixels[row, :, :, 0]).save(f"own/{row}.png")
    Image.fromarray(hidden[0, :, :, 0].astype(np.uint8) * 255).save("mask.png")
    for mask, out in (("1,2,6,3", "box"), ("mask.png", "picture")):
        good(capsys, "impute", path, "own", "--mask", mask, "--out", out, *few)
        for kind in ("mean", "imputation-1", "imputation-2"):
            found = np.stack([np.asarray(Image.open(f"{out}/{kind}/{row}.png")) for row in range(3)])[..., None]
            assert np.array_equal(found[~hidden], pixels[~hidden])
    for row in range(3):
        assert Path(f"box/mean/{row}.png").read_bytes() == Path(f"picture/mean/{row}.png").read_bytes()
    record = good(capsys, "impute", path, "own", "--mask", "1,2,6,3", "--out", "x.png", *few, "--json").record
    assert record["num_images"] == 3 * 4
    for mask in ("1,2,8,3", "1,2,3", "0,0,0,4", "x,1,2,3"):
        assert f"--mask {mask!r}: " in refused(capsys, "impute", path, "own", "--mask", mask, "--out", "y.png")
    assert "--mask is missing" in refused(capsys, "impute", path, "own", "--out", "y.png")
    assert "more steps" in refused(
        capsys, "impute", path, "own", "--mask", "1,2,6,3", "--out", "y.png", "--steps", "9", "--warmup", "9"
    )
