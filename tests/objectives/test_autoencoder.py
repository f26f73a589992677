"""Distortion alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_bounds import random_draw

import cases
import vaekit
from helpers_run import interrupted_at, timeless
from vaekit.errors import InputError, RunError
from vaekit.objectives import bounds
from vaekit.objectives.autoencoder import Autoencoder
from vaekit.objectives.table import MODEL
from vaekit.settings import configure
from vaekit.training.reporting import Silent

SMALL = {
    "data": "digits", "validation": 51, "train_limit": 250, "batch_size": 32, "hidden": "16", "latent_dim": 3,
    "epochs": 2, "device": "cpu", "threads": 1,
}  # fmt: skip


@pytest.mark.parametrize("stochastic", [True, False])
def test_the_loss_is_the_distortion(stochastic: bool) -> None:
    draw = random_draw(stochastic=stochastic)
    losses, terms = Autoencoder()(draw, None, cases.context())  # type: ignore[arg-type]
    assert set(losses) == {MODEL}
    assert not terms
    torch.testing.assert_close(losses[MODEL], bounds.distortion(draw).mean())


def test_an_autoencoder_trains_resumes_and_has_no_bound(tmp_path: Path) -> None:
    given = configure("mlp", objective="autoencoder", posterior="deterministic", **SMALL)
    whole = vaekit.train(tmp_path / "whole", config=given, observer=Silent())
    with interrupted_at(9), pytest.raises(RunError, match="stopped at step 9"):
        vaekit.train(tmp_path / "part", config=given, observer=Silent())
    part = vaekit.resume(tmp_path / "part", observer=Silent())
    assert part.model.read_bytes() == whole.model.read_bytes()
    assert timeless(part.metrics()) == timeless(whole.metrics())
    first, last = whole.metrics()
    assert last["train"]["distortion_nats"] < first["train"]["distortion_nats"]
    assert last["val"]["loss"] == pytest.approx(last["val"]["distortion_nats"], rel=1e-6)
    assert last["val"]["elbo_nats"] is None
    found = vaekit.evaluate(whole.path)
    assert found["elbo_nats"] is found["nll_nats"] is found["rate_nats"] is None
    assert found["distortion_nats"] > 0
    model, _, _ = vaekit.load_model(whole.path)
    assert vaekit.sample(model, 4).shape == (4, 1, 8, 8)


def test_with_a_density_the_last_weights_are_kept_and_not_those_of_the_best_bound(tmp_path: Path) -> None:
    """The rate grows without end, so the bound is best while little was learned."""
    given = configure("mlp", objective="autoencoder", learning_rate=0.02, **{**SMALL, "epochs": 8})
    run = vaekit.train(tmp_path / "run", config=given, observer=Silent())
    records = [record["val"] for record in run.metrics()]
    assert records[-1]["elbo_nats"] < max(record["elbo_nats"] for record in records) - 1.0
    found = vaekit.evaluate(run.path, split="val", num_importance_samples=1)
    assert found["distortion_nats"] == pytest.approx(records[-1]["distortion_nats"], rel=0.02)


def test_the_bound_is_refused_for_a_deterministic_code(tmp_path: Path) -> None:
    given = configure("mlp", posterior="deterministic", **SMALL)
    with pytest.raises(InputError, match=r"^--objective elbo: needs a rate"):
        vaekit.train(tmp_path / "run", config=given, observer=Silent())
    assert not (tmp_path / "run").exists()
