"""The bound with a distance of looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_autoencoder import SMALL
from test_bounds import random_draw
from torch import Tensor

import cases
import vaekit
from helpers_run import interrupted_at, timeless
from vaekit.errors import InputError, RunError
from vaekit.features.network import FeatureNetwork
from vaekit.features.similarity import ms_ssim
from vaekit.models.draw import Draw
from vaekit.objectives import bounds
from vaekit.objectives.perceptual import Perceptual, feature_distance
from vaekit.objectives.table import MODEL
from vaekit.probability.likelihoods import GaussianImage
from vaekit.settings import configure
from vaekit.storage import read_tensors
from vaekit.training.reporting import Silent

DISTANCES = ("features", "ms-ssim")


def draw_of(size: int = 12, stochastic: bool = True) -> Draw:
    """A draw whose likelihood has the mean of random images of so many pixels."""
    shown, target = (cases.random_images((1, size, size), 4, seed=seed).unit() for seed in (0, 1))
    return replace(
        random_draw(stochastic=stochastic), likelihood=GaussianImage(shown, torch.tensor(-1.0)), target=target
    )


def loss_of(draw: Draw, distance: Any, weight: float, beta: float = 1.0) -> tuple[Tensor, Tensor]:
    """The numbers come from the context, not from the objective's own fields."""
    context = cases.context(beta=beta, perceptual_weight=weight)
    objective = Perceptual(beta=7.0, perceptual_weight=9.0, perceptual_distance=distance)
    context.players = objective.players(3, tuple(draw.target.shape[1:]))
    losses, terms = objective(draw, None, context)  # type: ignore[arg-type]
    assert set(losses) == {MODEL}
    return losses[MODEL], terms["perceptual_distance"]


@pytest.mark.parametrize("distance", DISTANCES)
def test_without_weight_it_is_the_bound(distance: str) -> None:
    draw = draw_of()
    torch.testing.assert_close(loss_of(draw, distance, 0.0)[0], -bounds.elbo(draw).mean())


@pytest.mark.parametrize("beta", [0.0, 3.0])
@pytest.mark.parametrize("distance", DISTANCES)
def test_the_loss_is_the_sum_of_its_parts(distance: str, beta: float) -> None:
    draw = draw_of()
    loss, found = loss_of(draw, distance, 40.0, beta)
    shown = draw.likelihood.mean
    if distance == "ms-ssim":
        expected = 1.0 - ms_ssim(shown, draw.target).mean()
    else:
        expected = feature_distance(FeatureNetwork(), shown, draw.target).mean()
    torch.testing.assert_close(found, expected)
    distortion, rate = bounds.distortion(draw).mean(), bounds.rate(draw).mean()
    torch.testing.assert_close(loss, distortion + beta * rate + 40.0 * expected)


def test_a_deterministic_code_has_no_rate_and_beta_no_effect() -> None:
    draw = draw_of(stochastic=False)
    loss, found = loss_of(draw, "ms-ssim", 5.0, beta=1.0)
    torch.testing.assert_close(loss, bounds.distortion(draw).mean() + 5.0 * found)
    assert torch.equal(loss, loss_of(draw, "ms-ssim", 5.0, beta=4.0)[0])


@pytest.mark.parametrize("distance", DISTANCES)
def test_pixels_that_are_hidden_do_not_count(distance: str) -> None:
    mask = (torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.6).float()
    draw = replace(draw_of(), mask=mask)
    other = replace(draw, target=torch.where(mask == 1, draw.target, 0.123))
    assert torch.equal(loss_of(draw, distance, 3.0)[0], loss_of(other, distance, 3.0)[0])
    assert not torch.equal(loss_of(draw, distance, 3.0)[1], loss_of(replace(draw, mask=None), distance, 3.0)[1])


def test_the_distance_of_features_is_its_formula() -> None:
    first, second = (cases.random_images((3, 9, 8), 2, seed=seed).unit() for seed in (0, 1))
    network = FeatureNetwork()
    expected = []
    for image in range(2):
        total = 0.0
        for a, b in zip(network(first), network(second), strict=True):
            height, width = a.shape[2:]
            gaps = []
            for row in range(height):
                for column in range(width):
                    x, y = (each[image, :, row, column].double() for each in (a, b))
                    gaps.append(((x / (x @ x + 0.01) ** 0.5 - y / (y @ y + 0.01) ** 0.5) ** 2).sum().item())
            total += sum(gaps) / len(gaps)
        expected.append(total)
    assert feature_distance(network, first, second).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_the_distance_of_features_is_zero_for_equal_images_alone_and_symmetric(shape: tuple[int, int, int]) -> None:
    network = FeatureNetwork()
    first, second = (cases.random_images(shape, 4, seed=seed).unit() for seed in (0, 1))
    assert feature_distance(network, first, first).tolist() == [0.0] * 4
    found = feature_distance(network, first, second)
    assert ((found > 0.01) & (found <= 8.0)).all()
    torch.testing.assert_close(found, feature_distance(network, second, first))
    one_grey_level = first + 1.0 / 255.0
    assert (feature_distance(network, first, one_grey_level) > 0).all()
    nearer = feature_distance(network, first, 0.9 * first + 0.1 * second)
    assert (nearer < found).all()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_gradient_is_finite_even_for_plain_images(value: float) -> None:
    target = cases.random_images((1, 28, 28), 2).unit().requires_grad_()
    images = torch.full((2, 1, 28, 28), value, requires_grad=True)
    slope, none = torch.autograd.grad(
        feature_distance(FeatureNetwork(), images, target).sum(), (images, target), allow_unused=True
    )
    assert slope.isfinite().all()
    assert slope.abs().max() > 0
    assert none is None


@pytest.mark.parametrize("distance", DISTANCES)
def test_it_trains_resumes_and_reports_the_bound(distance: str, tmp_path: Path) -> None:
    given = configure("mlp", objective="perceptual", perceptual_distance=distance, **SMALL)
    whole = vaekit.train(tmp_path / "whole", config=given, observer=Silent())
    with interrupted_at(9), pytest.raises(RunError, match="stopped at step 9"):
        vaekit.train(tmp_path / "part", config=given, observer=Silent())
    part = vaekit.resume(tmp_path / "part", observer=Silent())
    assert part.model.read_bytes() == whole.model.read_bytes()
    assert timeless(part.metrics()) == timeless(whole.metrics())
    for file, what in ((whole.model, "model"), (whole.checkpoint, "checkpoint")):
        assert not any("stage" in name or "features" in name for name in read_tensors(file, what)[0])
    first, last = (record["val"] for record in whole.metrics())
    assert last["elbo_nats"] == pytest.approx(-(last["distortion_nats"] + last["rate_nats"]))
    assert last["loss"] == pytest.approx(-last["elbo_nats"] + 100.0 * last["perceptual_distance"], rel=1e-5)
    assert last["perceptual_distance"] < first["perceptual_distance"]
    found = vaekit.evaluate(whole.path, num_importance_samples=2, limit=20)
    assert found["elbo_nats"] == pytest.approx(-(found["distortion_nats"] + found["rate_nats"]))


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_weight_brings_the_distance_down(distance: str, tmp_path: Path) -> None:
    ends = []
    for weight in (0.0, 300.0):
        given = configure(
            "mlp", objective="perceptual", perceptual_distance=distance, perceptual_weight=weight, select_best=False,
            learning_rate=0.01, **{**SMALL, "epochs": 6},
        )  # fmt: skip
        ends.append(vaekit.train(tmp_path / str(weight), config=given, observer=Silent()).metrics()[-1]["val"])
    assert ends[1]["perceptual_distance"] < 0.95 * ends[0]["perceptual_distance"]


def test_images_that_the_network_does_not_take_are_refused_by_name() -> None:
    with pytest.raises(InputError) as refusal:
        Perceptual().players(3, (2, 9, 9))
    assert str(refusal.value) == (
        "--perceptual-distance features: feature network: images have 2 channels; give grey (1) or colour (3), or choose "
        "ms-ssim"
    )
    assert Perceptual(perceptual_distance="ms-ssim").players(3, (2, 9, 9)) == {}


def test_a_refusal_comes_before_anything_is_written(tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", np.random.default_rng(0).integers(0, 256, (60, 5, 5), np.uint8))
    with pytest.raises(InputError, match="perceptual-distance features"):
        vaekit.train(
            tmp_path / "run",
            "mlp",
            data=str(tmp_path / "small.npy"),
            objective="perceptual",
            validation=20,
            batch_size=10,
        )
    assert not (tmp_path / "run").exists()
