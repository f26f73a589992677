"""The metric against direct sums and autograd, generalized leapfrog steps against brute force."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from vaekit.models.hamiltonian_flow import LeapfrogFlow, Tempering
from vaekit.models.metric import Kernels, Memory, Metric, MetricNetwork
from vaekit.models.riemannian_flow import RiemannianFlow, log_abs_det
from vaekit.networks.mlp import MLP

D, TEMPERATURE, FLOOR = 3, 1.2, 0.05


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kernels(*lead: int, seed: int = 0) -> Kernels:
    """Centroids as posterior means are, matrices as a network makes them: diagonals to 2, the rest to 1."""
    roots = normal(*lead, D, D, seed=seed).tanh().tril(-1)
    roots = roots + torch.diag_embed(2.0 * normal(*lead, D, seed=seed + 1).sigmoid())
    return Kernels(normal(*lead, D, seed=seed + 2), roots @ roots.mT)


# a remembered group, shared by all, and one of each image's own
METRIC = Metric((kernels(7), kernels(2, 1, seed=5)), TEMPERATURE, FLOOR)
LATENTS = normal(4, 2, D, seed=9)
MOMENTUM = normal(4, 2, D, seed=10)


def summed(z: Tensor, image: int) -> Tensor:
    """G^-1 at one point (latent,), term by term."""
    found = FLOOR * torch.eye(D, dtype=torch.float64)
    memory, own = METRIC.kernels
    for centre, matrix in [*zip(*memory, strict=True), (own.centres[image, 0], own.matrices[image, 0])]:
        found = found + matrix * torch.exp(-(centre - z).square().sum() / TEMPERATURE**2)
    return found


def slope(z: Tensor) -> Tensor:
    """Of a bent log-density."""
    return -z + 2.0 * torch.sin(2.0 * z.flip(-1))


def flow(
    metric: Metric, size: float = 0.05, iterations: int = 3, steps: int = 2, tempering: Tempering = "none"
) -> RiemannianFlow:
    """Step sizes differ from latent to latent."""
    leapfrog = LeapfrogFlow(D, steps, 2.0 * size, 0.5, tempering, 0.4).double()
    with torch.no_grad():
        leapfrog.step_change.copy_(torch.tensor([-0.5, 0.0, 0.5]))
    return RiemannianFlow(leapfrog.requires_grad_(False), metric, iterations)


def alone(image: int) -> Metric:
    """The metric of one image, for points (latent,)."""
    memory, own = METRIC.kernels
    return Metric((memory, Kernels(own.centres[image], own.matrices[image])), TEMPERATURE, FLOOR)


def test_the_inverse_metric_is_the_sum_over_centroids() -> None:
    place = METRIC.at(LATENTS)
    expected = torch.stack([torch.stack([summed(z, image) for image, z in enumerate(row)]) for row in LATENTS])
    torch.testing.assert_close(place.inverse, expected)
    torch.testing.assert_close(place.tensor @ expected, torch.eye(D, dtype=torch.float64).expand_as(expected))
    torch.testing.assert_close(place.root @ place.root.mT, expected)
    torch.testing.assert_close(place.log_volume, 0.5 * torch.logdet(expected))
    torch.testing.assert_close(place.velocity(MOMENTUM), torch.einsum("...ij,...j->...i", expected, MOMENTUM))


def test_force_and_shear_are_derivatives_of_the_direct_sum() -> None:
    place = METRIC.at(LATENTS)
    for sample, image in ((0, 0), (3, 1)):
        rho = MOMENTUM[sample, image]

        def energy(z: Tensor, image: int = image, rho: Tensor = rho) -> Tensor:
            inverse = summed(z, image)
            return -0.5 * torch.logdet(inverse) + 0.5 * rho @ inverse @ rho

        def velocity(z: Tensor, image: int = image, rho: Tensor = rho) -> Tensor:
            return summed(z, image) @ rho

        z = LATENTS[sample, image]
        torch.testing.assert_close(place.force(MOMENTUM)[sample, image], jacobian(energy, z))
        torch.testing.assert_close(place.shear(MOMENTUM)[sample, image], jacobian(velocity, z))


@pytest.mark.parametrize("tempering", ["none", "fixed", "free"])
def test_the_identity_gives_the_dynamics_of_the_hamiltonian_model(tempering: Tempering) -> None:
    """No kernels, or none that reach so far, and lambda 1; a lambda of 1/4 halves the steps, momentum whitened."""
    plain = flow(METRIC, tempering=tempering).leapfrog
    expected = plain(slope, LATENTS, MOMENTUM)
    far = Kernels(torch.full((2, D), 100.0, dtype=torch.float64), kernels(2).matrices)
    for metric in (Metric((), 1.0, 1.0), Metric((far,), 1.0, 1.0)):
        found = RiemannianFlow(plain, metric, 2)(slope, LATENTS, MOMENTUM)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    narrow = LeapfrogFlow(D, 2, 0.05, 0.5, tempering, 0.4).double().requires_grad_(False)
    narrow.load_state_dict(plain.state_dict())
    narrow.largest_step = 0.5 * plain.largest_step
    found = RiemannianFlow(plain, Metric((), 1.0, 0.25), 2)(slope, LATENTS, MOMENTUM)
    torch.testing.assert_close(found, narrow(slope, LATENTS, MOMENTUM), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("iterations", [1, 2, 3])
@pytest.mark.parametrize(("size", "tempering"), [(0.05, "fixed"), (0.3, "none"), (0.3, "free")])
def test_the_volume_is_that_of_the_map_whatever_the_iterations(
    iterations: int, size: float, tempering: Tempering
) -> None:
    """log |det| by autograd of (z_0, gamma) -> (z_K, C^T rho_K), at several points, even of wrong solutions."""
    for sample in range(3):
        moves = flow(alone(1), size, iterations, tempering=tempering)

        def moved(both: Tensor, moves: RiemannianFlow = moves) -> Tensor:
            return torch.cat(moves(slope, both[:D], both[D:])[:2])

        both = torch.cat([LATENTS[sample, 1], MOMENTUM[sample, 1]])
        expected = torch.linalg.slogdet(jacobian(moved, both)).logabsdet
        found = moves(slope, both[:D], both[D:]).log_volume
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_first_steps_preserve_volume_and_more_iterations_do_so_better() -> None:
    """The step sizes that training starts with, 0.01, and the default of 3 iterations: far below 1e-3 for each step."""
    rho = torch.einsum("...ij,...j->...i", METRIC.at(LATENTS).root.mT.inverse(), MOMENTUM) / math.sqrt(0.3)
    errors = [flow(METRIC, 0.01, count).defect(slope, LATENTS, rho).abs().max().item() for count in (1, 2, 3, 4, 6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 1e-4
    assert errors[-1] < 1e-8


def test_the_way_back_is_the_way_with_reversed_momentum() -> None:
    """Of solved steps; three iterations come back nearly."""
    for iterations, tolerance in ((30, 1e-10), (3, 2e-3)):
        moves = flow(METRIC, iterations=iterations)
        end, momentum, volume = moves(slope, LATENTS, MOMENTUM)
        assert (end - LATENTS).abs().mean() > 0.02
        start, back, undone = moves(slope, end, -momentum)
        torch.testing.assert_close(start, LATENTS, rtol=0, atol=tolerance)
        torch.testing.assert_close(-back, MOMENTUM, rtol=0, atol=tolerance)
        torch.testing.assert_close(undone, -volume, rtol=0, atol=10 * tolerance)


def test_energy_is_conserved_to_second_order() -> None:
    """The same time in twice as many steps of half the size: a quarter of the error; H in whitened momentum."""

    def energy(z: Tensor, standard: Tensor) -> Tensor:
        potential = 0.5 * z.square().sum(-1) - METRIC.at(z).log_volume
        return potential + 0.5 * standard.square().sum(-1)

    def error(steps: int) -> float:
        leapfrog = LeapfrogFlow(D, steps, 2.0 * 0.4 / steps, 0.5, "none").double().requires_grad_(False)
        end, momentum, _ = RiemannianFlow(leapfrog, METRIC, 12)(lambda z: -z, LATENTS, MOMENTUM)
        return (energy(end, momentum) - energy(LATENTS, MOMENTUM)).abs().mean().item()

    assert error(20) < 4e-2
    assert error(40) / error(20) == pytest.approx(0.25, abs=0.03)


def test_no_steps_move_nothing() -> None:
    end, momentum, volume = flow(METRIC, steps=0)(slope, LATENTS, MOMENTUM)
    torch.testing.assert_close(end, LATENTS)
    torch.testing.assert_close(momentum, MOMENTUM)
    torch.testing.assert_close(volume, torch.zeros(4, 2, dtype=torch.float64))


def test_a_determinant_near_one_is_that_of_torch() -> None:
    matrices = torch.eye(5, dtype=torch.float64) + 0.2 * normal(6, 5, 5)
    torch.testing.assert_close(log_abs_det(matrices), torch.linalg.slogdet(matrices).logabsdet)


@pytest.mark.parametrize("num_latents", [1, 4])
def test_the_network_makes_products_of_lower_triangular_matrices(num_latents: int) -> None:
    torch.manual_seed(0)
    network = MetricNetwork(MLP((9,)).encoder((1, 4, 4), 0), num_latents)
    matrices = network(torch.rand(5, 1, 4, 4), None)
    assert matrices.shape == (5, num_latents, num_latents)
    root = torch.linalg.cholesky(matrices)
    features = network.encoder(torch.rand(0, 1, 4, 4))
    assert features.shape == (0, 9)
    assert (root.diagonal(dim1=-2, dim2=-1) < 2.0).all()
    assert (root.tril(-1).abs() < 1.0).all()
    assert not torch.allclose(matrices[0], matrices[1])
    matrices.sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())


def test_the_memory_is_a_ring() -> None:
    memory, seen = Memory(5, 2), torch.arange(13.0)
    expected: list[float] = [0.0] * 5
    at = 0
    for part in seen.split([3, 1, 4, 5]):
        centres = part[:, None].expand(-1, 2)
        memory.take(centres, torch.diag_embed(centres))
        for value in part.tolist():
            expected[at] = value
            at = (at + 1) % 5
        assert memory.centres[:, 0].tolist() == expected
        assert torch.equal(memory.matrices, torch.diag_embed(memory.centres))
    memory.take(torch.arange(100.0, 112.0)[:, None].expand(-1, 2), torch.zeros(12, 2, 2))
    assert sorted(memory.centres[:, 0].tolist()) == [107.0, 108.0, 109.0, 110.0, 111.0]
