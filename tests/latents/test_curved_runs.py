"""Whole runs whose latents lie on a sphere or in hyperbolic space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import vaekit
from helpers_run import interrupted_at
from vaekit.errors import RunError
from vaekit.settings import Config
from vaekit.training.reporting import Silent


def config(posterior: str, **more: Any) -> Config:
    return vaekit.configure(
        "mlp", data="digits", train_limit=250, validation=51, batch_size=32, hidden="16", latent_dim=3, epochs=2,
        device="cpu", threads=1, posterior=posterior, **more,
    )  # fmt: skip


each = pytest.mark.parametrize("posterior", ["von-mises-fisher", "wrapped-normal"])


@each
def test_a_resumed_run_ends_with_the_same_bits_and_its_bounds_are_in_order(posterior: str, tmp_path: Path) -> None:
    whole = vaekit.train(tmp_path / "whole", config=config(posterior), observer=Silent())
    with interrupted_at(11), pytest.raises(RunError):
        vaekit.train(tmp_path / "part", config=config(posterior), observer=Silent())
    vaekit.resume(tmp_path / "part", observer=Silent())
    models = [vaekit.load_model(path)[0] for path in (whole.path, tmp_path / "part")]
    for one, other in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(one, other)
    found = vaekit.evaluate(whole.path, num_importance_samples=50, limit=100)
    assert found["nll_nats"] < -found["elbo_nats"]
    assert found["elbo_nats"] == pytest.approx(-found["distortion_nats"] - found["rate_nats"])


@each
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_training_lowers_the_loss_of_a_conditional_model(posterior: str, objective: str, tmp_path: Path) -> None:
    given = config(posterior, conditioning="onehot", objective=objective)
    run = vaekit.train(tmp_path / "run", config=given, observer=Silent())
    first, last = run.metrics()
    assert last["val"]["elbo_nats"] > first["val"]["elbo_nats"]
    model = vaekit.load_model(run.path)[0]
    images = vaekit.sample(model, 10, labels=torch.arange(10))
    assert images.shape == (10, 1, 8, 8)
    assert torch.isfinite(images).all()
