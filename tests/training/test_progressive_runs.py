"""Progressive training: its schedule, what a step trains, exact resume, and an ordinary model in the end."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import cases
import vaekit
from helpers_run import interrupted_at, timeless
from vaekit.corruptions.table import DownUp
from vaekit.data.batches import Data
from vaekit.data.binarization import Dequantize
from vaekit.data.images import Images
from vaekit.data.splits import load_splits
from vaekit.doctor.examine import examine
from vaekit.errors import InputError, RunError
from vaekit.figures.basics import best_epoch
from vaekit.models.vae import VAEConfig
from vaekit.networks.conv import Conv
from vaekit.networks.progressive import pooled
from vaekit.noise import Noise
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.table import INFERENCE, MODEL
from vaekit.records import growing
from vaekit.runs import Run
from vaekit.settings import Config, Training, configure
from vaekit.storage import load_model, load_unfinished, read_tensors
from vaekit.training import growing as growing_module
from vaekit.training.growing import Growth, Phase, alpha_at, phases
from vaekit.training.optimization import Optimizers
from vaekit.training.reporting import Silent
from vaekit.training.step import TrainingStep
from vaekit.training.trainer import Trainer

COMMON = {
    "data": "digits", "validation": 51, "train_limit": 250, "batch_size": 32, "latent_dim": 3, "epochs": 4,
    "channels": "4,8", "dense": 16, "progressive": 3, "device": "cpu", "threads": 1, "precision": "float32",
}  # fmt: skip
# 31 steps, epochs end at 7, 15, 23, 31; stages begin at 0, 8 and 16, whose fading ends at 12 and 23
STAGES = [
    Phase(0, False, 0, 8),
    Phase(1, True, 8, 4),
    Phase(1, False, 12, 4),
    Phase(2, True, 16, 7),
    Phase(2, False, 23, 8),
]


def config(**more: Any) -> Config:
    return configure("conv", **{**COMMON, **more})


def train(path: Path, **more: Any) -> Run:
    return vaekit.train(path, config=config(**more), observer=Silent())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that never stopped, with settings; made once."""
    folder = tmp_path_factory.mktemp("whole")

    @cache
    def run(**more: Any) -> Run:
        return train(folder / "-".join(map(str, ["run", *more.values()])), **more)

    return run


# The schedule


def test_steps_are_shared_among_stages() -> None:
    assert phases(config().training, 31) == STAGES
    quick = Training(progressive=2, fade=0.0, last_stage=0.75)
    assert phases(quick, 8) == [Phase(0, False, 0, 2), Phase(1, False, 2, 6)]
    slow = Training(progressive=2, fade=0.9, last_stage=0.1)
    assert phases(slow, 10) == [Phase(0, False, 0, 9), Phase(1, False, 9, 1)]  # the last step is always a whole one
    assert phases(Training(), 5) == [Phase(0, False, 0, 5)]


@pytest.mark.parametrize("total", range(4, 40))
def test_phases_follow_each_other(total: int) -> None:
    found = phases(Training(progressive=4, fade=0.7, last_stage=0.4), total)
    assert [phase.first for phase in found] == [0, *(phase.first + phase.steps for phase in found)][:-1]
    assert sum(phase.steps for phase in found) == total
    assert found[-1].stage == 3
    assert found[-1].steps > 0
    assert not found[-1].fading


def test_a_level_fades_in_by_equal_amounts() -> None:
    assert [alpha_at(STAGES[1], step) for step in range(8, 12)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [alpha_at(phase, phase.first) for phase in STAGES if not phase.fading] == [1.0, 1.0, 1.0]


# A step

SHAPE = (1, 9, 8)


def grown(data: Data | None = None) -> tuple[Any, Growth, Config]:
    """A model, its growth and its configuration: 100 steps in 3 stages, from 0, 25 and 50, fading until 37 and 75."""
    torch.manual_seed(0)
    given = Config(
        data=data or Data(),
        model=VAEConfig(latent_dim=3, network=Conv(channels=(4, 6), dense=8)),
        training=Training(progressive=3, gradient_clip=1.0),
    )
    info = cases.info(SHAPE)
    model = given.model.build(info)
    return model, Growth(model, given, info, 100, torch.device("cpu")), given


@pytest.mark.parametrize("at", [0, 25, 40, 60, 80])
def test_nothing_in_a_step_of_any_stage_waits_for_the_device(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        growing_module, "on_device", lambda module, device: module
    )  # what has no values cannot be moved
    with FakeTensorMode():
        model, growth, given = grown()
        assert growth.begin(at)
        assert not growth.begin(at + 1)
        step = TrainingStep(model, Elbo(), {}, growth, 100, weighed=growth.weighed)
        trained = nn.ModuleList([model, growth.pyramid])
        optimizers = Optimizers({MODEL: trained}, given.training, torch.device("cpu"))
        images = Images(torch.empty(12, *SHAPE[1:], 1, dtype=torch.uint8), torch.empty(12, dtype=torch.int64))
        index = torch.empty(6, dtype=torch.int64)
        key, now = torch.empty((), dtype=torch.int64), torch.empty((), dtype=torch.int64)
        for _ in range(2):
            with growth.applied():
                result = step(images, index, key, now, {"beta": torch.empty(())})
            optimizers.backward(result.losses)
            optimizers.step()
            model.after_step(result.draw, lambda tensor: tensor)
        assert tuple(result.draw.target.shape[1:]) == (1, *growth.sizes[growth.level])


def run_step(step: TrainingStep, growth: Growth, at: int) -> Any:
    growth.begin(at)
    with growth.applied():
        return step(
            cases.random_images(SHAPE, 12),
            torch.arange(6),
            torch.tensor(1),
            torch.tensor(at),
            {"beta": torch.tensor(1.0)},
        )


def test_the_loss_weighs_pixels_as_the_full_size_has_them_and_the_log_is_honest() -> None:
    model, growth, _ = grown()
    step = TrainingStep(model, Elbo(), {}, growth, 100, weighed=growth.weighed)
    for at, pixels in ((0, 3 * 2), (40, 5 * 4), (80, 9 * 8)):
        result = run_step(step, growth, at)
        logged = result.logged
        expected = logged["distortion_nats"] * (9 * 8 / pixels) + logged["rate_nats"]
        torch.testing.assert_close(logged["loss"], expected)
        torch.testing.assert_close(logged["distortion_nats"], -result.draw.log_p_x.detach().mean())
    plain = TrainingStep(model, Elbo(), {}, Data(), 100)
    assert torch.equal(run_step(plain, growth, 80).losses[MODEL], result.losses[MODEL])  # grown: nothing is left of it


def test_images_are_halved_after_what_is_done_to_them() -> None:
    images, noise = cases.random_images(SHAPE, 12), Noise(torch.tensor(1), torch.arange(6))
    for data in (Data(), Data(corruption=DownUp()), Data(binarization=Dequantize())):
        _, growth, _ = grown(data=data)
        growth.begin(40)
        plain, found = (each.batch(images, torch.arange(6), noise) for each in (data, growth))
        halved = pooled(plain.target, 1)
        if isinstance(data.binarization, Dequantize):
            torch.testing.assert_close(found.target, halved)
        else:
            levels = found.target * 255
            torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
            assert (found.target - halved).abs().max() < 0.501 / 255
        if data.restores:
            torch.testing.assert_close(found.input, pooled(plain.input, 1))
        else:
            assert found.input is found.target
        growth.begin(80)
        assert torch.equal(growth.batch(images, torch.arange(6), noise).target, plain.target)


def test_of_a_masked_target_pixels_are_observed_of_which_all_parts_are() -> None:
    observed = (torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0)) < 0.8).float()

    class Masked(Data):
        def batch(self, images: Any, index: Tensor, noise: Noise) -> Any:
            return super().batch(images, index, noise)._replace(mask=observed)

    _, growth, _ = grown(data=Masked())
    growth.begin(40)
    found = growth.batch(cases.random_images(SHAPE, 12), torch.arange(6), Noise(torch.tensor(1), torch.arange(6)))
    padded = nn.functional.pad(observed, (0, 0, 0, 1), value=1.0)  # of 9 rows the last has no other half
    assert torch.equal(found.mask, padded.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2).amin(-1))
    assert 0 < found.mask.sum() < found.mask.numel()


def test_moments_begin_when_their_level_does(tmp_path: Path) -> None:
    path = tmp_path / "run"
    counts: dict[int, dict[str, float]] = {}
    for stop in (8, 14, 20):
        with interrupted_at(stop - max(counts, default=0)), pytest.raises(RunError):
            vaekit.resume(path, observer=Silent()) if counts else train(path)
        tensors, about = read_tensors(path / "checkpoint", "checkpoint")
        assert about["progress"]["step"] == stop
        model = config().model.build(Run(path).info)
        names = [name for name, _ in model.named_parameters()]
        taken = {int(name.split("/")[2]): value.item() for name, value in tensors.items() if name.endswith("/step")}
        counts[stop] = {name: taken.get(number, 0.0) for number, name in enumerate(names)}
    for stop, steps in ((8, (8, 0, 0)), (14, (14, 6, 0)), (20, (20, 12, 4))):
        inner, middle, outer = steps
        assert counts[stop]["encoder.dense.weight"] == inner
        assert counts[stop]["encoder.convolutions.1.weight"] == counts[stop]["decoder.convolutions.0.weight"] == middle
        assert counts[stop]["encoder.convolutions.0.weight"] == counts[stop]["decoder.convolutions.1.weight"] == outer
        assert counts[stop]["decoder.convolutions.2.weight"] == outer


# Runs


def test_records_say_what_grew_and_nothing_is_selected_before_it_has(whole: Any) -> None:
    run = whole()
    records = run.metrics()
    assert [(r["step"], r["stage"], r["resolution"]) for r in records] == [
        (7, 1, [2, 2]), (15, 2, [4, 4]), (23, 3, [8, 8]), (31, 3, [8, 8]),
    ]  # fmt: skip
    assert [r["alpha"] for r in records] == [1.0, 1.0, 7 / 8, 1.0]
    assert (
        [growing(r) for r in records] == [r.get("schedule_runs", False) for r in records] == [True, True, True, False]
    )
    assert best_epoch(records) == 4
    progress = read_tensors(run.checkpoint, "checkpoint")[1]["progress"]
    assert (progress["best_epoch"], progress["best_elbo"]) == (4, records[3]["val"]["elbo_nats"])
    for record, pixels in zip(records, (4, 16, 64, 64), strict=True):
        for part in (record["train"], record["val"]):
            assert part["elbo_nats"] == pytest.approx(-part["rate_nats"] - part["distortion_nats"])
            assert part["loss"] == pytest.approx(part["distortion_nats"] * 64 / pixels + part["rate_nats"])
            assert 0.3 * pixels < part["distortion_nats"] < 0.8 * pixels  # no mean over images of two sizes


def test_the_model_is_an_ordinary_one(whole: Any, tmp_path: Path) -> None:
    run, plain = whole(), train(tmp_path / "plain", progressive=None, epochs=1)
    ours, theirs = (read_tensors(each.model, "model")[0] for each in (run, plain))
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}
    assert list(ours) == list(theirs)
    model, _, info = load_model(run.path)
    assert model.decode(torch.zeros(2, 3)).mean.shape == (2, *info.shape)
    found = vaekit.evaluate(run.path, "val", 2)
    assert found["elbo_nats"] == pytest.approx(run.metrics()[-1]["val"]["elbo_nats"], rel=0.1)
    assert load_unfinished(run).encode(torch.rand(1, *info.shape)).mean.shape == (1, 3)


@pytest.mark.parametrize(
    "more",
    [{}, {"likelihood": "optimal-gaussian", "normalization": "batch", "ema_decay": 0.9}, {"objective": "factor"}],
    ids=["plain", "state", "players"],
)
def test_stopped_in_every_phase_it_resumes_to_the_same_bits(more: dict[str, Any], whole: Any, tmp_path: Path) -> None:
    expected, path = whole(**more), tmp_path / "run"
    stops = [5, 8, 10, 14, 16, 20, 23, 27]  # within each phase, and where phases begin
    for before, stop in zip([0, *stops], stops, strict=False):
        with interrupted_at(stop - before), pytest.raises(RunError):
            vaekit.resume(path, observer=Silent()) if before else train(path, **more)
    vaekit.resume(path, observer=Silent())
    assert Run(path).model.read_bytes() == expected.model.read_bytes()
    assert timeless(Run(path).metrics()) == timeless(expected.metrics())


def test_entrances_are_moved_by_the_loss_of_the_encoder_and_exits_by_that_of_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an objective with a loss for each, such as PIWAE."""
    moved: list[dict[str, set[int]]] = []
    adapters: list[Growth | None] = []
    backward, step = Optimizers.backward, Trainer._train_step

    def look(self: Optimizers, losses: dict[str, Tensor]) -> None:
        alone = {}
        for name in (MODEL, INFERENCE):
            with_one = {other: loss * float(other == name) for other, loss in losses.items()}
            backward(self, with_one)
            found = [each for each in self.all_parameters() if each.grad is not None and bool(each.grad.any())]
            alone[name] = {id(each) for each in found}
        moved.append(alone)
        backward(self, losses)

    def keep(self: Trainer) -> None:
        adapters.append(self.growth)
        step(self)

    monkeypatch.setattr(Optimizers, "backward", look)
    monkeypatch.setattr(Trainer, "_train_step", keep)
    train(tmp_path / "run", objective="piwae", num_samples=2, num_bounds=2, epochs=0.5)
    pyramid = adapters[0].pyramid
    entrances, exits = ({id(each) for each in part.parameters()} for part in (pyramid.entrances, pyramid.exits))
    assert moved[0][INFERENCE] & entrances
    assert moved[0][MODEL] & exits
    assert not moved[0][MODEL] & entrances
    assert not moved[0][INFERENCE] & exits


def test_constraints_hold_for_the_layers_that_are_at_work(tmp_path: Path) -> None:
    """Such as a bound on singular values: for the exit of a small image too."""
    more = {"objective": "rae", "posterior": "deterministic", "regularizer": "sn", "spectral_bound": 0.1}
    with interrupted_at(6), pytest.raises(RunError):
        train(tmp_path / "run", **more)
    tensors = read_tensors(tmp_path / "run" / "checkpoint", "checkpoint")[0]
    largest = {
        name: torch.linalg.matrix_norm(value.flatten(1), 2).item()
        for name, value in tensors.items()
        if name.endswith("weight") and ("player/growth/exits.1." in name or "player/model/decoder" in name)
    }
    for name in ("player/model/decoder.dense.weight", "player/growth/exits.1.0.weight"):
        assert 0.09 < largest[name] < 0.1001, name  # the bound is that on an estimate from above
    assert largest["player/model/decoder.convolutions.2.weight"] > 0.2  # its turn has not come


def test_averaged_weights_and_sigma_are_those_of_the_whole_network(tmp_path: Path, monkeypatch: Any) -> None:
    """The average begins with the first whole step; sigma is the error on training images of the weights kept."""
    name = "encoder.dense.weight"
    averages: dict[int, Tensor] = {}
    weights: dict[int, Tensor] = {}
    step = Trainer._train_step

    def look(self: Trainer) -> None:
        step(self)
        assert self.average is not None
        averages[self.progress.step] = self.average.tensors[name].clone()
        weights[self.progress.step] = self.average.weights[name].detach().clone()

    monkeypatch.setattr(Trainer, "_train_step", look)
    run = train(tmp_path / "run", ema_decay=0.8, likelihood="optimal-gaussian", select_best=False)
    assert all(torch.equal(averages[1], averages[at]) for at in range(2, 24))  # untouched while it grows
    expected = weights[23]
    for t, at in enumerate(range(24, 32)):
        decay = min(0.8, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * weights[at]
        torch.testing.assert_close(averages[at], expected)
    model, given, _ = load_model(run.path)
    assert torch.equal(model.state_dict()[name], averages[31])
    images = load_splits(given.data, None).train
    key = torch.tensor(0)
    batch = given.data.batch(images, torch.arange(len(images)), Noise(key, torch.arange(len(images))))
    with torch.no_grad():
        draw = model.draw(batch, (), Noise(key, batch.index))
    error = (draw.target - draw.likelihood.mean).square().mean().sqrt()
    assert draw.likelihood.log_sigma.exp().item() == pytest.approx(error.item(), rel=0.02)


def test_a_run_that_still_grows_is_not_examined_by_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with interrupted_at(9), pytest.raises(RunError):
        train(path)
    found = examine(Run(path))
    assert found.unchecked == ("weights: the images still grow, and the network with them",)


REFUSED = {
    "dense": ({"network": "mlp"}, "it is --model vae with --network conv or residual that can grow"),
    "hamiltonian": ({"model": "hamiltonian"}, "and this is model 'hamiltonian'"),
    "too many": ({"progressive": 4}, "halves images 2 times has at most 3 sizes"),
    "small": ({"progressive": 5, "channels": "4,4,4,4"}, "images of 8x8 pixels cannot be halved 4 times"),
    "discriminator": ({"objective": "vae-gan"}, "objective 'vae-gan' compares images of the full size"),
    "started": ({"start_from": "fashion"}, "leave one out"),
    "short": ({"epochs": 0.3}, "a training of 2 steps has none for some stage; raise --epochs"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_grow_is_refused(name: str, tmp_path: Path) -> None:
    more, sentence = REFUSED[name]
    given = {key: value for key, value in COMMON.items() if name != "dense" or key not in ("channels", "dense")}
    if name == "started":
        given["start_from"] = str(train(tmp_path / "earlier", progressive=None, epochs=0.3).path)
        more = {}
    with pytest.raises(InputError, match=r"^--progressive \d: ") as refusal:
        vaekit.train(tmp_path / "run", config=configure("conv", **{**given, **more}), observer=Silent())
    assert sentence in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_residual_networks_grow_too(tmp_path: Path) -> None:
    given = {name: value for name, value in COMMON.items() if name != "channels"}
    settings = configure("conv", **{**given, "network": "residual", "widths": "4,6", "dense": 8, "epochs": 1})
    run = vaekit.train(tmp_path / "run", config=settings, observer=Silent())
    assert [record["resolution"] for record in run.metrics()] == [[8, 8]]
    assert dataclasses.asdict(load_model(run.path)[2])["shape"] == (1, 8, 8)
