"""The bound on held-out images: every image once, the same noise each time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import cases
from vaekit.data.batches import Data
from vaekit.data.binarization import Dynamic
from vaekit.models.vae import VAEConfig
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise, seed_key
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.iwae import Iwae
from vaekit.training import validation
from vaekit.training.processes import Processes
from vaekit.training.step import TrainingStep, numeric_fields
from vaekit.training.validation import validate, with_bound

SHAPE = (1, 8, 8)
IMAGES = cases.random_images(SHAPE, 23)


def make(objective: Any = None, data: Data | None = None) -> TrainingStep:
    torch.manual_seed(0)
    model = VAEConfig(latent_dim=3, network=MLP(hidden=(9,))).build(cases.info(SHAPE))
    return TrainingStep(model, objective or Elbo(), {}, data or Data(), 100)


def run(step: TrainingStep, seed: int = 0, at: int = 7, processes: Any = None) -> dict[str, float]:
    group = processes or Processes(torch.device("cpu"))
    return validate(step, IMAGES, seed, at, numeric_fields(step.objective), group)


def test_means_are_over_images_and_the_bound_is_minus_their_sum() -> None:
    step = make()
    noise = Noise(torch.tensor(seed_key(0, "validation")), torch.arange(23))
    with torch.no_grad():
        draw = step.model.draw(Data().batch(IMAGES, noise.index, noise), (), noise)
    found = run(step)
    assert found["distortion_nats"] == pytest.approx(draw.distortion.mean().item(), rel=1e-6)
    assert found["rate_nats"] == pytest.approx(draw.rate.mean().item(), rel=1e-6)
    assert found["elbo_nats"] == -(found["distortion_nats"] + found["rate_nats"])


@pytest.mark.parametrize("objective", [Elbo(beta=3.0), Iwae(num_samples=4)], ids=["elbo", "iwae"])
@pytest.mark.parametrize("size", [1, 5, 8, 22, 23])
def test_the_batch_size_does_not_change_the_means(objective: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last, smaller batch counts by its size."""
    step = make(objective, Data(binarization=Dynamic()))
    whole = run(step)
    monkeypatch.setattr(validation, "_BATCH", size)
    assert run(step) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(("numbers", "most"), [(5 * 64 + 1, 5), (1, 1), (10**9, 23)])
def test_of_large_images_fewer_are_gone_over_at_once(numbers: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a training of images of 256x256 pixels in batches of 8 would run out of memory at its first epoch's end."""
    step, sizes = make(), []
    whole = run(step)
    draw = step.draw
    monkeypatch.setattr(
        step, "draw", lambda images, index, *more: sizes.append(len(index)) or draw(images, index, *more)
    )
    monkeypatch.setattr(validation, "_NUMBERS", numbers)
    assert run(step) == pytest.approx(whole, rel=1e-6)
    assert max(sizes) == most
    assert sum(sizes) == 23


def test_the_noise_is_the_same_each_time_and_follows_the_seed() -> None:
    step = make()
    first = run(step)
    torch.manual_seed(99)
    assert run(step, at=1234) == first
    assert run(step, seed=1)["distortion_nats"] != first["distortion_nats"]


def test_the_bound_does_not_know_the_objective() -> None:
    """Models of any beta are compared by the same number; only the loss has weights in it."""
    plain = run(make())
    weighted = run(make(Elbo(beta=50.0)))
    assert weighted["elbo_nats"] == pytest.approx(plain["elbo_nats"])
    assert weighted["loss"] > plain["loss"]
    assert run(make(Iwae(num_samples=1)))["elbo_nats"] == pytest.approx(plain["elbo_nats"])


def test_nothing_is_left_changed() -> None:
    step = make()
    step.low_precision = True
    before = {name: value.clone() for name, value in step.state_dict().items()}
    state = torch.get_rng_state()
    step.train()
    low, step.low_precision = run(step), False
    assert run(step) == low  # held-out numbers are always those of float32
    assert step.training
    assert all(p.grad is None for p in step.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in step.state_dict().items():
        assert torch.equal(value, before[name])


def test_precision_comes_back() -> None:
    step = make()
    step.low_precision = True
    run(step)
    assert step.low_precision is True


class OneOfMany:
    """A process whose sums are kept, to be added by hand."""

    def __init__(self, rank: int, count: int):
        self.rank, self.count, self.kept = rank, count, torch.zeros(())

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        self.kept = values.clone()
        return values


@pytest.mark.parametrize("count", [2, 3, 23])
def test_processes_share_the_images_and_their_sums_are_the_whole(count: int) -> None:
    step = make()
    whole = run(step)
    group = [OneOfMany(rank, count) for rank in range(count)]
    for process in group:
        run(step, processes=process)
    total = torch.stack([process.kept for process in group]).sum(0) / 23
    expected = [whole[name] for name in ("loss", "distortion_nats", "rate_nats")]
    assert sorted(total.tolist()) == pytest.approx(sorted(expected), rel=1e-6)


def test_without_a_rate_there_is_no_bound() -> None:
    assert with_bound({"distortion_nats": 3.0}) == {"distortion_nats": 3.0}
    assert with_bound({"distortion_nats": 3.0, "rate_nats": 1.0})["elbo_nats"] == -4.0
