"""The wrapped normal distribution against numerical integration, and the geometry of its ball."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vaekit.noise import Noise
from vaekit.probability.distributions import DiagonalGaussian, closed_form_kl, draw
from vaekit.probability.poincare_ball import FARTHEST, LARGEST, PoincareBall
from vaekit.probability.wrapped_normal import WrappedNormal

CURVATURES = [0.1, 1.0, 4.0]


def points(count: int, dim: int, ball: PoincareBall, spread: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return ball.exp(spread * torch.randn(count, dim, generator=generator, dtype=torch.float64))


def distance(ball: PoincareBall, start: Tensor, end: Tensor) -> Tensor:
    """Hyperbolic distance as textbooks have it: cosh(sqrt(c) d) = 1 + 2 c |x - y|^2 / ((1 - c |x|^2) (1 - c |y|^2))."""
    c = ball.curvature
    below = (1 - c * start.square().sum(-1)) * (1 - c * end.square().sum(-1))
    return 2 / math.sqrt(c) * torch.asinh((c * (start - end).square().sum(-1) / below).sqrt())


@pytest.mark.parametrize("curvature", CURVATURES)
def test_maps_at_the_origin_are_inverse_and_keep_distances(curvature: float) -> None:
    ball = PoincareBall(curvature)
    vector = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    point = ball.exp(vector)
    assert (point.norm(dim=-1) < 1 / math.sqrt(curvature)).all()
    torch.testing.assert_close(ball.log(point), vector)
    origin = torch.zeros_like(point)
    torch.testing.assert_close(distance(ball, origin, point), vector.norm(dim=-1))


@pytest.mark.parametrize("curvature", CURVATURES)
def test_addition_is_an_isometry_with_an_inverse(curvature: float) -> None:
    ball = PoincareBall(curvature)
    start, first, second = (points(30, 3, ball, seed=seed) for seed in range(3))
    torch.testing.assert_close(ball.add(-start, ball.add(start, first)), first)
    moved = distance(ball, ball.add(start, first), ball.add(start, second))
    torch.testing.assert_close(moved, distance(ball, first, second))
    torch.testing.assert_close(distance(ball, start, first), ball.log(ball.add(-start, first)).norm(dim=-1))


def test_geodesics_go_evenly_and_the_shortest_way() -> None:
    ball = PoincareBall(1.5)
    start, end = points(20, 3, ball, seed=1), points(20, 3, ball, seed=2)
    weights = torch.linspace(0, 1, 5)
    way = ball.between(start, end, weights)
    torch.testing.assert_close(way[:, 0], start)
    torch.testing.assert_close(way[:, -1], end)
    whole = distance(ball, start, end)
    for place, weight in enumerate(weights.tolist()):
        torch.testing.assert_close(distance(ball, start, way[:, place]), weight * whole)
        torch.testing.assert_close(distance(ball, way[:, place], end), (1 - weight) * whole)


def test_points_stay_inside() -> None:
    ball = PoincareBall(4.0)
    near = torch.tensor([[0.3, 0.1], [0.5, 0.0], [0.0, 7.0]])
    kept = ball.inside(near)
    assert torch.equal(kept[0], near[0])
    torch.testing.assert_close(2.0 * kept[1:].norm(dim=-1), torch.full((2,), LARGEST))
    origin = torch.zeros(2, 2)
    torch.testing.assert_close(2.0 * distance(ball, origin, kept[1:]), torch.full((2,), FARTHEST), rtol=1e-2, atol=0)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.6, -0.3), (-1.5, 1.0)])
def test_density_integrates_to_one_in_hyperbolic_volume(curvature: float, centre: tuple[float, float]) -> None:
    """On a grid of geodesic polar coordinates of the origin: the volume is sinh(sqrt(c) r) / sqrt(c) dr dangle."""
    ball = PoincareBall(curvature)
    mean = ball.exp(torch.tensor(centre, dtype=torch.float64))
    log_scale = torch.tensor([-0.9, -0.3], dtype=torch.float64)
    angles, radii, root = 1500, 500, math.sqrt(curvature)
    longest = math.hypot(*centre) + 8 * math.exp(-0.3)
    radius = (torch.arange(radii).double() + 0.5) * (longest / radii)
    angle = torch.arange(angles).double() * (2 * math.pi / angles)
    grid = torch.stack([angle.cos(), angle.sin()], -1)[None] * radius[:, None, None]
    density = WrappedNormal(mean, log_scale, ball).log_prob(ball.exp(grid)).exp()
    volume = torch.sinh(root * radius) / root * (longest / radii) * (2 * math.pi / angles)
    assert (density.sum(1) * volume).sum().item() == pytest.approx(1.0, abs=2e-4)


def test_without_curvature_it_is_the_normal_of_twice_the_point() -> None:
    ball = PoincareBall(1e-9)
    mean, value = torch.tensor([0.4, -0.7, 0.2]), torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    log_scale = torch.tensor([-0.5, 0.1, 0.3])
    flat = DiagonalGaussian(2 * mean, log_scale)
    q = WrappedNormal(mean, log_scale, ball)
    torch.testing.assert_close(q.log_prob(value), flat.log_prob(2 * value), rtol=1e-5, atol=1e-5)
    noise = Noise.from_seed(0, 6)
    torch.testing.assert_close(2 * draw(q, noise, "latent"), draw(flat, noise, "latent"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("curvature", CURVATURES)
def test_samples_seen_from_their_centre_are_normal(curvature: float) -> None:
    """The vectors of the centre's log map are the noise itself, and the density is that of a change of variables."""
    ball, dim, count = PoincareBall(curvature), 4, 200
    mean = points(count, dim, ball, spread=0.5)
    log_scale = 0.3 * torch.randn(count, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1.0
    q, noise = WrappedNormal(mean, log_scale, ball), Noise.from_seed(0, count)
    z = draw(q, noise, "latent")
    standard = noise.normal("latent", (dim,)).double()
    torch.testing.assert_close(ball.log(ball.add(-mean, z)), log_scale.exp() * standard, rtol=1e-7, atol=1e-9)

    def sampled(vector: Tensor, place: int) -> Tensor:
        return ball.add(mean[place], ball.exp(log_scale[place].exp() * vector))

    for place in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda v, at=place: sampled(v, at), standard[place])
        metric = 2.0 / (1.0 - curvature * z[place].square().sum())
        log_volume = torch.linalg.slogdet(jacobian).logabsdet + dim * metric.log()
        base = -0.5 * (standard[place].square() + math.log(2 * math.pi)).sum()
        torch.testing.assert_close(q.log_prob(z)[place], base - log_volume)


def test_there_is_no_closed_form_of_its_rate() -> None:
    q = WrappedNormal(torch.zeros(2, 3), torch.zeros(2, 3), PoincareBall(1.0))
    assert closed_form_kl(q, q) is None


def test_axes_of_samples_stand_for_themselves() -> None:
    ball = PoincareBall(0.7)
    q = WrappedNormal(points(4, 3, ball).float(), torch.full((4, 3), -0.5), ball)
    noise = Noise.from_seed(0, 4)
    z = draw(q, noise, "latent", (2, 3))
    assert z.shape == (2, 3, 4, 3)
    assert q.log_prob(z).shape == (2, 3, 4)
    alone = WrappedNormal(q.mean[1:2], q.log_scale[1:2], ball)
    own = draw(alone, Noise(noise.key, noise.index[1:2]), "latent", (2, 3))
    torch.testing.assert_close(own[..., 0, :], z[..., 1, :])
    torch.testing.assert_close(alone.log_prob(own)[..., 0], q.log_prob(z)[..., 1])
    same = WrappedNormal(q.mean[0], q.log_scale[0], ball)
    assert draw(same, noise, "prior", (5,)).shape == (5, 4, 3)


@pytest.mark.parametrize("curvature", [1e-9, 1.0, 10.0])
def test_extremes_in_single_precision_are_finite(curvature: float) -> None:
    """Centres at the origin and as far out as float32 goes, narrow and wide, points on the centre and at the boundary."""
    ball = PoincareBall(curvature)
    far = ball.inside(torch.tensor([1e9, 0.0, 0.0]))
    mean = torch.stack([torch.zeros(3), far, -far, 0.5 * far]).requires_grad_()
    log_scale = torch.tensor([-12.0, 3.0, 0.0, -30.0])[:, None].repeat(1, 3).requires_grad_()
    q = WrappedNormal(mean, log_scale, ball)
    z = draw(q, Noise.from_seed(0, 4), "latent", (20,))
    assert (math.sqrt(curvature) * z.norm(dim=-1) <= LARGEST + 1e-6).all()
    prior = WrappedNormal(torch.zeros(3), torch.zeros(3), ball)
    own = (q.log_prob(mean), prior.log_prob(mean), prior.log_prob(z), q.log_prob(z).clamp(-1e30, 1e30))
    for value in (z, *own):
        assert torch.isfinite(value).all()
        for gradient in torch.autograd.grad(value.mean(), (mean, log_scale), retain_graph=True, allow_unused=True):
            assert gradient is None or torch.isfinite(gradient).all()
