"""Whole runs of a hierarchical model, and what every verb makes of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaekit
from commands import good, refused
from helpers_run import interrupted_at
from vaekit.errors import RunError
from vaekit.figures.levels import level_rates, level_samples
from vaekit.figures.style import style
from vaekit.figures.subject import Subject
from vaekit.records import by_level
from vaekit.runs import Run
from vaekit.settings import Config
from vaekit.training.reporting import Silent

Capture = pytest.CaptureFixture[str]


def config(**more: Any) -> Config:
    return vaekit.configure(
        "hierarchical", data="digits", train_limit=250, validation=51, batch_size=32, widths="4,6", latent_dim=3, dense=8,
        latent_channels="1,2", epochs=2, device="cpu", threads=1, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return vaekit.train(tmp_path_factory.mktemp("deep") / "run", config=config(), observer=Silent())


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    given = config(conditioning="onehot", label_dropout=0.2)
    return vaekit.train(tmp_path_factory.mktemp("told") / "run", config=given, observer=Silent())


def test_a_resumed_run_ends_with_the_same_bits(run: Run, tmp_path: Path) -> None:
    with interrupted_at(11), pytest.raises(RunError):
        vaekit.train(tmp_path / "part", config=config(), observer=Silent())
    vaekit.resume(tmp_path / "part", observer=Silent())
    models = [vaekit.load_model(path)[0] for path in (run.path, tmp_path / "part")]
    for one, other in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(one, other)


def test_rates_of_levels_add_up_to_the_rate(run: Run) -> None:
    for record in run.metrics():
        for part in (record["train"], record["val"]):
            assert len(by_level(part)) == 3
            assert sum(by_level(part)) == pytest.approx(part["rate_nats"], rel=1e-5)
    found = vaekit.evaluate(run.path, num_importance_samples=20, limit=60)
    assert sum(found["rate_by_level_nats"]) == pytest.approx(found["rate_nats"])
    assert found["elbo_nats"] == pytest.approx(-found["distortion_nats"] - found["rate_nats"])
    assert found["nll_nats"] < -found["elbo_nats"]
    assert found["latent_dim"] == 3 + 2 * 2 * 2 + 4 * 4
    chunks = vaekit.evaluate(run.path, num_importance_samples=20, limit=60, decodes_at_once=7)
    assert chunks["nll_nats"] == pytest.approx(found["nll_nats"], rel=1e-5)


def test_training_lowers_the_bound_of_a_conditional_model(labelled: Run) -> None:
    first, last = labelled.metrics()
    assert last["val"]["elbo_nats"] > first["val"]["elbo_nats"]


@pytest.mark.parametrize("objective", ["iwae", "miwae", "renyi", "free-bits"])
def test_objectives_of_many_samples_train_it(objective: str, tmp_path: Path) -> None:
    given = config(objective=objective, **({"free_group": "level"} if objective == "free-bits" else {}))
    run = vaekit.train(tmp_path / "run", config=given, observer=Silent())
    assert run.metrics()[-1]["train"]["loss"] < run.metrics()[0]["train"]["loss"]


def test_verbs_that_work(run: Run, labelled: Run, capsys: Capture, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)

    def array(*words: object) -> np.ndarray:
        good(capsys, *words, "--out", "images.npy")
        return np.load("images.npy")

    images = array("sample", run.path, "--count", 5, "--temperature", "1,0.5,0")
    expected = vaekit.sample(vaekit.load_model(run.path)[0], 5, temperature=[1, 0.5, 0]).movedim(-3, -1)
    np.testing.assert_allclose(images.reshape(5, 8, 8, 1), expected, atol=1e-6)
    cold = array("sample", run.path, "--count", 3, "--temperature", 0)
    np.testing.assert_array_equal(cold[0], cold[2])
    plain, strong = (array("sample", labelled.path, "--label", 3, "--guidance", by) for by in (1, 3))
    assert not np.array_equal(plain, strong)
    array("reconstruct", run.path, "--count", 4)
    array("interpolate", run.path, "--count", 2, "--steps", 3)
    assert good(capsys, "doctor", run.path, "--json").record
    good(capsys, "embed", run.path, "digits", "--out", "codes.npy")
    assert np.load("codes.npy").shape[1] == 3 + 8 + 16
    good(capsys, "augment", labelled.path, "digits", "--how", "prior", "--out", "more", "--count", 4)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("sample", "RUN", "--out", "x.png", "--temperature", "1,0.5"), "2 temperatures for a model of 3 levels"),
        (("traverse", "RUN", "--out", "x.png"), "vector"),
        (("fit-sampler", "RUN"), "no single vectors"),
        (("impute", "RUN", "digits", "--mask", "0,0,4,4", "--out", "x"), "no posterior of one vector"),
        (("augment", "RUN", "digits", "--how", "near", "--out", "x"), "no vectors to mix; choose prior"),
        (("sample", "RUN", "--out", "x.png", "--truncation", "2"), "prior is no N(0, I)"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_verbs_that_refuse(
    words: tuple[str, ...], sentence: str, run: Run, capsys: Capture, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(capsys, *(run.path if word == "RUN" else word for word in words))
    assert not list(tmp_path.iterdir())


def test_figures_tell_of_levels(run: Run, labelled: Run) -> None:
    with style():
        for made in (run, labelled):
            subject = Subject.of(made)
            rates, drawn = level_rates(subject), level_samples(subject)
            assert rates is not None
            assert drawn is not None
            assert subject.codes.sizes == (3, 8, 16)
            assert f"{subject.codes.rates.sum():.2f} nats" in rates.caption
    plain = vaekit.train(
        run.path.parent / "plain", "mlp", data="digits", train_limit=60, batch_size=20, epochs=1, observer=Silent()
    )
    with style():
        assert level_rates(Subject.of(plain)) is None
        assert level_samples(Subject.of(plain)) is None
    assert json.loads((run.path / "config.json").read_text())["config"]["model"]["name"] == "hierarchical"
