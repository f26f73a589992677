"""What a run with a prior of its own must be able to do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import vaekit
from helpers_run import interrupted_at
from vaekit.errors import RunError
from vaekit.generation import prior_spread, sample
from vaekit.storage import load_model
from vaekit.training.reporting import Silent
from vaekit.training.train import resume, train


def flow_of_a_run(folder: Any, **given: Any) -> dict[str, Any]:
    """Train, stop midway and resume to the same weights, save and load, evaluate and sample; returns the evaluation."""
    config = vaekit.configure(
        "mlp", data="digits", hidden="16", latent_dim=3, epochs=2, device="cpu", threads=1, train_limit=250,
        validation=51, batch_size=32, **given,
    )  # fmt: skip
    whole = train(Path(folder) / "whole", config=config, observer=Silent())
    stopped = Path(folder) / "stopped"
    with interrupted_at(9), pytest.raises(RunError):
        train(stopped, config=config, observer=Silent())
    resume(stopped, observer=Silent())
    assert whole.model.read_bytes() == (stopped / "model.safetensors").read_bytes()
    model, _, _ = load_model(whole.path)
    fresh = config.model.build(whole.info).state_dict()
    prior = {name: value for name, value in model.state_dict().items() if name.startswith("prior.")}
    for name, value in prior.items():
        assert torch.isfinite(value).all(), name
        assert not torch.equal(value, fresh[name]), f"{name} was not trained"
    record = vaekit.evaluate(whole.path, num_importance_samples=20, limit=40)
    assert math.isfinite(record["elbo_nats"])
    assert -record["nll_nats"] > record["elbo_nats"]
    images = sample(model, 7, seed=1)
    assert images.shape == (7, 1, 8, 8)
    torch.testing.assert_close(sample(model, 4, seed=1), images[:4])
    label = torch.tensor(1) if model.conditional else None
    assert all(torch.isfinite(part).all() for part in prior_spread(model, label))
    return record
