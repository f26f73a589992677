"""The penalty on the covariance of the codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_bounds import random_draw
from test_total_correlation import mean_of_two_processes, part
from torch import Tensor

import cases
from vaekit.models.draw import Draw
from vaekit.objectives import bounds
from vaekit.objectives.dip import DipVAE, penalties
from vaekit.objectives.table import MODEL, Context
from vaekit.settings import configure
from vaekit.training.reporting import Silent
from vaekit.training.train import train

KINDS = ["i", "ii"]


def context(lambda_od: float = 10.0, lambda_d: float = 30.0, beta: float = 1.0) -> Context:
    return cases.context(4, beta=beta, lambda_od=lambda_od, lambda_d=lambda_d)


def loss_of(draw: Draw, told: Context, dip: Any = "ii") -> Tensor:
    """The weights come from the context, not from the objective's own fields."""
    losses, _ = DipVAE(dip=dip, beta=55.0, lambda_od=66.0, lambda_d=77.0)(draw, None, told)  # type: ignore[arg-type]
    assert set(losses) == {MODEL}
    return losses[MODEL]


@pytest.mark.parametrize("sample_shape", [(), (5,)])
@pytest.mark.parametrize("dip", KINDS)
def test_values_are_those_of_the_formula(dip: Any, sample_shape: tuple[int, ...]) -> None:
    """The covariance by numpy, the sums by loops over ordered pairs of latents."""
    draw = random_draw(sample_shape)
    q = draw.latents[0].posterior
    covariance = np.cov(q.loc.double().numpy(), rowvar=False)
    if dip == "ii":
        covariance += np.diag((q.scale.double().numpy() ** 2).mean(0))
    off_diagonal = sum(covariance[i, j] ** 2 for i in range(3) for j in range(3) if i != j)
    diagonal = sum((covariance[i, i] - 1) ** 2 for i in range(3))
    losses, terms = DipVAE(dip=dip)(draw, None, context(10.0, 30.0, 2.0))  # type: ignore[arg-type]
    expected = draw.distortion.mean().item() + 2.0 * draw.rate.mean().item() + 10 * off_diagonal + 30 * diagonal
    assert losses[MODEL].item() == pytest.approx(expected, rel=1e-6)
    assert terms["dip_off_diagonal"].item() == pytest.approx(off_diagonal, rel=1e-5)
    assert terms["dip_diagonal"].item() == pytest.approx(diagonal, rel=1e-5)
    assert min(off_diagonal, diagonal) > 0.01


@pytest.mark.parametrize("dip", KINDS)
def test_no_penalty_is_the_elbo(dip: Any) -> None:
    draw = random_draw()
    torch.testing.assert_close(loss_of(draw, context(0.0, 0.0), dip), -bounds.elbo(draw).mean())


def test_codes_with_covariance_one_cost_nothing() -> None:
    codes = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centered = codes - codes.mean(0)
    white = torch.linalg.qr(centered).Q * 49**0.5
    torch.testing.assert_close(torch.stack(penalties(white, None)), torch.zeros(2, dtype=torch.float64))
    half = torch.full_like(white, 0.5**0.5)  # half of the variance within images, half between them
    torch.testing.assert_close(torch.stack(penalties(half * white, half)), torch.zeros(2, dtype=torch.float64))


def test_a_square_of_a_noisy_covariance_is_too_large_by_as_much_as_is_said() -> None:
    """Independent latents: a mean of C_ij^2 of 1 / (M - 1), here with M = 11; z = 4."""
    codes = torch.randn(20000, 11, 2, generator=torch.Generator().manual_seed(0))
    found = torch.func.vmap(lambda each: penalties(each, None)[0])(codes)
    error = found.std().item() / 20000**0.5
    assert found.mean().item() == pytest.approx(2 / 10, abs=4 * error)
    assert error < 0.005


@pytest.mark.parametrize("dip", KINDS)
def test_a_batch_of_one_has_no_penalty(dip: Any) -> None:
    draw = part(random_draw(), slice(0, 1))
    torch.testing.assert_close(loss_of(draw, context(), dip), -bounds.elbo(draw).mean())


@pytest.mark.parametrize("dip", KINDS)
def test_processes_join_their_codes(dip: Any) -> None:
    draw = random_draw()
    whole = loss_of(draw, context(), dip)
    torch.testing.assert_close(mean_of_two_processes(DipVAE(dip=dip), draw, context()), whole)
    apart = torch.stack([loss_of(part(draw, rows), context(), dip) for rows in (slice(0, 2), slice(2, 4))])
    assert abs(apart.mean() - whole) > 0.01


@pytest.mark.parametrize(("dip", "moved"), [("i", False), ("ii", True)])
def test_gradients_reach_what_is_penalized(dip: Any, moved: bool) -> None:
    draw = random_draw()
    q = draw.latents[0].posterior
    q.loc.requires_grad_()
    q.log_scale.requires_grad_()
    penalty = loss_of(draw, context(), dip) - loss_of(draw, context(0.0, 0.0), dip)
    loc, log_scale = torch.autograd.grad(penalty, (q.loc, q.log_scale))
    assert loc.isfinite().all()
    assert (loc.abs() > 0).all()
    assert log_scale.isfinite().all()
    assert (log_scale.abs() > 1e-3).all() == moved


def settings(**choices: Any) -> Any:
    return configure(
        "mlp", data="digits", objective="dip-vae", hidden="16", latent_dim=3, device="cpu", threads=1, **choices
    )


def test_training_logs_the_penalties(tmp_path: Path) -> None:
    given = settings(epochs=2, train_limit=120, validation=31, batch_size=32, lambda_od=2.0, lambda_d=3.0, beta=0.5)
    run = train(tmp_path / "run", config=given, observer=Silent())
    for record in run.metrics():
        for split in ("train", "val"):
            found = record[split]
            expected = found["distortion_nats"] + 0.5 * found["rate_nats"]
            expected += 2.0 * found["dip_off_diagonal"] + 3.0 * found["dip_diagonal"]
            assert found["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dip", KINDS)
def test_the_weights_lower_what_they_weigh(dip: Any, tmp_path: Path) -> None:
    found = []
    for weight in (0.0, 20.0):
        given = settings(epochs=6, batch_size=32, dip=dip, lambda_od=weight, lambda_d=weight)
        found.append(train(tmp_path / f"{weight}", config=given, observer=Silent()).metrics()[-1]["val"])
    free, held = found
    assert held["dip_diagonal"] < 0.5 * free["dip_diagonal"]
    assert held["dip_off_diagonal"] < 0.1
