"""Models that come along: loaded by name, offline, with the numbers that the index states."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import pytest

import vaekit
import vaekit.shipped
from vaekit.errors import InputError
from vaekit.shipped import find, shipped

NAMES = sorted(shipped())
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_every_recipe_was_made_and_nothing_else_lies_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    recipes = importlib.import_module("shipped").RECIPES
    folder = Path(vaekit.shipped.__file__).parent
    assert NAMES == sorted(recipes) == sorted(file.stem for file in folder.glob("*.safetensors"))
    for name, each in shipped().items():
        assert each.recipe == recipes[name].command()
        assert each.licence


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_in_one_line_and_decodes(name: str) -> None:
    trained = vaekit.load(name)
    labels = None if trained.model.num_classes is None else np.arange(10)
    images = trained.pack(np.zeros((10, *trained.info.seen_shape[1:]), np.uint8), labels)
    codes = trained.codes(images)
    assert np.isfinite(codes.numpy()).all()
    assert vaekit.sample(trained.model, 10).std() > 0.1
    assert find(name).stat().st_size < 1_000_000  # type: ignore[union-attr]


AT_HAND = [name for name in NAMES if name.startswith("digits") or ("mnist" in name and os.environ.get("VAEKIT_DATA"))]


@pytest.mark.parametrize("name", [*AT_HAND, pytest.param("dsprites-beta", marks=pytest.mark.slow)])  # it draws 3 GB
def test_its_numbers_are_those_stated(name: str) -> None:
    stated = shipped()[name].numbers
    found = vaekit.evaluate(name, num_importance_samples=2, limit=100)
    # of 100 images in place of all: within four standard errors of their mean
    assert abs(found["elbo_nats"] - stated["elbo_nats"]) < 4 * found["standard_error_nats"] + 1.0


def test_a_file_that_is_another_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(Path(vaekit.shipped.__file__).with_name("index.json").read_text())
    (tmp_path / f"{NAMES[0]}.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(vaekit.shipped, "files", lambda name: tmp_path)
    with pytest.raises(InputError, match="is not the one released; install vaekit again"):
        find(NAMES[0])
    with pytest.raises(InputError, match="is missing; install vaekit again"):
        find(NAMES[1])


def test_a_name_that_is_none_is_told_from_a_path() -> None:
    assert find("runs/mine") is None
    with pytest.raises(InputError, match="there is no model"):
        vaekit.load("runs/mine")
    with pytest.raises(InputError, match="model 'mnist-cnv' is unknown; did you mean 'mnist-conv'"):
        vaekit.load("mnist-cnv")


@pytest.mark.parametrize("part", ["none", "encoder"])
def test_a_training_starts_from_one(tmp_path: Path, part: str) -> None:
    from vaekit.training.reporting import Silent

    given = {"data": "digits", "network": "mlp", "hidden": "64", "epochs": 1, "learning_rate": 1e-3, "train_limit": 300}
    scores = {}
    for start in ("digits-cvae-onehot", None):
        freeze = {} if start is None else {"start_from": start, "freeze": part}
        run = vaekit.train(tmp_path / str(start), "cvae-onehot", observer=Silent(), validation=100, **given, **freeze)  # type: ignore[arg-type]
        scores[start] = run.metrics()[-1]["val"]["elbo_nats"]
    assert scores["digits-cvae-onehot"] > scores[None] + 5.0
    encoders = [
        vaekit.load(path).model.encoder.state_dict() for path in (tmp_path / "digits-cvae-onehot", "digits-cvae-onehot")
    ]
    equal = all(bool((a == b).all()) for a, b in zip(*(each.values() for each in encoders), strict=True))
    assert equal == (part == "encoder")
