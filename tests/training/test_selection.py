"""The bound by which weights are selected, and the batches that it is measured in."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaekit.objectives.bounds import importance_weighted
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.iwae import Iwae
from vaekit.settings import Training, configure
from vaekit.training.checkpoints import Progress
from vaekit.training.reporting import Silent
from vaekit.training.step import TrainingStep
from vaekit.training.train import train
from vaekit.training.trainer import Trainer

SMALL = {
    "data": "digits", "train_limit": 250, "validation": 101, "batch_size": 50, "hidden": "16", "latent_dim": 3,
    "device": "cpu", "threads": 1,
}  # fmt: skip


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int, Any]]:
    """Whether training, number of images, and result of every step."""
    seen: list[tuple[bool, int, Any]] = []
    forward = TrainingStep.forward

    def look(self: TrainingStep, images: Any, index: Tensor, *rest: Any) -> Any:
        result = forward(self, images, index, *rest)
        seen.append((self.training, len(index), result))
        return result

    monkeypatch.setattr(TrainingStep, "forward", look)
    return seen


@pytest.mark.parametrize(("objective", "bound"), [("elbo", "elbo_nats"), ("iwae", "iw_elbo_nats")])
def test_each_objective_is_selected_by_its_own_bound(objective: str, bound: str, tmp_path: Path, steps: Any) -> None:
    config = configure("mlp", objective=objective, num_samples=4, epochs=3, **SMALL)
    run = train(tmp_path / "run", config=config, observer=Silent())
    for record in run.metrics():
        for part in ("train", "val"):
            assert record[part]["iw_elbo_nats"] > record[part]["elbo_nats"]
    trained = [result for training, _, result in steps if training]
    for result in trained:
        expected = importance_weighted(result.draw.log_w).mean().item()
        assert result.logged["iw_elbo_nats"].item() == pytest.approx(expected)
        assert math.isfinite(expected)


def test_it_is_the_importance_weighted_one_that_iwae_keeps_weights_by() -> None:
    found = [{"elbo_nats": -80.0, "iw_elbo_nats": -79.0}, {"elbo_nats": -85.0, "iw_elbo_nats": -70.0}]
    for objective, best in ((Elbo(num_samples=5), 1), (Iwae(), 2)):
        trainer: Any = SimpleNamespace(
            progress=Progress(), settings=Training(), model=nn.Linear(1, 1), best=None, objective=objective
        )
        for epoch, val in enumerate(found, 1):
            trainer.progress.epoch = epoch
            Trainer._select(trainer, val)
        assert trainer.progress.best_epoch == best


def test_many_samples_are_validated_in_smaller_batches(tmp_path: Path, steps: Any) -> None:
    config = configure("mlp", objective="iwae", num_samples=25, epochs=1, **SMALL)
    train(tmp_path / "run", config=config, observer=Silent())
    sizes = [count for training, count, _ in steps if not training]
    assert sum(sizes) == 101
    assert max(sizes) * 25 <= 525
    assert torch.tensor(sizes).max() - torch.tensor(sizes).min() <= 1
