"""Pieces of flows: masked networks, transforms, and the distribution that remembers what it drew."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from vaekit.latents.flows import Autoregressive, Flow, MaskedNetwork, affine, composed, gated, spline
from vaekit.latents.residual_flows import MARGIN, PlanarTransform, RadialTransform
from vaekit.noise import Noise
from vaekit.probability.distributions import StandardNormal, center_of, draw, mean_of

UNIVARIATE = {"gated": (gated, 2), "affine": (affine, 2), "spline": (spline, 11)}


def stirred(network: torch.nn.Module) -> torch.nn.Module:
    """Weights far from those of the start, in float64."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape))
    return network.double()


@pytest.mark.parametrize("num_context", [0, 3])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("num_latents", "passes", "hidden"), [(5, None, (16, 16)), (5, 2, (16,)), (7, 3, (4, 9)), (5, 1, (6,))]
)
def test_what_comes_out_depends_on_earlier_groups_alone(
    num_latents: int, passes: int | None, hidden: tuple[int, ...], reverse: bool, num_context: int
) -> None:
    torch.manual_seed(0)
    network = stirred(MaskedNetwork(num_latents, num_context, hidden, 2, passes, reverse))
    context = torch.randn(1, num_context, dtype=torch.float64) if num_context else None
    z = torch.randn(1, num_latents, dtype=torch.float64)
    slopes = jacobian(network.given(context), z)[0, :, :, 0].abs().amax(1)  # (output's latent, input's latent)
    group = torch.arange(num_latents) * (passes or num_latents) // num_latents
    group = group.flip(0) if reverse else group
    allowed = group[:, None] > group
    assert (slopes[~allowed] == 0).all()
    if min(hidden) >= num_latents:
        assert (slopes[allowed] > 0).all()
    if num_context:
        by_context = jacobian(lambda given: network.given(given)(z), context)[0, :, :, 0].abs().amax((1, 2))
        assert (by_context > 0).all()


@pytest.mark.parametrize("name", list(UNIVARIATE))
@pytest.mark.parametrize("passes", [None, 2, 1])
@pytest.mark.parametrize("num_latents", [1, 4])
def test_autoregressive_transform_has_its_inverse_and_its_determinant(
    name: str, passes: int | None, num_latents: int
) -> None:
    torch.manual_seed(1)
    univariate, outputs = UNIVARIATE[name]
    module = Autoregressive(stirred(MaskedNetwork(num_latents, 3, (8,), outputs, passes)), univariate)
    transform = module(torch.randn(1, 3, dtype=torch.float64))
    x = 1.5 * torch.randn(6, 1, num_latents, dtype=torch.float64)
    y, log_determinant = transform.call_and_ladj(x)
    assert (y - x).abs().max() > 0.1
    torch.testing.assert_close(transform.inv(y), x, rtol=1e-7, atol=1e-7)
    for point, found in zip(x, log_determinant, strict=True):
        expected = torch.linalg.slogdet(jacobian(lambda value: transform(value[None])[0], point[0])).logabsdet
        torch.testing.assert_close(found[0], expected)


def planar(scale: float, num_latents: int = 3) -> PlanarTransform:
    u, w = scale * torch.randn(2, 500, num_latents, dtype=torch.float64)
    return PlanarTransform(u, w, torch.randn(500, dtype=torch.float64))


def radial(scale: float, num_latents: int = 3) -> RadialTransform:
    alpha, beta = scale * torch.randn(2, 500, dtype=torch.float64)
    return RadialTransform(torch.randn(500, num_latents, dtype=torch.float64), alpha, beta)


@pytest.mark.parametrize("make", [planar, radial])
@pytest.mark.parametrize("num_latents", [1, 3])
def test_determinant_is_that_of_the_jacobian(make: type, num_latents: int) -> None:
    torch.manual_seed(2)
    transform = make(1.5, num_latents)
    x = torch.randn(500, num_latents, dtype=torch.float64)
    y, log_determinant = transform.call_and_ladj(x)
    assert torch.equal(transform(x), y)
    assert torch.equal(transform.log_abs_det_jacobian(x, y), log_determinant)
    rows = [torch.autograd.functional.jacobian(lambda v, i=i: transform(v).sum(0)[i], x) for i in range(num_latents)]
    every = torch.stack(rows, 1)
    sign, expected = torch.linalg.slogdet(every)
    assert (sign > 0).all()
    torch.testing.assert_close(log_determinant, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 1e4])
def test_planar_keeps_its_constraint(scale: float) -> None:
    """u'.w > -1 whatever u and w are (Rezende and Mohamed 2015, appendix A.1), and only u's part along w is changed."""
    torch.manual_seed(3)
    u, w = scale * torch.randn(2, 500, 4, dtype=torch.float64)
    transform = PlanarTransform(u, w, torch.zeros(500, dtype=torch.float64))
    product = (transform.u * w).sum(-1)
    assert product.min() > -1.0
    torch.testing.assert_close(product, transform.slope, rtol=1e-4, atol=1e-4)
    across = transform.u - u
    torch.testing.assert_close(across.norm(dim=-1) * w.norm(dim=-1), (across * w).sum(-1).abs())
    assert transform.call_and_ladj(torch.zeros(500, 4, dtype=torch.float64))[1].min() >= math.log(MARGIN) - 1e-9


def test_the_constraint_can_be_approached_and_is_no_bound_above() -> None:
    slope = PlanarTransform(torch.tensor([[-1e3], [1e3]]), torch.ones(2, 1), torch.zeros(2)).slope
    assert slope[0].item() == pytest.approx(-1.0 + MARGIN)
    assert slope[1].item() == pytest.approx(1e3, rel=2e-3)


@pytest.mark.parametrize("scale", [0.1, 5.0, 1e3])
def test_radial_is_monotonic_along_a_ray(scale: float) -> None:
    torch.manual_seed(4)
    transform = radial(scale)
    direction = torch.nn.functional.normalize(torch.randn(500, 3, dtype=torch.float64), dim=-1)
    radii = torch.linspace(0.0, 5.0, 400, dtype=torch.float64)
    points = transform.center + radii[:, None, None] * direction
    along = ((transform(points) - transform.center) * direction).sum(-1)
    assert (along.diff(dim=0) > 0).all()
    assert transform.call_and_ladj(points)[1].isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("make", [planar, radial])
def test_gradients_are_finite_at_extremes(make: type, scale: float) -> None:
    torch.manual_seed(5)
    u, w = (scale * torch.randn(2, 50, 64)).requires_grad_(), torch.zeros(50, 64, requires_grad=True)
    b = (scale * torch.randn(50)).requires_grad_()
    for given in ((u[0], w, b), (u[0], u[1], b)):
        transform = PlanarTransform(*given) if make is planar else RadialTransform(given[0], b, 2.0 * b)
        x = given[1] if make is planar else given[0]  # at the center of a radial transform, the radius is 0
        y, log_determinant = transform.call_and_ladj(x)
        found = torch.autograd.grad(y.sum() + log_determinant.sum(), [u, b], allow_unused=True)
        assert all(g.isfinite().all() for g in found)


def shifted() -> Flow:
    return Flow(StandardNormal(2), composed([torch.distributions.AffineTransform(1.0, 2.0, event_dim=1)]))


def test_the_density_of_what_was_drawn_is_remembered() -> None:
    flow, noise = shifted(), Noise.from_seed(0, 3)
    first, second = draw(flow, noise, "a"), draw(flow, noise, "b", (4,))
    assert flow.log_prob(first) is flow.log_prob(first)
    assert flow.log_prob(second) is flow.log_prob(second)
    assert flow.log_prob(first.clone()) is not flow.log_prob(first)
    torch.testing.assert_close(flow.log_prob(first.clone()), flow.log_prob(first))
    expected = StandardNormal(2).log_prob(1.0 + 2.0 * second) + 2 * math.log(2.0)
    torch.testing.assert_close(flow.log_prob(second), expected)


def test_what_nobody_holds_is_forgotten() -> None:
    flow, noise = shifted(), Noise.from_seed(0, 3)
    kept = draw(flow, noise, "a")
    for _ in range(5):
        draw(flow, noise, "b")
    assert len(flow._drawn) == 1
    assert kept in flow._drawn


def test_a_flow_has_a_center_and_no_mean() -> None:
    class Centered(StandardNormal):
        mean = torch.zeros(3, 2)

    flow = Flow(Centered(2), shifted().transform)
    assert mean_of(flow) is None
    center: Tensor | None = center_of(flow)
    assert center is not None
    torch.testing.assert_close(center, torch.full((3, 2), -0.5))
