"""Runs made sick on purpose: each illness is found, by its name and with its remedy; a healthy run has none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaekit
from commands import good
from helpers_run import interrupted_at
from vaekit.data.splits import load_splits
from vaekit.doctor.evidence import Codes, measure
from vaekit.doctor.examine import examine
from vaekit.doctor.findings import Examination, Finding, span
from vaekit.doctor.latents import unused_latents
from vaekit.errors import RunError
from vaekit.runs import Run
from vaekit.storage import load_model
from vaekit.training.reporting import Silent

HEALTHY: dict[str, Any] = {"data": "digits", "latent_dim": 8, "epochs": 20, "device": "cpu", "threads": 1}


def trained(folder: Path, preset: str = "mlp", **settings: Any) -> Run:
    return vaekit.train(folder / "run", preset, observer=Silent(), **{**HEALTHY, **settings})


def seen(found: Examination) -> dict[str, str]:
    """Illnesses and warnings by name."""
    return {finding.name: finding.severity for finding in found.findings if finding.severity != "remark"}


def remedies(found: Examination, name: str) -> str:
    return next(finding.remedy for finding in found.findings if finding.name == name)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"activation": "tanh", "hidden": (100, 50)},
        {"beta_schedule": "linear", "epochs": 30},
        {"likelihood": "optimal-gaussian"},
    ],
)
def test_a_healthy_run_has_neither_illness_nor_warning(tmp_path: Path, settings: dict[str, Any]):
    found = examine(trained(tmp_path, **settings))
    assert seen(found) == {}, found.findings
    assert found.healthy
    assert "dead units" in found.checked


@pytest.mark.parametrize(
    ("settings", "name", "severity", "remedy"),
    [
        ({"beta": 30}, "posterior-collapse", "illness", "--beta 1 in place of 30"),
        ({"beta": 1 / 128}, "prior-mismatch", "warning", "--beta 1 in place of 0.00781"),
        ({"likelihood": "gaussian", "learn_sigma": False, "sigma": 0.02}, "prior-mismatch", "illness", "--learn-sigma"),
        ({"likelihood": "gaussian", "learn_sigma": False, "sigma": 0.02}, "sigma-misfit", "illness", "--sigma 0.1"),
        ({"likelihood": "gaussian", "learn_sigma": False, "sigma": 1.0}, "sigma-misfit", "warning", "--sigma 0.27"),
        (
            {"likelihood": "gaussian", "learn_sigma": False, "sigma": 1.0},
            "posterior-collapse",
            "illness",
            "--learn-sigma",
        ),
        (
            {"likelihood": "gaussian", "binarization": "threshold"},
            "likelihood-misfit",
            "illness",
            "--likelihood bernoulli",
        ),
        ({"learning_rate": 0.3}, "dead-units", "illness", "--learning-rate 0.004 in place of 0.3"),
        ({"learning_rate": 1e-5}, "learning-rate-low", "warning", "--learning-rate 4e-05"),
        ({"learning_rate": 1e-4, "decay": "none"}, "learning-rate-low", "warning", "--learning-rate 0.0004"),
        ({"epochs": 2}, "few-steps", "warning", "--epochs"),
        (
            {"train_limit": 100, "batch_size": 32, "epochs": 80, "decay": "none"},
            "over-fitting",
            "warning",
            "more images",
        ),
    ],
)
def test_an_illness_made_on_purpose_is_found(
    tmp_path: Path, settings: dict[str, Any], name: str, severity: str, remedy: str
):
    found = examine(trained(tmp_path, **settings))
    assert seen(found).get(name) == severity, found.findings
    assert remedy in remedies(found, name)


def arrays(folder: Path, images: np.ndarray) -> str:
    np.save(folder / "images.npy", images)
    return str(folder / "images.npy")


def test_bernoulli_on_colour_photographs(tmp_path: Path):
    random = np.random.default_rng(0)
    smooth = 0.5 + 0.25 * np.sin(random.uniform(0, 6, (600, 8, 8, 3)).cumsum(1) / 4)
    path = arrays(tmp_path, (255 * smooth).astype(np.uint8))
    assert "likelihood-misfit" in seen(examine(trained(tmp_path, data=path, epochs=5)))
    assert "likelihood-misfit" not in seen(examine(trained(tmp_path / "b", data=path, epochs=5, likelihood="gaussian")))


def test_a_variance_that_collapses(tmp_path: Path):
    """Images that a decoder can draw exactly: two grey levels that say all."""
    levels = np.random.default_rng(0).integers(0, 2, (800, 1, 1)) * 60 + 100
    path = arrays(tmp_path, np.broadcast_to(levels, (800, 6, 6)).astype(np.uint8))
    run = trained(tmp_path, data=path, likelihood="gaussian", sigma=0.003, latent_dim=2, epochs=60)
    assert seen(examine(run)).get("variance-floor") == "illness"


def test_spare_latents_are_only_remarked(tmp_path: Path):
    found = examine(trained(tmp_path, latent_dim=20))
    assert seen(found) == {}
    (spare,) = [finding for finding in found.findings if finding.name == "spare-latents"]
    assert 1 < len(spare.numbers["spare"]) < 15
    numbers = [latent + 1 for latent in spare.numbers["spare"]]  # as figures count them
    assert spare.concerns == f"spare latents {span(numbers)}"
    rates = spare.numbers["rates_nats"]
    assert sorted(spare.numbers["spare"]) == [i for i, rate in enumerate(rates) if rate < 0.02]


def test_of_several_levels_the_idle_ones_are_remarked(tmp_path: Path):
    """A map of 784 latents of a hundredth of a nat each is in use; one of 8 nats beside two of nearly none is alone."""
    run = vaekit.train(
        tmp_path / "run", "hierarchical", data="digits", widths="4,6", latent_dim=3, dense=8, latent_channels="1,2",
        train_limit=250, validation=51, batch_size=32, epochs=1, device="cpu", threads=1, observer=Silent(),
    )  # fmt: skip
    model, config, info = load_model(run.model)
    found = measure(model, config, info, load_splits(config.data, None))
    assert len(found.codes.by_level) == 3
    assert sum(found.codes.by_level) == pytest.approx(found.codes.rate, rel=1e-6)

    def said(*levels: tuple[int, float]) -> list[Finding]:
        rates = torch.cat([torch.full((size,), rate / size) for size, rate in levels])
        codes = Codes(500, rates.sum().item(), rates, torch.ones(len(rates)), tuple(size for size, _ in levels))
        return list(unused_latents(replace(found, codes=codes), []))

    assert said((16, 5.0), (784, 7.84)) == []
    (idle,) = said((16, 8.0), (196, 0.01), (784, 0.4))
    assert (idle.severity, idle.headline) == ("remark", "1 of 3 levels of latents is in use.")
    assert idle.concerns == "levels 2-3"
    assert "8.0 + 0.0 + 0.4 nats" in idle.evidence
    (idle,) = said((16, 8.0), (196, 3.0), (784, 0.1))
    assert (idle.headline, idle.concerns) == ("2 of 3 levels of latents are in use.", "level 3")


def test_restoring_that_loses(tmp_path: Path):
    run = trained(tmp_path, corruption="blur", blur_factor=1.2, latent_dim=2, epochs=3)
    assert "restoration" in seen(examine(run))


def test_a_run_that_became_infinite_is_told_from_one_that_was_stopped(tmp_path: Path):
    with pytest.raises(RunError, match="infinite or NaN"):
        trained(tmp_path, learning_rate=10.0, warmup=0.0, adam_epsilon=1.0, hidden=(400, 400), epochs=200, decay="none")
    run = Run(tmp_path / "run")
    found = examine(run)
    assert seen(found).get("learning-rate-high") == "illness"
    assert "infinite or NaN" in found.findings[0].evidence
    with pytest.raises(RunError), interrupted_at(40):
        trained(tmp_path / "other")
    stopped = Run(tmp_path / "other" / "run")
    assert seen(examine(stopped)) == {}  # and read from its checkpoint, though it is young
    before = sorted(path.name for path in stopped.path.iterdir())
    examine(stopped)
    assert sorted(path.name for path in stopped.path.iterdir()) == before
    assert seen(examine(vaekit.resume(stopped.path, observer=Silent()))) == {}


def test_the_command_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    answer = good(
        capsys, "train", "--preset", "mlp", "--data", "digits", "--latent-dim", 4, "--beta", 30, "--epochs", 6,
        "--threads", 1, "--no-report", "--out", tmp_path / "run",
    )  # fmt: skip
    lines = [line for line in answer.err.splitlines() if line.startswith("doctor: illness: ")]
    assert len(lines) == 2  # when it was first seen, and at the end
    assert all("--beta 1 in place of 30" in line for line in lines)
    text = good(capsys, "doctor", tmp_path / "run").out
    assert "illness: The latents carry almost nothing" in text
    record = good(capsys, "doctor", tmp_path / "run", "--json").record
    assert record["healthy"] is False
    assert record["findings"][0]["name"] == "posterior-collapse"
    assert record["findings"][0]["numbers"]["rate_nats"] < 0.5
    json.dumps(record)


@pytest.mark.parametrize("preset", ["cvae-onehot", "denoising"])
def test_every_kind_of_run_can_be_examined(runs: dict[str, Run], preset: str):
    assert "dead units" in examine(runs[preset]).checked


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, {}), ({"beta": 1 / 128}, {"prior-mismatch": "illness"}), ({"learning_rate": 0.1}, {"dead-units": "illness"})],
)
def test_on_mnist(tmp_path: Path, data_folder: Path, settings: dict[str, Any], expected: dict[str, str]):
    run = vaekit.train(
        tmp_path / "run", "mlp", data="mnist", train_limit=20000, epochs=4, threads=1, data_dir=data_folder,
        device="cpu", observer=Silent(), **settings,
    )  # fmt: skip
    assert seen(examine(run, data_folder)) == expected
