"""Fine-tuning: what is taken from a trained model, what stays frozen, what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaekit
from helpers_run import interrupted_at
from vaekit.data.batches import Data
from vaekit.data.splits import load_splits
from vaekit.errors import InputError, RunError
from vaekit.runs import Run
from vaekit.settings import configure
from vaekit.training.reporting import Silent
from vaekit.training.starting import begin, take_weights
from vaekit.training.train import resume, seeded_model, train

SMALL: dict[str, Any] = {
    "data": "digits",
    "train_limit": 200,
    "channels": "4,8",
    "dense": 16,
    "latent_dim": 3,
    "batch_size": 50,
    "normalization": "batch",
    "threads": 1,
    "device": "cpu",
    "observer": Silent(),
}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("first") / "run", "conv", epochs=1, **SMALL)


def state(run: Run) -> dict[str, torch.Tensor]:
    return vaekit.load(run.path).model.state_dict()


@pytest.mark.parametrize(("frozen", "moves"), [("encoder", "decoder"), ("decoder", "encoder")])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_frozen_part_stays_and_the_other_learns(
    first: Run, tmp_path: Path, frozen: str, moves: str, ema_decay: float | None
) -> None:
    """Statistics of batch normalization included, where they are made anew for averaged weights too."""
    run = train(
        tmp_path / "run", "conv", epochs=1, start_from=str(first.path), freeze=frozen, ema_decay=ema_decay, **SMALL
    )
    before, after = state(first), state(run)
    parts = {"encoder": ("encoder.", "posterior."), "decoder": ("decoder.", "likelihood.")}
    for name, value in after.items():
        if name.startswith(parts[frozen]):
            assert torch.equal(value, before[name]), name
    assert any(not torch.equal(value, before[name]) for name, value in after.items() if name.startswith(parts[moves]))


def test_fine_tuning_goes_on_from_where_the_model_was(first: Run, tmp_path: Path) -> None:
    anew = train(tmp_path / "anew", "conv", epochs=0.25, learning_rate=1e-5, **SMALL)
    tuned = train(tmp_path / "tuned", "conv", epochs=0.25, learning_rate=1e-5, start_from=str(first.path), **SMALL)
    before = first.metrics()[-1]["train"]["loss"]
    assert tuned.metrics()[-1]["train"]["loss"] < before < anew.metrics()[-1]["train"]["loss"]
    assert tuned.config.training.start_from == str(first.path.resolve())


def test_a_stopped_fine_tuning_ends_with_the_same_bits(first: Run, tmp_path: Path) -> None:
    given = {**SMALL, "epochs": 2, "start_from": str(first.model), "freeze": "encoder"}
    whole = train(tmp_path / "whole", "conv", **given)
    with interrupted_at(5), pytest.raises(RunError):
        train(tmp_path / "stopped", "conv", **given)
    stopped = resume(tmp_path / "stopped", observer=Silent())
    assert stopped.model.read_bytes().endswith(whole.model.read_bytes()[-1000:])
    expected, found = state(whole), state(stopped)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_other_labels_have_vectors_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a model with label vectors all is taken but these, where the number of labels differs."""
    labelled = {**SMALL, "conditioning": "embedding", "embedding_dim": 3}
    ten = train(tmp_path / "ten", "conv", epochs=0.25, **labelled)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    np.savez(tmp_path / "three.npz", images=pixels, labels=np.arange(60) % 3)
    given = {**labelled, "data": str(tmp_path / "three.npz"), "train_limit": None, "validation": 0}
    three = train(tmp_path / "three", "conv", epochs=1, start_from=str(ten.path), freeze="encoder", **given)
    said = capsys.readouterr().err
    assert "tensors of decoder, encoder, posterior; new: conditioning.weight; left out: conditioning.weight" in said
    assert torch.equal(state(three)["encoder.dense.weight"], state(ten)["encoder.dense.weight"])
    assert state(three)["conditioning.weight"].shape == (3, 3)


def test_weights_are_copied_in_place_and_said(first: Run) -> None:
    model = seeded_model(first.config, first.info)
    places = {name: value.data_ptr() for name, value in model.state_dict().items()}
    assert "took" in take_weights(model, str(first.path))
    assert {name: value.data_ptr() for name, value in model.state_dict().items()} == places
    assert all(torch.equal(value, state(first)[name]) for name, value in model.state_dict().items())


def test_what_does_not_fit_is_refused_before_anything_is_written(first: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"latent_dim": 4}, r"its posterior.map.weight has shape \(6, 16\) and this model's has \(8, 16\)"),
        ({"conditioning": "onehot"}, r"its encoder.dense.weight has shape \(16, 32\) and this model's has \(16, 42\)"),
        ({"start_from": str(tmp_path / "nowhere")}, "^--start-from .*: there is no model"),
        ({"start_from": None, "freeze": "encoder"}, "the weights would be random ones for ever; add --start-from RUN"),
        ({"freeze": "both"}, "--freeze 'both' is unknown"),
    ]
    for given, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            train(out, "conv", epochs=1, **{**SMALL, "start_from": str(first.path), **given})
    assert not out.exists()


@pytest.mark.parametrize(
    ("preset", "given"),
    [("mlp", {}), ("conv", {"channels": "4,8", "dense": 8}), ("mlp", {"likelihood": "optimal-gaussian"})],
)
def test_a_decoder_may_begin_at_the_mean_image(preset: str, given: dict[str, Any]) -> None:
    splits = load_splits(Data(data="digits"), None)
    shown = {}
    for bias in ("zero", "mean"):
        config = configure(preset, data="digits", latent_dim=3, output_bias=bias, **given)
        model = seeded_model(config, splits.info)
        begin(model, config, splits.train)
        shown[bias] = model.decode(torch.zeros(1, 3)).mean[0, 0].detach()
    mean = splits.train.unit().mean((0, 1))
    if preset == "mlp":  # hidden units without bias are 0 where the code is, so the bias alone is seen
        wanted = mean.clamp(0.001, 0.999) if not given else mean
        torch.testing.assert_close(shown["mean"], wanted, atol=1e-5, rtol=1e-4)
    else:
        torch.testing.assert_close(shown["mean"].mean(), mean.mean(), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(shown["zero"], shown["mean"], atol=0.05)


def test_an_output_that_has_no_mean_in_closed_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--output-bias mean: is not known for likelihood 'discretized-logistic'"):
        train(tmp_path / "run", "mlp", likelihood="discretized-logistic", output_bias="mean", data="digits")
    assert not (tmp_path / "run").exists()
