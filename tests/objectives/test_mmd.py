"""Objectives that match the aggregate posterior to the prior by a discrepancy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_bounds import random_draw
from test_kernels import direct
from test_total_correlation import mean_of_two_processes, part
from torch import Tensor

import cases
from vaekit.errors import InputError
from vaekit.models.draw import Draw, Latent
from vaekit.noise import Noise
from vaekit.objectives import bounds
from vaekit.objectives.mmd import InfoVAE, WaeMmd
from vaekit.objectives.table import MODEL, Context
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal
from vaekit.probability.likelihoods import BernoulliImage
from vaekit.settings import configure
from vaekit.training.reporting import Silent
from vaekit.training.train import train

OBJECTIVES = [WaeMmd, InfoVAE]


def context(weight: float = 50.0, alpha: float = 0.25, count: int = 4, bandwidth: float = 1.0) -> Context:
    return cases.context(count, mmd_weight=weight, info_alpha=alpha, mmd_bandwidth=bandwidth)


def loss_of(entry: Any, draw: Draw, told: Context, **choices: Any) -> Tensor:
    """The numbers come from the context, not from the objective's own fields."""
    losses, _ = entry(mmd_weight=77.0, mmd_bandwidth=66.0, **choices)(draw, None, told)
    assert set(losses) == {MODEL}
    return losses[MODEL]


def code_draw(codes: Tensor, prior: Any, posterior: Any = None) -> Draw:
    blank = torch.zeros(len(codes), 1, 1, 1)
    return Draw((Latent(codes, posterior, prior),), BernoulliImage(blank), blank)


def expected_mmd(draw: Draw, kernel: str, bandwidth: float) -> float:
    """By loops, one sample of each image at a time, with the draws of the prior that the noise stands for."""
    value = draw.latents[0].value
    prior = Noise.from_seed(0, 4).normal("mmd prior", (3,), value.shape[:-2])
    both = zip(value.reshape(-1, 4, 3).double(), prior.reshape(-1, 4, 3).double(), strict=True)
    found = [direct(a, b, kernel, bandwidth) for a, b in both]
    return sum(found) / len(found)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
@pytest.mark.parametrize("sample_shape", [(), (5,), (2, 3)])
@pytest.mark.parametrize("entry", OBJECTIVES)
def test_values_are_those_of_the_formula(entry: Any, sample_shape: tuple[int, ...], kernel: Any) -> None:
    draw = random_draw(sample_shape)
    discrepancy = expected_mmd(draw, kernel, 1.5)
    expected = draw.distortion.mean().item() + 50.0 * discrepancy
    if entry is InfoVAE:
        expected += 0.75 * draw.rate.mean().item()
    losses, terms = entry(mmd_kernel=kernel)(draw, None, context(bandwidth=1.5))
    assert losses[MODEL].item() == pytest.approx(expected, rel=1e-5)
    assert terms["mmd"].item() == pytest.approx(discrepancy, rel=1e-3)
    assert 50.0 * abs(discrepancy) > 0.5


def test_info_vae_without_preference_and_discrepancy_is_the_elbo() -> None:
    draw = random_draw()
    torch.testing.assert_close(loss_of(InfoVAE, draw, context(0.0, 0.0)), -bounds.elbo(draw).mean())


def test_info_vae_with_full_preference_is_the_wasserstein_autoencoder() -> None:
    draw = random_draw()
    torch.testing.assert_close(loss_of(InfoVAE, draw, context(50.0, 1.0)), loss_of(WaeMmd, draw, context(50.0)))


def test_a_deterministic_code_is_matched_to_the_prior_that_stands_beside_it() -> None:
    drawn = random_draw()
    codes = drawn.latents[0].value
    draw = Draw((Latent(codes, None, StandardNormal(3)),), drawn.likelihood, drawn.target)
    assert draw.rate is None
    torch.testing.assert_close(loss_of(WaeMmd, draw, context()), loss_of(WaeMmd, drawn, context()))


@pytest.mark.parametrize("entry", OBJECTIVES)
def test_the_prior_is_the_draws_own(entry: Any) -> None:
    """Codes from N(3, 0.1^2) have no discrepancy from that prior, and a large one from N(0, 1)."""
    own = DiagonalGaussian(torch.full((256, 2), 3.0), torch.full((256, 2), -2.3))
    codes = own.sample_from(Noise.from_seed(1, 256), "latent")
    told = context(1.0, 1.0, 256, bandwidth=0.1)
    assert loss_of(entry, code_draw(codes, own, own), told).item() == pytest.approx(0.6931, abs=0.05)
    assert loss_of(entry, code_draw(codes, StandardNormal(2), own), told).item() > 1.5


def test_one_discrepancy_of_a_batch_is_not_the_mean_of_its_parts() -> None:
    codes = torch.randn(128, 3, generator=torch.Generator().manual_seed(0)) + torch.linspace(-2, 2, 128)[:, None]
    draw, told = code_draw(codes, StandardNormal(3)), context(count=128)
    whole = loss_of(WaeMmd, draw, told)
    order = torch.randperm(128, generator=torch.Generator().manual_seed(0))
    told.noise = told.noise._replace(index=order)
    moved = code_draw(codes[order], StandardNormal(3))
    torch.testing.assert_close(loss_of(WaeMmd, moved, told), whole)
    parts = []
    for rows in (slice(first, first + 32) for first in range(0, 128, 32)):
        told.noise = told.noise._replace(index=torch.arange(128)[rows])
        parts.append(loss_of(WaeMmd, part(draw, rows), told))
    assert abs(torch.stack(parts).mean() - whole) > 1.0


@pytest.mark.parametrize("entry", OBJECTIVES)
@pytest.mark.parametrize("sample_shape", [(), (5,)])
def test_processes_join_their_codes(entry: Any, sample_shape: tuple[int, ...]) -> None:
    draw = random_draw(sample_shape)
    whole = loss_of(entry, draw, context())
    torch.testing.assert_close(mean_of_two_processes(entry(), draw, context()), whole)


@pytest.mark.parametrize("entry", OBJECTIVES)
def test_a_batch_of_one_has_no_discrepancy(entry: Any) -> None:
    draw = part(random_draw(), slice(0, 1))
    told = context(50.0, 0.0, 1)
    expected = draw.distortion if entry is WaeMmd else -draw.elbo
    torch.testing.assert_close(loss_of(entry, draw, told), expected.mean())


@pytest.mark.parametrize("entry", OBJECTIVES)
def test_gradients_are_finite(entry: Any) -> None:
    draw = random_draw()
    value = draw.latents[0].value.requires_grad_()
    (slope,) = torch.autograd.grad(loss_of(entry, draw, context()) - loss_of(entry, draw, context(0.0)), value)
    assert slope.isfinite().all()
    assert (slope.abs() > 0).all()


def settings(**choices: Any) -> Any:
    return configure("mlp", data="digits", hidden="16", latent_dim=3, device="cpu", threads=1, **choices)


@pytest.mark.parametrize("posterior", ["gaussian", "deterministic"])
def test_training_logs_the_discrepancy(posterior: str, tmp_path: Path) -> None:
    given = settings(
        objective="wae-mmd",
        posterior=posterior,
        epochs=2,
        train_limit=120,
        validation=31,
        batch_size=32,
        mmd_weight=20.0,
    )
    run = train(tmp_path / "run", config=given, observer=Silent())
    for record in run.metrics():
        for split in ("train", "val"):
            found = record[split]
            assert found["loss"] == pytest.approx(found["distortion_nats"] + 20.0 * found["mmd"], rel=1e-5)
            assert (found.get("rate_nats") is None) == (posterior == "deterministic")


def test_info_vae_asks_for_a_rate(tmp_path: Path) -> None:
    given = settings(objective="info-vae", posterior="deterministic")
    with pytest.raises(InputError, match=r"--objective info-vae: needs a rate"):
        train(tmp_path / "run", config=given, observer=Silent())


@pytest.mark.slow
def test_its_weight_lowers_the_discrepancy(tmp_path: Path) -> None:
    found = []
    for weight in (0.0, 500.0):
        given = settings(objective="wae-mmd", posterior="deterministic", epochs=6, batch_size=32, mmd_weight=weight)
        found.append(train(tmp_path / f"{weight}", config=given, observer=Silent()).metrics()[-1]["val"]["mmd"])
    free, matched = found
    assert matched < 0.2 * free
