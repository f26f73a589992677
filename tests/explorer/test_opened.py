"""Runs that are opened while they train, and models elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vaekit
from helpers_run import interrupted_at
from vaekit.errors import InputError, RunError
from vaekit.explorer.opened import Opened
from vaekit.training.reporting import Silent

SMALL = {"data": "digits", "train_limit": 200, "epochs": 3, "hidden": "16", "latent_dim": 2, "batch_size": 50}


def test_a_run_is_followed_while_it_trains(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with interrupted_at(9), pytest.raises(RunError, match="stopped at step 9"):
        vaekit.train(path, "mlp", observer=Silent(), **SMALL)  # type: ignore[arg-type]
    opened = Opened(path)
    assert opened.training["finished"] is False
    assert [record["epoch"] for record in opened.training["records"]] == [1, 2]
    assert not opened.refreshed()
    before = opened.scene
    assert before.description["version"] == 1
    vaekit.resume(path, observer=Silent())
    assert opened.refreshed()
    assert opened.scene.description["version"] == opened.version == 2
    assert opened.scene.description["finished"] is True
    assert len(opened.scene.description["records"]) == 3
    assert not np.array_equal(opened.scene.codes.means, before.codes.means)
    finished, _, _ = vaekit.load_model(path)
    assert all((a == b).all() for a, b in zip(opened.scene.model.parameters(), finished.parameters(), strict=True))


def test_a_run_without_a_first_epoch_says_so(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run = vaekit.train(path, "mlp", observer=Silent(), **SMALL)  # type: ignore[arg-type]
    run.model.unlink()
    run.checkpoint.unlink()
    with pytest.raises(InputError, match="no checkpoint yet; wait until its first epoch has ended"):
        Opened(path)


def test_own_images_take_the_place_of_the_data(runs: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    about = Opened(runs["plain"], images=tmp_path / "own.npy").scene.description
    assert (about["split"], about["count"], about["has_labels"]) == ("own", 40, False)


def test_points_are_limited(runs: dict[str, Path]) -> None:
    assert [Opened(runs["plain"], points=most).scene.description["count"] for most in (60, 1000)] == [60, 161]


def test_a_site_names_no_folder_of_the_machine(tmp_path: Path) -> None:
    from vaekit.export.site import public
    from vaekit.records import to_json

    np.save(tmp_path / "own.npy", np.random.default_rng(0).integers(0, 256, (60, 6, 6), np.uint8))
    given = {**SMALL, "data": str(tmp_path / "own.npy"), "train_limit": None, "batch_size": 20, "epochs": 1}
    run = vaekit.train(tmp_path / "run", "mlp", observer=Silent(), **given)  # type: ignore[arg-type]
    assert str(tmp_path) in to_json(Opened(run.path).scene.description)
    (tmp_path / "own.npy").unlink()
    scene = public(Opened(run.path).scene)  # with a note that the data are missing, were it kept
    assert str(tmp_path) not in to_json(scene.description)
    assert scene.description["data"] == "own.npy"
