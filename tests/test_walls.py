"""Walls that must hold what is to come: tiny awkward cases, each trained, resumed, saved and evaluated.

Each case (see walls.py) is an entry of a table, registered in these tests only, and touches no line of the library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import zuko
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

import vaekit
from helpers_run import interrupted_at, timeless
from vaekit.data.batches import Data
from vaekit.data.images import DataInfo, Images
from vaekit.data.splits import load_splits
from vaekit.errors import InputError, RunError
from vaekit.evaluation.likelihood import estimate
from vaekit.figures import make_figures
from vaekit.models.table import Model
from vaekit.noise import Noise, seed_key, seeded
from vaekit.objectives.bounds import importance_weighted
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.table import MODEL
from vaekit.probability.distributions import DiagonalGaussian, draw
from vaekit.runs import Run
from vaekit.settings import Config
from vaekit.storage import read_tensors
from vaekit.training.optimization import Optimizers
from vaekit.training.reporting import Silent
from vaekit.training.step import StepResult, TrainingStep, numeric_fields
from walls import BOUND, INFO, LATENTS, NO_BOUND, NO_MEAN, WALLS, Quantized, config, registered


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    with registered():
        yield


@pytest.mark.parametrize("name", WALLS)
def test_trains_resumes_saves_and_evaluates(name: str, tmp_path: Path) -> None:
    chosen = WALLS[name]()
    whole = vaekit.train(tmp_path / "whole", config=chosen, observer=Silent())
    with interrupted_at(8), pytest.raises(RunError, match=r"stopped at step 8; continue: vaekit resume"):
        vaekit.train(tmp_path / "part", config=chosen, observer=Silent())
    assert not (tmp_path / "part" / "model.safetensors").exists()
    part = vaekit.resume(tmp_path / "part", observer=Silent())
    assert part.model.read_bytes() == whole.model.read_bytes()
    assert timeless(part.metrics()) == timeless(whole.metrics())

    records = whole.metrics()
    assert [record["step"] for record in records] == [6, 12]
    assert all(math.isfinite(record[split]["loss"]) for record in records for split in ("train", "val"))
    assert records[-1]["train"]["loss"] < records[0]["train"]["loss"]
    assert all((record["val"]["elbo_nats"] is None) == (name in NO_BOUND) for record in records)

    model, loaded, info = vaekit.load_model(whole.path)
    assert loaded == chosen
    assert info == whole.info
    found = vaekit.evaluate(whole.path, num_importance_samples=4, limit=20)
    assert found["num_images"] == 20
    assert math.isfinite(found["distortion_nats"])
    for key in BOUND:
        assert (found[key] is None) == (name in NO_BOUND), key
    assert (found["active_units"] is None) == (name in (*NO_BOUND, *NO_MEAN))
    assert found["latent_dim"] == (6 if name == "two-levels" else LATENTS)
    if name not in NO_BOUND:
        assert found["elbo_nats"] == pytest.approx(-(found["distortion_nats"] + found["rate_nats"]), abs=1e-9)
        assert 1.0 <= found["effective_sample_size"] <= 4.0
    assert not model.training


@pytest.mark.parametrize("name", WALLS)
def test_nothing_in_a_step_waits_for_the_device(name: str) -> None:
    """Fake tensors have no values: reading one on the host raises."""
    chosen = WALLS[name]()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        model, step, optimizers, images = _step(chosen, INFO, mode=mode)
        scalars = {name: torch.tensor(value) for name, value in numeric_fields(chosen.objective).items()}
        hyper = {name: torch.empty_like(value) for name, value in scalars.items()}  # a fake constant has a value
        number = torch.empty((), dtype=torch.int64)
        result: StepResult = step(images, torch.arange(32), number, number, hyper)
        optimizers.backward(result.losses)
        optimizers.step()
        model.after_step(result.draw, lambda tensor: tensor)
    assert all(loss.shape == () for loss in result.losses.values())
    assert all(value.shape == () for value in result.logged.values())


def _step(
    chosen: Config, info: DataInfo, images: Images | None = None, mode: FakeTensorMode | None = None
) -> tuple[Model, TrainingStep, Optimizers, Images]:
    with seeded(0, "test"), unset_fake_temporarily():
        model = chosen.model.build(info)
        players = chosen.objective.players(chosen.model.latent_dim, INFO.shape)
    for module in [model, *players.values()] if mode else []:
        for part in module.modules():
            for tensors in (part._parameters, part._buffers):
                tensors.update({name: mode.from_tensor(value) for name, value in tensors.items() if value is not None})
    step = TrainingStep(model, chosen.objective, players, chosen.data, info.num_train)
    optimizers = Optimizers({MODEL: model, **players}, chosen.training, torch.device("cpu"))
    optimizers.set_learning_rate(0.01)
    if images is None:
        pixels = torch.zeros(info.num_train, *info.shape[1:], info.shape[0], dtype=torch.uint8)
        images = Images(pixels, torch.zeros(info.num_train, dtype=torch.int64))
    return model, step, optimizers, images


def _run(
    name: str, key: int = 1, count: int = 32, **changes: Any
) -> tuple[Model, TrainingStep, Optimizers, StepResult]:
    """One step of a wall on real digits, up to its losses."""
    chosen = WALLS[name]()
    chosen = replace(chosen, objective=replace(chosen.objective, **changes))
    splits = load_splits("digits", None)
    model, step, optimizers, images = _step(chosen, splits.info, splits.train)
    hyper = {name: torch.tensor(value) for name, value in numeric_fields(chosen.objective).items()}
    return (
        model,
        step,
        optimizers,
        step(images, torch.arange(count), torch.tensor(key), torch.tensor(0), hyper),
    )


def test_mmd_reads_the_codes_of_all_processes() -> None:
    """Two processes of 16 images see the discrepancy of 32, not the mean of two of 16."""
    _, step, _, whole = _run("mmd")
    halves = []
    for first in (0, 16):
        index = torch.arange(first, first + 16)
        images = load_splits("digits", None).train
        joined = iter([whole.draw.latents[0].value, Noise(torch.tensor(1), torch.arange(32)).normal("mmd", (LATENTS,))])
        step.gather = lambda tensor, joined=joined: next(joined)
        halves.append(step(images, index, torch.tensor(1), torch.tensor(0), {"mmd_weight": torch.tensor(10.0)}))
    assert [half.logged["mmd"].item() for half in halves] == [whole.logged["mmd"].item()] * 2
    step.gather = lambda tensor: tensor
    alone = step(images, index, torch.tensor(1), torch.tensor(0), {"mmd_weight": torch.tensor(10.0)})
    assert alone.logged["mmd"].item() != pytest.approx(whole.logged["mmd"].item(), rel=1e-3)


def test_each_player_follows_its_own_loss_alone() -> None:
    gradients = {}
    for gamma in (0.0, 1000.0):
        model, step, optimizers, result = _run("two-players", gamma=gamma)
        optimizers.backward(result.losses)
        discriminator = step.players["discriminator"]
        gradients[gamma] = [
            torch.cat([p.grad.flatten() for p in module.parameters()]) for module in (model.encoder, discriminator)
        ]
    assert torch.equal(gradients[0.0][1], gradients[1000.0][1])
    assert not torch.allclose(gradients[0.0][0], gradients[1000.0][0], rtol=0.1)


def test_players_are_kept_in_the_checkpoint_only(tmp_path: Path) -> None:
    run = vaekit.train(tmp_path / "run", config=WALLS["two-players"](), observer=Silent())
    inside, _ = read_tensors(run.checkpoint, "checkpoint")
    weights, _ = read_tensors(run.model, "model")
    assert any(name.startswith("player/discriminator/") for name in inside)
    assert any(name.startswith("optimizer/discriminator/") for name in inside)
    assert not any("discriminator" in name for name in weights)
    assert "loss_discriminator" in run.metrics()[-1]["train"]


@pytest.mark.parametrize("name", ["flow-posterior", "flow-prior"])
def test_flows_have_no_closed_form_and_their_bound_is_that_of_the_weights(name: str) -> None:
    *_, result = _run(name)
    (latent,) = result.draw.latents
    assert torch.equal(result.draw.rate, -latent.log_ratio)
    assert torch.equal(result.draw.elbo, result.draw.log_p_x + latent.log_ratio)
    torch.testing.assert_close(result.draw.elbo, result.draw.log_w)


def test_a_flow_samples_the_density_that_it_scores() -> None:
    """E_q[r(z) / q(z)] = 1 for a normal density r that q covers: sampler and density fit together."""
    with seeded(3, "test"):
        flow = zuko.flows.NSF(2, 4, bins=4, transforms=2, hidden_features=(16,))
        distribution = flow(torch.randn(1, 4))
    with torch.no_grad():
        value = draw(distribution, Noise.from_seed(0, 1), "latent", (20000,))
        narrow = DiagonalGaussian(torch.zeros(1, 2), torch.full((1, 2), math.log(0.5)))
        weight = (narrow.log_prob(value) - distribution.log_prob(value)).exp()
    error = weight.std().item() / math.sqrt(len(weight))
    assert error < 0.02
    assert weight.mean().item() == pytest.approx(1.0, abs=4 * error)


def test_a_rebuilt_flow_gives_the_path_derivative() -> None:
    """d log w = path + score, and the score is the derivative of -log q at a fixed value."""
    model, _, _, result = _run("flow-posterior")
    parameters = list(model.posterior.parameters())

    def slope(value: Tensor) -> Tensor:
        found = torch.autograd.grad(value.sum(), parameters, retain_graph=True, allow_unused=True)
        return torch.cat(
            [
                torch.zeros_like(p).flatten() if g is None else g.flatten()
                for p, g in zip(parameters, found, strict=True)
            ]
        )

    (latent,) = result.draw.latents
    total, score = slope(result.draw.log_w), slope(-latent.posterior.log_prob(latent.value.detach()))
    path = slope(result.draw.rescore(path_only=True).log_w)
    assert score.abs().max() > 0.1
    torch.testing.assert_close(path, total - score, rtol=1e-3, atol=1e-3)


def test_a_flow_stands_for_its_images_by_its_center(tmp_path: Path) -> None:
    run = vaekit.train(tmp_path / "run", config=WALLS["flow-posterior"](), observer=Silent())
    model, _, _ = vaekit.load_model(run.path)
    images = load_splits("digits", None).test.unit()[:5]
    assert vaekit.reconstruct(model, images).shape == images.shape
    assert torch.equal(vaekit.reconstruct(model, images), vaekit.reconstruct(model, images))
    assert make_figures(run)


def test_the_codebook_moves_after_the_step_and_not_in_it() -> None:
    model, _, optimizers, result = _run("quantized")
    assert isinstance(model, Quantized)
    before = model.codebook.clone()
    optimizers.backward(result.losses)
    optimizers.step()
    assert torch.equal(model.codebook, before)
    latent = result.draw.latents[0]
    model.after_step(result.draw, lambda tensor: tensor)
    expected = before.clone()
    for entry in range(len(before)):
        members = latent.encoded[latent.chosen == entry]
        count, total = 0.95 + 0.05 * len(members), 0.95 * before[entry] + 0.05 * members.sum(0)
        expected[entry] = total / (count + 1e-5)
    torch.testing.assert_close(model.codebook, expected)


def test_quantizing_logs_its_penalty_and_passes_gradients_straight_through() -> None:
    model, _, optimizers, result = _run("quantized")
    loss, distortion = result.losses[MODEL].item(), result.logged["distortion_nats"].item()
    assert loss == pytest.approx(distortion + result.logged["commitment"].item(), rel=1e-6)
    optimizers.backward(result.losses)
    assert all(p.grad.abs().max() > 0 for p in model.encoder.parameters())


@pytest.mark.parametrize("name", NO_BOUND)
def test_what_has_no_bound_is_refused_by_the_elbo_and_has_no_samples(name: str, tmp_path: Path) -> None:
    chosen = replace(WALLS[name](), objective=Elbo())
    with pytest.raises(InputError, match=r"^--objective elbo: needs a rate, and so a bound on log p"):
        vaekit.train(tmp_path / "refused", config=chosen, observer=Silent())
    assert not (tmp_path / "refused").exists()
    run = vaekit.train(tmp_path / "run", config=WALLS[name](), observer=Silent())
    model, _, _ = vaekit.load_model(run.path)
    with pytest.raises(InputError, match=r"has no prior to sample from"):
        vaekit.sample(model, 4)
    assert {file.path.stem for file in make_figures(run)} >= {"reconstructions"}


def test_two_levels_have_closed_form_rates_that_agree_with_samples() -> None:
    _, step, _, _ = _run("two-levels")
    images = load_splits("digits", None).train
    with torch.no_grad():
        _, found = step.draw(images, torch.arange(3), torch.tensor(5), (4000,))
        top, bottom = found.latents
        assert top.rate.shape == (3,)
        assert bottom.rate.shape == found.rate.shape == found.log_w.shape == (4000, 3)
        for group in (top, bottom):
            gap = group.rate + group.log_ratio
            error = gap.std(0) / math.sqrt(4000)
            assert (gap.mean(0).abs() < 4.5 * error).all()
        torch.testing.assert_close(found.log_w, found.log_p_x + top.log_ratio + bottom.log_ratio)


def test_one_bound_of_miwae_is_iwae() -> None:
    *_, several = _run("miwae", bounds=1, num_samples=6)
    chosen = config(objective=Iwae(num_samples=6))
    splits = load_splits("digits", None)
    _, step, _, images = _step(chosen, splits.info, splits.train)
    single = step(images, torch.arange(32), torch.tensor(1), torch.tensor(0), {})
    assert several.draw.log_w.shape == (1, 6, 32)
    torch.testing.assert_close(several.losses[MODEL], single.losses[MODEL], rtol=1e-6, atol=0)


def test_bounds_with_more_samples_are_higher() -> None:
    *_, result = _run("miwae", bounds=4, num_samples=8, count=512)
    log_w = result.draw.log_w
    elbo, miwae, iwae = (
        log_w.mean(),
        importance_weighted(log_w, 1).mean(),
        importance_weighted(log_w, (0, 1)).mean(),
    )
    assert elbo < miwae < iwae


def test_denoising_is_scored_on_the_clean_target(tmp_path: Path) -> None:
    chosen = WALLS["denoising"]()
    run = vaekit.train(tmp_path / "run", config=chosen, observer=Silent())
    found = vaekit.evaluate(run.path, num_importance_samples=2, limit=30)
    model, _, _ = vaekit.load_model(run.path)
    clean = load_splits(Data(data="digits", validation=51, train_limit=192), None).test.spread(30).unit()
    blurred = F.interpolate(F.interpolate(clean, (4, 4), mode="bilinear"), (8, 8), mode="bilinear")
    noise = Noise(torch.tensor(seed_key(0, "evaluate")), torch.arange(30))
    with torch.no_grad():
        latents = draw(model.encode(blurred), noise, "latent", (2,))
        logits = model.decode(latents).logits
        distortion = F.binary_cross_entropy_with_logits(logits, clean.expand_as(logits), reduction="none").sum(
            (2, 3, 4)
        )
    psnr = -10.0 * (blurred - clean).square().mean((1, 2, 3)).log10()
    assert found["distortion_nats"] == pytest.approx(distortion.mean().item(), rel=1e-6)
    assert found["input_psnr_db"] == pytest.approx(psnr.mean().item(), rel=1e-5)
    assert {"restorations"} <= {file.path.stem for file in make_figures(run)}


def test_evaluation_of_a_deterministic_code_does_not_depend_on_the_number_of_samples(tmp_path: Path) -> None:
    run = vaekit.train(tmp_path / "run", config=WALLS["autoencoder"](), observer=Silent())
    model, loaded, _ = vaekit.load_model(run.path)
    images = load_splits(Data(data="digits", validation=51, train_limit=192), None).test
    one, many = (estimate(model, loaded.data, images, count, decodes_at_once=100) for count in (1, 7))
    torch.testing.assert_close(one.distortion, many.distortion, rtol=1e-6, atol=0)
    assert one.rate is one.log_p is one.effective_samples is None
    assert torch.equal(one.codes, many.codes)


def test_a_run_of_a_missing_part_says_so(tmp_path: Path) -> None:
    run = vaekit.train(tmp_path / "run", config=WALLS["miwae"](), observer=Silent())
    file = run.path / "config.json"
    file.write_text(file.read_text().replace("wall-miwae", "wall-gone"))
    with pytest.raises(InputError, match="objective 'wall-gone' is unknown"):
        Run(run.path)


def test_an_epochs_record_counts_the_codes_of_all_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Perplexities of batches, averaged, would grow with the batch."""
    monkeypatch.setattr("vaekit.training.validation._BATCH", 7)
    run = vaekit.train(tmp_path / "run", config=WALLS["quantized"](), observer=Silent())
    model, chosen, _ = vaekit.load_model(run.path)
    images = load_splits(chosen.data, None).val
    noise = Noise.from_seed(0, len(images), "any")
    with torch.no_grad():
        whole = model.draw(chosen.data.batch(images, noise.index, noise), noise=noise)
    counts = whole.tallies["codes"].double()
    shares = counts[counts > 0] / len(images)
    best = max(run.metrics(), key=lambda record: record["epoch"])["val"]
    assert best["used_codes"] == len(shares)
    assert best["perplexity_codes"] == pytest.approx((-(shares * shares.log()).sum()).exp().item())
    for record in run.metrics():
        assert 1 <= record["train"]["perplexity_codes"] <= record["train"]["used_codes"] <= model.codebook.shape[0]


def test_two_levels_are_rated_one_by_one(tmp_path: Path) -> None:
    run = vaekit.train(tmp_path / "run", config=WALLS["two-levels"](), observer=Silent())
    for record in run.metrics():
        levels = [record["val"][f"rate_level_{level}_nats"] for level in (1, 2)]
        assert sum(levels) == pytest.approx(record["val"]["rate_nats"], rel=1e-5)
    found = vaekit.evaluate(run.path, num_importance_samples=3, limit=20)
    assert len(found["rate_by_level_nats"]) == 2
    assert sum(found["rate_by_level_nats"]) == pytest.approx(found["rate_nats"], rel=1e-6)
