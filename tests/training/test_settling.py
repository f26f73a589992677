"""Statistics of the weights that are kept: sigma and normalization are those of training images under these very weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vaekit
from helpers_run import interrupted_at, timeless
from vaekit.data.splits import load_splits
from vaekit.errors import RunError
from vaekit.models.table import Model
from vaekit.networks.normalization import BatchNorm
from vaekit.noise import Noise, seed_key
from vaekit.runs import Run
from vaekit.settings import Config, configure
from vaekit.storage import load_model, read_tensors
from vaekit.training import validation
from vaekit.training.reporting import Silent
from vaekit.training.settling import Settling

RESIDUAL = {"network": "residual", "widths": "4,8", "dense": 16, "normalization": "batch"}
MLP = {"network": "mlp", "hidden": "16"}


def config(**more: Any) -> Config:
    given = {
        "data": "digits",
        "validation": 51,
        "train_limit": 250,
        "batch_size": 50,
        "latent_dim": 3,
        "epochs": 3,
        "device": "cpu",
        "threads": 1,
        "likelihood": "optimal-gaussian",
    }
    return configure("conv", **{**given, **more})


def fit(path: Path, given: Config) -> Run:
    return vaekit.train(path, config=given, observer=Silent())


def test_large_images_are_gone_over_a_few_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, draw = [], Settling._draw
    monkeypatch.setattr(Settling, "_draw", lambda self, part: sizes.append(len(part)) or draw(self, part))
    sigmas = []
    for numbers in (10**9, 7 * 64):
        sizes.clear()
        monkeypatch.setattr(validation, "_NUMBERS", numbers)
        model, _, _ = load_model(fit(tmp_path / str(numbers), config(**MLP, epochs=1, select_best=False)).path)
        assert max(sizes) == min(250, numbers // 64)
        sigmas.append(model.likelihood.log_sigma.item())
    assert sigmas[0] == pytest.approx(sigmas[1], rel=1e-6)


def drawn(model: Model, given: Config, rows: Tensor) -> Any:
    images = load_splits(given.data, None).train
    noise = Noise(torch.tensor(seed_key(given.training.seed, "settle")), rows)
    with torch.no_grad():
        return model.draw(given.data.batch(images, rows, noise), (), noise)


CASES = {
    "last": {**MLP, "select_best": False},
    "best": MLP,
    "average": {**MLP, "ema_decay": 0.9, "select_best": False},
    "best average, normalized": {**RESIDUAL, "ema_decay": 0.9},
    "no validation, normalized": {**RESIDUAL, "validation": 0},
    "restoring": {**MLP, "corruption": "gaussian-noise", "conditioning": "onehot", "label_dropout": 0.4},
}


@pytest.mark.parametrize("name", CASES)
def test_sigma_is_the_error_of_the_kept_weights_on_training_images(name: str, tmp_path: Path) -> None:
    given = config(**CASES[name])
    model, _, _ = load_model(fit(tmp_path / "run", given).path)
    draw = drawn(model, given, torch.arange(250))
    expected = (draw.target - draw.likelihood.loc).double().square().mean().item()
    assert model.likelihood.log_sigma.mul(2).exp().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("likelihood", ["bernoulli", "optimal-gaussian"])
def test_normalization_has_the_statistics_of_averaged_weights(likelihood: str, tmp_path: Path) -> None:
    """The mean over batches of what each batch has, as these weights make it."""
    given = config(**RESIDUAL, likelihood=likelihood, ema_decay=0.9, select_best=False)
    run = fit(tmp_path / "run", given)
    model, _, _ = load_model(run.path)
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in norms]

    def look(place: int) -> Any:
        def hook(module: BatchNorm, inputs: tuple[Tensor]) -> None:
            values = inputs[0].double()
            seen[place].append((values.mean((0, 2, 3)), values.transpose(0, 1).flatten(1).var(1)))

        return hook

    for place, norm in enumerate(norms):
        norm.register_forward_pre_hook(look(place))
    kept = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    model.train()
    generator = torch.Generator().manual_seed(seed_key(given.training.seed, "settle") & ((1 << 63) - 1))
    for rows in torch.randperm(250, generator=generator).split(50):
        drawn(model, given, rows)
    for (mean, variance), batches in zip(kept, seen, strict=True):
        torch.testing.assert_close(mean.double(), torch.stack([m for m, _ in batches]).mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            variance.double(), torch.stack([v for _, v in batches]).mean(0), rtol=1e-4, atol=1e-5
        )
    last = read_tensors(run.checkpoint, "checkpoint")[0]
    assert any(
        not torch.equal(last[f"player/model/{name}"], value)
        for name, value in model.state_dict().items()
        if name.endswith("running_mean")
    )


@pytest.mark.parametrize("network", [MLP, {**RESIDUAL, "ema_decay": 0.9}])
def test_training_is_not_touched(network: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, moments, averages and statistics that training goes on with are those of a run that never settles."""
    run = fit(tmp_path / "run", config(**network))
    monkeypatch.setattr(Settling, "renew", lambda self: None)
    plain = fit(tmp_path / "plain", config(**network))
    ours, theirs = (read_tensors(one.checkpoint, "checkpoint")[0] for one in (run, plain))
    for name, value in theirs.items():
        assert name.startswith("best/") or torch.equal(ours[name], value), name
    assert [record["train"] for record in run.metrics()] == [record["train"] for record in plain.metrics()]
    assert run.metrics()[-1]["val"] != plain.metrics()[-1]["val"]


def test_the_file_gives_the_number_that_chose_it(tmp_path: Path) -> None:
    from vaekit.training.processes import Processes
    from vaekit.training.step import TrainingStep, numeric_fields
    from vaekit.training.validation import validate

    given = config(**RESIDUAL, ema_decay=0.8, epochs=4)
    run = fit(tmp_path / "run", given)
    model, _, _ = load_model(run.path)
    splits = load_splits(given.data, None)
    step = TrainingStep(model, given.objective, {}, given.data, len(splits.train))
    alone = Processes(torch.device("cpu"))
    found = validate(step, splits.val, given.training.seed, 0, numeric_fields(given.objective), alone)
    assert found["elbo_nats"] == max(record["val"]["elbo_nats"] for record in run.metrics())


def test_observers_see_the_model_that_would_be_kept_ready_to_evaluate(tmp_path: Path) -> None:
    """And what they draw with it, or with its normalization, leaves the training as it is."""
    shown: list[dict[str, Tensor]] = []

    class Watcher(Silent):
        def epoch(self, record: dict[str, Any], total_epochs: float, model: Model) -> None:
            assert not any(module.training for module in model.modules())
            shown.append({name: value.clone() for name, value in model.state_dict().items()})
            drawn(model, given, torch.arange(20))

    given = config(**RESIDUAL, ema_decay=0.9, select_best=False)
    run = vaekit.train(tmp_path / "run", config=given, observer=Watcher())
    for name, value in read_tensors(run.model, "model")[0].items():
        assert torch.equal(shown[-1][name], value), name
    quiet = fit(tmp_path / "quiet", given)
    assert quiet.model.read_bytes() == run.model.read_bytes()


def attributes(path: Path) -> str:
    """A file of images with two attributes, some of them unknown."""
    import numpy as np

    rng = np.random.default_rng(0)
    described = rng.normal(size=(300, 2)).astype(np.float32) * [1.0, 50.0] + [0.0, 300.0]
    described[rng.random((300, 2)) < 0.2] = np.nan
    np.savez(path, images=rng.integers(0, 256, (300, 8, 8), dtype=np.uint8), attributes=described)
    return str(path)


ALL = {**RESIDUAL, "ema_decay": 0.9, "objective": "free-bits", "free_bits": 0.3, "label_dropout": 0.3}


@pytest.mark.parametrize("step", [7, 10])
@pytest.mark.parametrize("best", [True, False])
def test_everything_at_once_resumes_to_the_same_bits(step: int, best: bool, tmp_path: Path) -> None:
    given = config(
        **ALL,
        data=attributes(tmp_path / "own.npz"),
        conditioning="attributes",
        train_limit=None,
        binarization="dequantize",
        corruption="speckle",
        select_best=best,
    )
    whole = fit(tmp_path / "whole", given)
    with interrupted_at(step), pytest.raises(RunError, match=f"stopped at step {step};"):
        fit(tmp_path / "part", given)
    part = vaekit.resume(tmp_path / "part", observer=Silent())
    assert part.model.read_bytes() == whole.model.read_bytes()
    assert timeless(part.metrics()) == timeless(whole.metrics())
    vaekit.resume(part.path, observer=Silent())  # finished: settled again, to the same bits
    assert part.model.read_bytes() == whole.model.read_bytes()
