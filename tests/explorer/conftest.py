"""Small trained models that the explorer opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import vaekit
from vaekit.explorer.opened import Opened
from vaekit.explorer.server import create_app
from vaekit.training.reporting import Silent

SMALL = {"data": "digits", "train_limit": 300, "epochs": 2, "hidden": "32", "batch_size": 50, "learning_rate": 0.01}


@pytest.fixture(scope="package")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs by what they show: a plain model of five latents, one of two with learned class vectors, one that can be guided,
    one of codes, one of several levels."""
    folder = tmp_path_factory.mktemp("explorer")
    kinds = {
        "plain": {"latent_dim": 5},
        "classes": {"latent_dim": 2, "conditioning": "embedding", "embedding_dim": 3},
        "guided": {"latent_dim": 2, "conditioning": "onehot", "label_dropout": 0.3},
    }
    found = {
        name: vaekit.train(folder / name, "mlp", observer=Silent(), **SMALL, **given).path  # type: ignore[arg-type]
        for name, given in kinds.items()
    }
    common: dict[str, Any] = {name: value for name, value in SMALL.items() if name != "hidden"}
    codes = {"channels": "8,8", "num_codes": 12, "code_dim": 4, "conditioning": "onehot", "label_dropout": 0.1}
    levels = {"latent_dim": 3, "widths": "6,8", "levels": "1,1", "latent_channels": "1,2", "dense": 9}
    found["codes"] = vaekit.train(folder / "codes", "vq", observer=Silent(), **common, **codes).path
    found["levels"] = vaekit.train(folder / "levels", "hierarchical", observer=Silent(), **common, **levels).path
    return found


@pytest.fixture(scope="package")
def opened(runs: dict[str, Path]) -> dict[str, Opened]:
    return {name: Opened(path) for name, path in runs.items()}


@pytest.fixture
def client(opened: dict[str, Opened]) -> Iterator[TestClient]:
    """Asks for the model with classes, as a browser on this machine does."""
    with TestClient(create_app(opened["classes"]), "http://127.0.0.1:8420") as found:
        yield found
