"""Small trained models that the explorer opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import vaekit
from vaekit.explorer.opened import Opened
from vaekit.explorer.server import create_app
from vaekit.training.reporting import Silent

SMALL = {"data": "digits", "train_limit": 300, "epochs": 2, "hidden": "32", "batch_size": 50, "learning_rate": 0.01}


@pytest.fixture(scope="package")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs by what they show: a plain model of five latents, one of two with learned class vectors."""
    folder = tmp_path_factory.mktemp("explorer")
    kinds = {
        "plain": {"latent_dim": 5},
        "classes": {"latent_dim": 2, "conditioning": "embedding", "embedding_dim": 3},
    }
    return {
        name: vaekit.train(folder / name, "mlp", observer=Silent(), **SMALL, **given).path  # type: ignore[arg-type]
        for name, given in kinds.items()
    }


@pytest.fixture(scope="package")
def opened(runs: dict[str, Path]) -> dict[str, Opened]:
    return {name: Opened(path) for name, path in runs.items()}


@pytest.fixture
def client(opened: dict[str, Opened]) -> Iterator[TestClient]:
    """Asks for the model with classes, as a browser on this machine does."""
    with TestClient(create_app(opened["classes"]), "http://127.0.0.1:8420") as found:
        yield found
