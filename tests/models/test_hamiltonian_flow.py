"""Leapfrog steps against exact dynamics, their Jacobian, and their gradients against finite differences."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.autograd.functional import jacobian
from torch.func import functional_call

from vaekit.latents.gaussian import StandardNormalPrior
from vaekit.models.hamiltonian_flow import JointDensity, LeapfrogFlow, Tempering
from vaekit.networks import convolution
from vaekit.networks.conv import Conv
from vaekit.networks.layers import ACTIVATIONS
from vaekit.networks.mlp import MLP
from vaekit.probability.likelihoods import Bernoulli

POINT = torch.tensor([0.7, -0.4], dtype=torch.float64)
NUMBERS = torch.tensor([-0.3, 1.1], dtype=torch.float64)
TEMPERINGS: tuple[Tempering, ...] = ("none", "fixed", "free")


def density(z: Tensor) -> Tensor:
    """A bent log-density, whose slope is not linear."""
    return -0.5 * (z[..., 0].square() + (z[..., 1] - z[..., 0].square()).square()) + z[..., 1].sin()


def slope(z: Tensor) -> Tensor:
    bend = z[..., 1] - z[..., 0].square()
    return torch.stack([-z[..., 0] + 2.0 * bend * z[..., 0], -bend + z[..., 1].cos()], -1)


def made(steps: int = 4, tempering: Tempering = "none", largest: float = 0.6, learned: bool = True) -> LeapfrogFlow:
    """Two latents, with a step size of their own each, and parameters away from their start."""
    flow = LeapfrogFlow(2, steps, largest, 0.3, tempering, 0.4).double()
    if learned:
        for place, parameter in enumerate(flow.parameters()):
            with torch.no_grad():
                parameter.add_(torch.linspace(-0.5, 0.8, parameter.numel()).view_as(parameter) + 0.1 * place)
    return flow.requires_grad_(False)


def test_the_slope_is_that_of_the_density() -> None:
    torch.testing.assert_close(jacobian(density, POINT), slope(POINT))


@pytest.mark.parametrize("size", [0.1, 0.5])
def test_a_step_in_a_parabola_is_the_matrix_of_the_scheme(size: float) -> None:
    """For log p = -z^2 / 2 one step is linear: z' = (1 - e^2/2) z + e rho, rho' = -e (1 - e^2/4) z + (1 - e^2/2) rho."""
    flow = LeapfrogFlow(2, 3, 2 * size, 0.5, "none")
    step = torch.tensor([[1 - size**2 / 2, size], [-size * (1 - size**2 / 4), 1 - size**2 / 2]], dtype=torch.float64)
    expected = torch.linalg.matrix_power(step, 3) @ torch.stack([POINT, NUMBERS])
    found = torch.stack(flow.double()(lambda z: -z, POINT, NUMBERS)[:2])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("tempering", TEMPERINGS)
def test_the_jacobian_determinant_is_the_claimed_one(tempering: Tempering) -> None:
    """1 from (z_0, gamma); prod alpha_k^d = beta_0^(d/2) from (z_0, rho_0)."""
    flow = made(tempering=tempering)
    widening = flow.factors.prod()

    def from_numbers(both: Tensor) -> Tensor:
        return torch.cat(flow(slope, both[:2], both[2:])[:2])

    def from_momentum(both: Tensor) -> Tensor:
        return torch.cat(flow(slope, both[:2], both[2:] * widening)[:2])

    both = torch.cat([POINT, NUMBERS])
    torch.testing.assert_close(torch.linalg.det(jacobian(from_numbers, both)).item(), 1.0, rtol=1e-9, atol=0)
    expected = flow.factors.prod().item() ** 2
    assert (expected == 1.0) == (tempering == "none")
    both[2:] /= widening
    torch.testing.assert_close(torch.linalg.det(jacobian(from_momentum, both)).item(), expected, rtol=1e-9, atol=0)


def test_without_tempering_the_way_back_is_the_way_with_reversed_momentum() -> None:
    flow = made()
    end, momentum, _ = flow(slope, POINT, NUMBERS)
    assert (end - POINT).abs().min() > 0.05
    start, back, _ = flow(slope, end, -momentum)
    torch.testing.assert_close(start, POINT, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(-back, NUMBERS, rtol=1e-12, atol=1e-12)


def test_energy_is_conserved_to_second_order() -> None:
    """The same time in twice as many steps of half the size: a quarter of the error."""

    def error(steps: int) -> float:
        flow = LeapfrogFlow(2, steps, 2.0 / steps, 0.5, "none").double()
        end, momentum, _ = flow(slope, POINT, NUMBERS)
        energy = -density(end) + 0.5 * momentum.square().sum()
        return abs((energy - (-density(POINT) + 0.5 * NUMBERS.square().sum())).item())

    assert error(20) < 2e-3
    assert error(40) / error(20) == pytest.approx(0.25, abs=0.02)
    assert error(80) / error(40) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_quadratic_schedule(steps: int) -> None:
    """1 / sqrt(beta_k) falls from 1 / sqrt(beta_0) to 1 as k^2; free factors start there."""
    roots = [(1 - 0.4**-0.5) * k**2 / steps**2 + 0.4**-0.5 for k in range(steps + 1)]
    expected = torch.tensor([after / before for before, after in pairwise(roots)])
    for tempering in ("fixed", "free"):
        factors = made(steps, tempering, learned=False).factors
        torch.testing.assert_close(factors.float(), expected, rtol=1e-5, atol=1e-6)
        assert factors.prod().item() == pytest.approx(math.sqrt(0.4), rel=1e-6)
    assert torch.equal(made(steps, "none").factors, torch.ones(steps, dtype=torch.float64))


def test_step_sizes_start_where_asked_and_keep_below_their_limit() -> None:
    flow = LeapfrogFlow(3, 2, largest_step=0.5, first_step=0.1)
    torch.testing.assert_close(flow.step_sizes, torch.full((3,), 0.05))
    with torch.no_grad():
        flow.step_change.copy_(torch.tensor([-3.0, 0.0, 9.0]))
    assert (flow.step_sizes > 0).all()
    assert (flow.step_sizes < 0.5).all()
    assert flow.step_sizes[0] < flow.step_sizes[1] < flow.step_sizes[2]


@pytest.mark.parametrize("tempering", TEMPERINGS)
def test_no_steps_move_nothing(tempering: Tempering) -> None:
    flow = LeapfrogFlow(2, 0, tempering=tempering).double()
    end, momentum, _ = flow(slope, POINT, NUMBERS)
    assert torch.equal(end, POINT)
    assert torch.equal(momentum, NUMBERS)


NETWORKS = [(MLP(hidden=(5,), activation=name), name) for name in ACTIVATIONS]
NETWORKS += [(Conv(channels=(16,), dense=4), "conv"), (Conv(channels=(16,), dense=4, normalization="group"), "group")]


@pytest.mark.parametrize(("network", "name"), NETWORKS, ids=[name for _, name in NETWORKS])
def test_gradients_through_the_steps_are_finite_differences(
    network: MLP | Conv, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By latents, momentum and the decoder's weights, whatever it writes over in place; in float64."""
    monkeypatch.setattr(convolution, "_NUMBERS", 1)  # the fast path would be taken for these few pixels too
    torch.manual_seed(3)
    decoder = network.decoder((1, 4, 3), 0, 2).double()
    target = (torch.rand(2, 1, 4, 3) < 0.4).double()
    flow, prior, likelihood = made(2), StandardNormalPrior(2)(None), Bernoulli().build()
    weights = {key: (weight + 0.3 * torch.randn_like(weight)).detach() for key, weight in decoder.named_parameters()}

    def moved(start: Tensor, standard: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(weights, values, strict=True))
        joint = JointDensity(lambda z: likelihood(functional_call(decoder, given, (z,))), prior, target, None)
        return flow(joint.slope, start, standard)[:2]

    inputs = (torch.randn(2, 2).double(), torch.randn(2, 2).double(), *weights.values())
    gradcheck(moved, tuple(tensor.requires_grad_() for tensor in inputs), fast_mode=True)


def test_the_slope_is_a_number_where_no_gradients_are_recorded() -> None:
    decoder, target = nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (1, 2, 2))), torch.ones(3, 1, 2, 2)
    head = Bernoulli().build()
    joint = JointDensity(lambda z: head(decoder(z)), StandardNormalPrior(2)(None), target, None)
    latents = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    recorded = joint.slope(latents)
    with torch.no_grad():
        number = joint.slope(latents)
    assert recorded.requires_grad
    assert not number.requires_grad
    assert torch.equal(number, recorded)
    expected = (torch.ones(3, 4) - decoder(latents).flatten(1).sigmoid()) @ decoder[0].weight - latents
    torch.testing.assert_close(number, expected)
