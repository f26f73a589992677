"""The moving average of the weights: its values, where it is used, and that it survives a stop bit by bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import vaekit
from helpers_run import interrupted_at, timeless
from vaekit.errors import InputError, RunError
from vaekit.models.table import Model
from vaekit.runs import Run
from vaekit.settings import Config, configure
from vaekit.storage import load_model, read_tensors
from vaekit.training.averaging import Average
from vaekit.training.optimization import Optimizers
from vaekit.training.reporting import Silent
from vaekit.training.trainer import Trainer


def module() -> nn.Module:
    """Channels_last weights, a parameter without axes, buffers of both kinds, and a weight with two names."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4), nn.Linear(4, 4))
    made[3].weight = made[2].weight
    made.register_parameter("log_sigma", nn.Parameter(torch.tensor(0.5)))
    return made.to(memory_format=torch.channels_last)


def move(weights: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in weights.parameters():
            weight += torch.randn(weight.shape, generator=generator)
        weights[1].running_mean += seed + 1.0
        weights[1].num_batches_tracked += 1


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
def test_values_are_those_of_the_recurrence(decay: float) -> None:
    model = module()
    average = Average(model, decay)
    expected = {name: weight.detach().double().numpy().copy() for name, weight in model.named_parameters()}
    for t in range(30):
        move(model, t)
        average.update(torch.tensor(t))
        now = min(decay, (1 + t) / (10 + t))
        for name, weight in model.named_parameters():
            expected[name] = now * expected[name] + (1 - now) * weight.detach().double().numpy()
    for name, value in expected.items():
        np.testing.assert_allclose(average.tensors[name].numpy(), value, rtol=2e-5, atol=1e-5, err_msg=name)


def test_weights_that_stand_still_are_their_own_average() -> None:
    model = module()
    average = Average(model, 0.99)
    for t in range(5):
        average.update(torch.tensor(t))
    for name, weight in model.named_parameters():
        assert torch.equal(average.tensors[name], weight)


def test_the_state_has_averaged_weights_and_present_buffers() -> None:
    model = module()
    average = Average(model, 0.9)
    move(model, 0)
    average.update(torch.tensor(0))
    state = average.state()
    assert state.keys() == model.state_dict().keys()
    assert torch.equal(state["1.running_mean"], model[1].running_mean)
    assert state["1.num_batches_tracked"].item() == 1
    assert state["3.weight"] is state["2.weight"]  # one weight under two names
    for name in ("0.weight", "1.weight", "2.weight", "log_sigma"):
        assert torch.equal(state[name], average.tensors[name])
        assert not torch.equal(state[name], model.state_dict()[name])
        assert not state[name].requires_grad
    twin = module()
    twin.load_state_dict(state)


def test_the_average_keeps_strides_and_changes_in_place() -> None:
    model = module()
    average = Average(model, 0.9)
    places = {name: tensor.data_ptr() for name, tensor in average.tensors.items()}
    move(model, 0)
    average.update(torch.tensor(0))
    for name, weight in model.named_parameters():
        assert average.tensors[name].stride() == weight.stride()
        assert average.tensors[name].data_ptr() == places[name]


def test_an_update_waits_for_nothing() -> None:
    with FakeTensorMode():
        Average(nn.Linear(3, 4), 0.9).update(torch.empty((), dtype=torch.int64))


def test_applied_exchanges_weights_in_place_and_gives_them_back() -> None:
    model = module()
    average = Average(model, 0.9)
    move(model, 0)
    average.update(torch.tensor(0))
    before = copy.deepcopy(model.state_dict())
    averaged = {name: value.clone() for name, value in average.state().items()}
    places = [weight.data_ptr() for weight in model.parameters()]
    with average.applied():
        assert [weight.data_ptr() for weight in model.parameters()] == places  # a captured graph knows no others
        for name, value in model.state_dict().items():
            assert torch.equal(value, averaged[name]), name
    with pytest.raises(KeyError), average.applied():
        raise KeyError  # given back after a failure too
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in average.state().items():
        assert torch.equal(value, averaged[name]), name


# In a run


def config(network: str = "conv", **more: Any) -> Config:
    small = {"channels": "4,8", "dense": 16} if network == "conv" else {"hidden": "16"}
    given = {
        "data": "digits",
        "validation": 51,
        "train_limit": 250,
        "batch_size": 32,
        "latent_dim": 3,
        "epochs": 4,
        "device": "cpu",
        "threads": 1,
        "ema_decay": 0.8,
    }
    return configure(network, **{**given, **small, **more})


def fit(path: Path, given: Config) -> Run:
    return vaekit.train(path, config=given, observer=Silent())


def by_hand(given: Config, path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The average after each step of a run that does not average, in double precision."""
    kept: dict[str, Any] = {}
    found: list[dict[str, Tensor]] = []
    step, init = Optimizers.step, Trainer.__init__

    def started(self: Trainer, *arguments: Any) -> None:
        init(self, *arguments)
        kept.update({name: weight.detach().double() for name, weight in self.model.named_parameters()})
        kept["model"] = self.model

    def stepped(self: Optimizers) -> None:
        step(self)
        decay = min(0.8, (1 + len(found)) / (10 + len(found)))
        for name, weight in kept["model"].named_parameters():
            kept[name] = decay * kept[name] + (1 - decay) * weight.detach().double()
        found.append({name: value for name, value in kept.items() if name != "model"})

    with monkeypatch.context() as patched:
        patched.setattr(Optimizers, "step", stepped)
        patched.setattr(Trainer, "__init__", started)
        fit(path, given)
    return found


def test_the_final_model_is_the_average_and_training_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = config(ema_decay=None, select_best=False)
    expected = by_hand(plain, tmp_path / "plain", monkeypatch)[-1]
    run = fit(tmp_path / "run", config(select_best=False))
    weights = read_tensors(run.model, "model")[0]
    last = read_tensors(Run(tmp_path / "plain").model, "model")[0]
    for name, value in expected.items():
        torch.testing.assert_close(weights[name].double(), value, rtol=1e-5, atol=1e-6)
        assert not torch.equal(weights[name], last[name]), name
    inside, _ = read_tensors(run.checkpoint, "checkpoint")
    for name, value in last.items():
        assert torch.equal(inside[f"player/model/{name}"], value), name
    losses = [[record["train"] for record in part.metrics()] for part in (run, Run(tmp_path / "plain"))]
    assert losses[0] == losses[1]


def test_validation_and_the_best_weights_are_those_of_the_average(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", config("mlp"))
    records = run.metrics()
    elbos = [record["val"]["elbo_nats"] for record in records]
    plain = [record["val"]["elbo_nats"] for record in fit(tmp_path / "plain", config("mlp", ema_decay=None)).metrics()]
    assert all(ours != theirs for ours, theirs in zip(elbos, plain, strict=True))
    _, about = read_tensors(run.checkpoint, "checkpoint")
    best = about["progress"]["best_epoch"]
    assert best == elbos.index(max(elbos)) + 1
    # the file's model, validated as training does it, gives the number that chose it
    from vaekit.data.splits import load_splits
    from vaekit.training.processes import Processes
    from vaekit.training.step import TrainingStep, numeric_fields
    from vaekit.training.validation import validate

    model, given, _ = load_model(run.path)
    splits = load_splits(given.data, None)
    step = TrainingStep(model, given.objective, {}, given.data, len(splits.train))
    found = validate(
        step, splits.val, given.training.seed, 0, numeric_fields(given.objective), Processes(torch.device("cpu"))
    )
    assert found["elbo_nats"] == max(elbos)


def test_observers_are_shown_the_averaged_model(tmp_path: Path) -> None:
    shown = []

    class Watcher(Silent):
        def epoch(self, record: dict[str, Any], total_epochs: float, model: Model) -> None:
            shown.append({name: value.clone() for name, value in model.state_dict().items()})

    given = config("mlp", select_best=False)
    run = vaekit.train(tmp_path / "run", config=given, observer=Watcher())
    for name, value in read_tensors(run.model, "model")[0].items():
        assert torch.equal(shown[-1][name], value), name


@pytest.mark.parametrize(
    ("network", "step", "more"),
    [
        ("mlp", 19, {}),
        ("conv", 7, {}),
        ("conv", 20, {"precision": "bfloat16"}),
        ("mlp", 23, {"select_best": False, "objective": "free-bits", "free_bits": 0.5}),
        ("mlp", 9, {"validation": 0, "objective": "capacity", "capacity_epochs": 3}),
    ],
)
def test_a_stopped_run_resumes_to_the_same_bits(network: str, step: int, more: dict[str, Any], tmp_path: Path) -> None:
    given = config(network, **more)
    whole = fit(tmp_path / "whole", given)
    with interrupted_at(step), pytest.raises(RunError, match=f"stopped at step {step};"):
        fit(tmp_path / "part", given)
    part = vaekit.resume(tmp_path / "part", observer=Silent())
    assert part.model.read_bytes() == whole.model.read_bytes()
    assert timeless(part.metrics()) == timeless(whole.metrics())
    ours, theirs = (read_tensors(run.checkpoint, "checkpoint")[0] for run in (part, whole))
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("average/") for name in ours)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def test_a_checkpoint_without_the_average_is_refused(tmp_path: Path) -> None:
    with interrupted_at(8), pytest.raises(RunError):
        fit(tmp_path / "run", config("mlp", ema_decay=None))
    file = tmp_path / "run" / "config.json"
    file.write_text(file.read_text().replace('"ema_decay": null', '"ema_decay": 0.9'))
    with pytest.raises(InputError, match=r"the checkpoint does not fit the run's config.json"):
        vaekit.resume(tmp_path / "run", observer=Silent())
