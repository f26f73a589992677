"""The flow prior: a density that integrates to one, samples that follow it, and whole runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from prior_cases import flow_of_a_run
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vaekit.latents.gaussian import GaussianPosterior, StandardNormalPrior
from vaekit.latents.prior_flow import FlowPrior, SplineFlowPrior
from vaekit.noise import Noise
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal, draw

KINDS: dict[str, Any] = {"affine": FlowPrior, "spline": SplineFlowPrior}
SHAPE = (1, 8, 8)


def built(kind: str, num_latents: int = 2, num_condition: int = 0, stir: float = 0.3, **given: Any) -> nn.Module:
    """A prior far from the standard normal."""
    torch.manual_seed(0)
    bins = {"prior_bins": 4} if kind == "spline" else {}
    entry = KINDS[kind](**({"prior_transforms": 2, "prior_hidden": (9,)} | bins | given))
    prior = entry.build(num_latents, num_condition, SHAPE, GaussianPosterior())
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(stir * torch.randn(parameter.shape))
    return prior


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", [None, torch.tensor([[1.0, -0.5]])], ids=["unconditional", "conditional"])
def test_density_integrates_to_one(kind: str, code: torch.Tensor | None) -> None:
    p = built(kind, num_condition=0 if code is None else 2, stir=0.2)(code)
    reach, count = (20.0, 500) if kind == "affine" else (8.0, 200)  # outside [-5, 5] splines are the identity
    axis = torch.linspace(-reach, reach, count)
    with torch.no_grad():
        density = p.log_prob(torch.cartesian_prod(axis, axis)[:, None]).double().exp()
    far = torch.cartesian_prod(axis, axis).abs().amax(-1) > 0.95 * reach
    cell = (axis[1] - axis[0]).item() ** 2
    assert density.flatten()[far].sum() * cell < 1e-4
    assert density.sum().item() * cell == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_follow_the_density(kind: str) -> None:
    """E_p[r(z) / p(z)] = 1 for a density r that p covers; 4 standard errors."""
    p = built(kind)(None)
    with torch.no_grad():
        z = draw(p, Noise.from_seed(0, 40000), "prior")
        narrow = DiagonalGaussian(z.mean(0), (0.4 * z.std(0)).log())
        weight = (narrow.log_prob(z) - p.log_prob(z.clone())).exp()
    error = weight.std().item() / math.sqrt(len(weight))
    assert error < 0.02
    assert weight.mean().item() == pytest.approx(1.0, abs=4 * error)


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_near_the_standard_normal(kind: str) -> None:
    torch.manual_seed(0)
    p = KINDS[kind]().build(8, 0, SHAPE, GaussianPosterior())(None)
    z = torch.randn(500, 8)
    gap = (p.log_prob(z) - StandardNormal(8).log_prob(z)).abs().mean().item()
    assert 1e-4 < gap < 0.2


def test_no_transforms_leave_the_standard_normal() -> None:
    prior = FlowPrior(prior_transforms=0).build(8, 0, SHAPE, GaussianPosterior())
    assert isinstance(prior, StandardNormalPrior)


@pytest.mark.parametrize("kind", KINDS)
def test_it_depends_on_the_condition(kind: str) -> None:
    p = built(kind, 3, num_condition=2)(torch.eye(2))
    z = torch.randn(4, 1, 3).expand(-1, 2, -1)
    scores = p.log_prob(z)
    assert scores.shape == (4, 2)
    assert (scores[:, 0] - scores[:, 1]).abs().min() > 1e-3
    samples = draw(p, Noise(torch.tensor(1), torch.tensor([5, 5])), "prior")
    assert (samples[0] - samples[1]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_and_the_samples(kind: str) -> None:
    """Both of a density at given latents and of samples, which objectives such as WAE draw."""
    prior = built(kind, 3)
    for sampled in (False, True):
        prior.zero_grad()
        p = prior(None)
        z = draw(p, Noise.from_seed(0, 50), "prior") if sampled else 2.0 * torch.randn(50, 3)
        (z.square().sum() if sampled else p.log_prob(z).sum()).backward()
        for parameter in prior.parameters():
            assert parameter.grad.isfinite().all()
            assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_neither_density_nor_samples_wait_for_the_device(kind: str) -> None:
    with FakeTensorMode():
        p = KINDS[kind]().build(5, 2, SHAPE, GaussianPosterior())(torch.empty(6, 2))
        noise = Noise(torch.empty((), dtype=torch.int64), torch.empty(6, dtype=torch.int64))
        z = draw(p, noise, "prior", (2,))
        (p.log_prob(z) + p.log_prob(torch.empty(2, 6, 5))).sum().backward()


@pytest.mark.parametrize(
    "given", [{"prior": "flow"}, {"prior": "spline-flow", "conditioning": "onehot"}], ids=["affine", "spline"]
)
def test_the_flow_of_a_run(given: dict[str, Any], tmp_path: Path) -> None:
    flow_of_a_run(tmp_path, prior_transforms=2, prior_hidden="12", **given)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_a_density_that_is_no_gaussian(kind: str) -> None:
    """Codes on a thin ring, by maximum likelihood: above the best Gaussian by 0.5 nats or more, and not above the truth."""
    torch.manual_seed(2)
    angle = 2.0 * math.pi * torch.rand(4000)
    codes = torch.stack([angle.cos(), angle.sin()], -1) * (1.5 + 0.1 * torch.randn(4000, 1))
    train, held = codes[:1500], codes[1500:]
    prior = KINDS[kind]().build(2, 0, SHAPE, GaussianPosterior())
    optimizer = torch.optim.Adam(prior.parameters(), 0.01)
    for _ in range(300):
        optimizer.zero_grad()
        (-prior(None).log_prob(train).mean()).backward()
        optimizer.step()
    gaussian = DiagonalGaussian(train.mean(0), train.std(0).log()).log_prob(held).mean().item()
    truth = -(math.log(2 * math.pi * 1.5) + math.log(0.1) + 0.5 * math.log(2 * math.pi * math.e))
    with torch.no_grad():
        found = prior(None).log_prob(held).mean().item()
    assert gaussian + 0.5 < found < truth + 0.1
