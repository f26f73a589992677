"""The optimal variance: what it is, that gradients need nothing of it, that it stays when training is over."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import vaekit
from helpers_run import interrupted_at, timeless
from vaekit.data.batches import Data
from vaekit.errors import RunError
from vaekit.models.draw import Draw
from vaekit.models.vae import VAEConfig
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.probability.likelihoods import GaussianImage
from vaekit.probability.optimal_gaussian import LEAST_SIGMA, OptimalGaussian, OptimalGaussianHead
from vaekit.training.reporting import Silent

SHAPE = (1, 8, 8)
G = torch.Generator().manual_seed(0)
TARGET = torch.rand(6, *SHAPE, generator=G)
OUTPUT = TARGET + 0.2 * torch.randn(2, 6, *SHAPE, generator=G)


def alone(tensor: Tensor) -> Tensor:
    return tensor


def scored(head: OptimalGaussianHead, output: Tensor, target: Tensor = TARGET, mask: Tensor | None = None) -> Draw:
    return Draw((), head(output), target, mask)


def test_after_one_step_sigma_is_the_root_mean_square_error() -> None:
    """Whatever it was before: nothing of the start remains."""
    head = OptimalGaussian().build()
    assert head(OUTPUT).log_sigma.exp().item() == pytest.approx(0.5)
    head.after_step(scored(head, OUTPUT), alone)
    expected = (TARGET - OUTPUT).double().square().mean().sqrt().item()
    assert head(OUTPUT).log_sigma.exp().item() == pytest.approx(expected, rel=1e-5)
    p = head(OUTPUT)
    log_sigma = p.log_sigma.clone().requires_grad_()
    GaussianImage(OUTPUT, log_sigma).log_prob(TARGET).sum().backward()
    assert log_sigma.grad.item() == pytest.approx(0.0, abs=1e-2)  # of 768 pixels: the likelihood is stationary in sigma


def test_the_average_is_over_the_last_quarter_of_the_steps() -> None:
    """Shares as said, so that a constant error is found at once and an old one is forgotten."""
    head = OptimalGaussian().build()
    errors = [float(error) for error in torch.rand(300, generator=torch.Generator().manual_seed(3))]
    expected = 0.0
    for step, error in enumerate(errors, 1):
        head.after_step(scored(head, TARGET + math.sqrt(error)), alone)
        expected += max(0.02, 4 / (step + 3)) * (error - expected)
        if step in (1, 2, 10, 300):
            assert head.log_sigma.exp().item() ** 2 == pytest.approx(expected, rel=1e-5)
    young = OptimalGaussian().build()
    for error in (1.0,) * 10 + (0.01,) * 10:
        young.after_step(scored(young, TARGET + math.sqrt(error)), alone)
    assert 0.01 < young.log_sigma.exp().item() ** 2 < 0.1  # less than a tenth is left of errors half as old as the run


def test_the_gradient_is_that_of_the_analytic_optimum() -> None:
    """Envelope theorem: n/2 log(mean squared error) has the gradient of the Gaussian with its variance held there."""
    output = OUTPUT[0].clone().requires_grad_()
    analytic = 0.5 * output.numel() * (TARGET - output).square().mean().log()
    (expected,) = torch.autograd.grad(analytic, output)
    head = OptimalGaussian().build()
    head.after_step(scored(head, output), alone)
    (found,) = torch.autograd.grad(-head(output).log_prob(TARGET).sum(), output)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert list(head.parameters()) == []


def test_sigma_has_a_floor() -> None:
    head = OptimalGaussian().build()
    head.after_step(scored(head, TARGET), alone)
    assert head.log_sigma.exp().item() == pytest.approx(LEAST_SIGMA) == pytest.approx(0.00113, abs=1e-5)


def test_hidden_pixels_count_nothing() -> None:
    mask = (torch.rand(6, *SHAPE, generator=G) > 0.5).float()
    head = OptimalGaussian().build()
    wrong = torch.where(mask == 1, OUTPUT, 1e3)
    head.after_step(scored(head, wrong, mask=mask), alone)
    seen = mask.bool().expand_as(OUTPUT)
    expected = (TARGET.expand_as(OUTPUT)[seen] - OUTPUT[seen]).square().mean().sqrt().item()
    assert head.log_sigma.exp().item() == pytest.approx(expected, rel=1e-5)
    before = head.log_sigma.clone()
    head.after_step(scored(head, OUTPUT + 5, mask=torch.zeros_like(mask)), alone)
    assert torch.equal(head.log_sigma, before)


def test_processes_agree_on_what_one_would_find() -> None:
    """Two halves of a batch, joined as processes join them, give the sigma of the whole."""
    whole, half = OptimalGaussian().build(), OptimalGaussian().build()
    mask = (torch.rand(6, *SHAPE, generator=G) > 0.5).float()  # the halves see different numbers of pixels
    whole.after_step(scored(whole, OUTPUT, mask=mask), alone)
    parts = [scored(half, OUTPUT[:, rows], TARGET[rows], mask[rows]) for rows in (slice(0, 3), slice(3, 6))]
    calls: list[list[Tensor]] = [[], []]
    for number, part in enumerate(parts):
        OptimalGaussian().build().after_step(part, lambda tensor, n=number: calls[n].append(tensor) or tensor)
    joined = iter([torch.cat(pair) for pair in zip(*calls, strict=True)])
    half.after_step(parts[0], lambda tensor: next(joined))
    torch.testing.assert_close(half.log_sigma, whole.log_sigma)


def test_a_models_step_reaches_it_and_evaluation_does_not() -> None:
    model = VAEConfig(latent_dim=3, network=MLP(hidden=(9,)), likelihood=OptimalGaussian()).build(cases.info(SHAPE))
    images = cases.random_images(SHAPE, 6)
    noise = Noise.from_seed(0, 6)
    draw = model.draw(Data().batch(images, torch.arange(6), noise), (2,), noise)
    model.after_step(draw, alone)
    expected = (images.unit() - draw.likelihood.loc).square().mean().sqrt().item()
    assert model.likelihood.log_sigma.exp().item() == pytest.approx(expected, rel=1e-5)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.eval().draw(Data().batch(cases.random_images(SHAPE, 6, seed=9), torch.arange(6), noise), (), noise)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())


FLAGS: dict[str, Any] = {
    "data": "digits",
    "likelihood": "optimal-gaussian",
    "validation": 51,
    "train_limit": 250,
    "batch_size": 32,
    "hidden": "16",
    "epochs": 3,
    "device": "cpu",
    "threads": 1,
}


def test_a_resumed_run_ends_with_the_same_sigma_and_the_file_carries_it(tmp_path: Path) -> None:
    whole = vaekit.train(tmp_path / "whole", "mlp", observer=Silent(), **FLAGS)
    with interrupted_at(11), pytest.raises(RunError, match="stopped at step 11"):
        vaekit.train(tmp_path / "parts", "mlp", observer=Silent(), **FLAGS)
    parts = vaekit.resume(tmp_path / "parts", observer=Silent())
    assert parts.model.read_bytes() == whole.model.read_bytes()
    assert timeless(parts.metrics()) == timeless(whole.metrics())
    model, _, _ = vaekit.load_model(whole.path)
    sigma = model.likelihood.log_sigma.exp().item()
    error = vaekit.evaluate(whole.path, "train", 1, limit=250)["distortion_nats"]
    # at the optimum the distortion of n pixels is n/2 (1 + log(2 pi sigma^2)), here up to what the average lags behind
    assert error / 32 == pytest.approx(1 + math.log(2 * math.pi * sigma**2), abs=0.15)
    assert 0.1 < sigma < 0.4


def test_evaluation_does_not_depend_on_the_company(tmp_path: Path) -> None:
    run = vaekit.train(tmp_path / "run", "mlp", observer=Silent(), **{**FLAGS, "epochs": 1})
    found = [vaekit.evaluate(run.path, num_importance_samples=3, decodes_at_once=at) for at in (3, 1000)]
    assert found[0]["nll_nats"] == pytest.approx(found[1]["nll_nats"], rel=1e-6)
    assert found[0]["bits_per_dim"] is None
