"""The checkpoint file: everything that training continues from, with the strides it is trained with."""

from __future__ import annotations

import copy
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vaekit.errors import InputError
from vaekit.noise import seeded
from vaekit.settings import Training
from vaekit.storage import read_tensors
from vaekit.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from vaekit.training.optimization import Optimizers

CPU = torch.device("cpu")


def players(seed: int = 0) -> dict[str, nn.Module]:
    """A convolutional model, channels_last, with a scalar parameter and a buffer, and a second player."""
    with seeded(seed, "test"):
        model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 2, 3), nn.BatchNorm2d(2))
        model.register_parameter("log_sigma", nn.Parameter(torch.tensor(0.5)))
        other = nn.Linear(3, 2)
    return {"model": model.to(memory_format=torch.channels_last), "other": other}


def take_steps(modules: dict[str, nn.Module], optimizers: Optimizers, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        images = torch.randn(5, 2, 8, 8, generator=generator).contiguous(memory_format=torch.channels_last)
        losses = {
            "model": (modules["model"](images) * modules["model"].log_sigma - images).square().sum(),
            "other": modules["other"](images[:, 0, 0, :3]).square().sum(),
        }
        optimizers.backward(losses)
        optimizers.step()


def trained(count: int = 3) -> tuple[dict[str, nn.Module], Optimizers]:
    modules = players()
    optimizers = Optimizers(modules, Training(), CPU)
    optimizers.set_learning_rate(0.01)
    take_steps(modules, optimizers, count, seed=1)
    return modules, optimizers


def fresh(path: Path) -> tuple[dict[str, nn.Module], Optimizers, Progress, dict[str, Tensor] | None]:
    """Modules of another seed, with what is in the file."""
    modules = players(seed=9)
    optimizers = Optimizers(modules, Training(), CPU)
    optimizers.set_learning_rate(0.01)
    progress, best = load_checkpoint(path, modules, optimizers, CPU)
    return modules, optimizers, progress, best


def moments(optimizers: Optimizers) -> list[tuple[nn.Parameter, dict[str, Tensor]]]:
    return [(p, adam.state[p]) for adam in optimizers.adams.values() for g in adam.param_groups for p in g["params"]]


def test_the_next_steps_have_the_same_bits(tmp_path: Path) -> None:
    modules, optimizers = trained()
    save_checkpoint(tmp_path / "checkpoint", Progress(step=3), modules, optimizers, None)
    others, again, _, best = fresh(tmp_path / "checkpoint")
    assert best is None
    take_steps(modules, optimizers, 4, seed=2)
    take_steps(others, again, 4, seed=2)
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(others[name].state_dict()[key], value), key


def test_moments_keep_the_strides_of_their_weights(tmp_path: Path) -> None:
    """The file holds them contiguous; loaded so, fused Adam would pair them with the wrong weights."""
    modules, optimizers = trained()
    path = tmp_path / "checkpoint"
    save_checkpoint(path, Progress(step=3), modules, optimizers, None)
    stored, _ = read_tensors(path, "checkpoint")
    others, again, _, _ = fresh(path)
    weight = others["model"][0].weight
    assert weight.stride() != torch.empty(weight.shape).stride()  # channels_last indeed
    assert stored["optimizer/model/1/exp_avg"].shape == weight.shape
    assert stored["optimizer/model/1/exp_avg"].is_contiguous()
    pairs = list(zip(moments(optimizers), moments(again), strict=True))
    assert len(pairs) == 9
    for (parameter, before), (restored, after) in pairs:
        assert restored.stride() == parameter.stride()
        assert before.keys() == after.keys() == {"step", "exp_avg", "exp_avg_sq"}
        for key, value in before.items():
            assert torch.equal(after[key], value)
            assert after[key].dtype == value.dtype
            assert after[key].stride() == value.stride()


def test_contiguous_moments_would_change_the_next_step(tmp_path: Path) -> None:
    """The trap is real: this is what the test above guards against."""
    modules, optimizers = trained()
    twin = copy.deepcopy(modules)
    wrong = Optimizers(twin, Training(), CPU)
    wrong.set_learning_rate(0.01)
    for (_, state), (parameter, _) in zip(moments(optimizers), moments(wrong), strict=True):
        adam = next(a for a in wrong.adams.values() for g in a.param_groups if any(parameter is p for p in g["params"]))
        adam.state[parameter] = {key: value.contiguous().clone() for key, value in state.items()}
    take_steps(modules, optimizers, 1, seed=2)
    take_steps(twin, wrong, 1, seed=2)
    assert not torch.allclose(twin["model"][0].weight, modules["model"][0].weight, atol=1e-3)


def test_progress_comes_back_whole(tmp_path: Path) -> None:
    modules, optimizers = trained()
    progress = Progress(
        step=17,
        epoch=2,
        seconds=1.2345678901234567,
        best_elbo=-0.1 - 0.2,
        best_epoch=1,
        finished=True,
        summed=3,
        sums={
            "loss": torch.tensor(1 / 3, dtype=torch.float64),
            "a_term": torch.tensor(2.0**60 + 1, dtype=torch.float64),
        },
        records=[
            {"epoch": 1, "train": {"loss": 0.1}, "val": None},
            {"epoch": 2, "train": {"loss": 1e-300}, "val": {}},
        ],
    )
    best = {key: value + 1 for key, value in modules["model"].state_dict().items()}
    save_checkpoint(tmp_path / "checkpoint", progress, modules, optimizers, best)
    _, _, found, weights = fresh(tmp_path / "checkpoint")
    for item in fields(Progress):
        if item.name != "sums":
            assert getattr(found, item.name) == getattr(progress, item.name), item.name
    assert {name: value.item() for name, value in found.sums.items()} == {
        name: value.item() for name, value in progress.sums.items()
    }
    assert all(value.dtype == torch.float64 for value in found.sums.values())
    assert weights.keys() == best.keys()
    assert all(torch.equal(weights[key], best[key]) for key in best)


def test_a_checkpoint_before_the_first_step(tmp_path: Path) -> None:
    modules = players()
    optimizers = Optimizers(modules, Training(), CPU)
    save_checkpoint(tmp_path / "checkpoint", Progress(), modules, optimizers, None)
    others, again, progress, best = fresh(tmp_path / "checkpoint")
    assert (progress, best) == (Progress(), None)
    assert not any(state for _, state in moments(again))
    assert torch.equal(others["model"][0].weight, modules["model"][0].weight)


def test_a_checkpoint_of_other_modules_is_refused(tmp_path: Path) -> None:
    modules, optimizers = trained()
    save_checkpoint(tmp_path / "checkpoint", Progress(), modules, optimizers, None)
    modules = players()
    modules["model"][0] = nn.Conv2d(2, 5, 3)
    with pytest.raises(InputError, match=r"the checkpoint does not fit the run's config.json"):
        load_checkpoint(tmp_path / "checkpoint", modules, Optimizers(modules, Training(), CPU), CPU)
