"""The von Mises-Fisher distribution against numerical integration."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, stats
from torch import Tensor

from vaekit.noise import Noise
from vaekit.probability.bessel import cumulant
from vaekit.probability.distributions import StandardNormal, closed_form_kl, draw
from vaekit.probability.von_mises_fisher import UniformSphere, VonMisesFisher, across, half_angle, log_area

DIMS = [2, 3, 5, 20, 100]
KAPPAS = [0.5, 1.0, 7.0, 60.0, 1000.0]
Z_BOUND = 4.5


def directions(count: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    normal = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(normal, dim=-1).to(dtype)


def integral(dim: int, kappa: float, function: object = None, until: float = math.pi) -> float:
    """Of exp(kappa (w - 1)) function(w) over the angles up to `until`, w its cosine, per area of the (d - 2)-sphere."""

    def density(angle: float) -> float:
        w = math.cos(angle)
        return math.exp(-2.0 * kappa * math.sin(angle / 2) ** 2) * math.sin(angle) ** (dim - 2) * (function or _one)(w)

    scale = math.sqrt((dim - 1) / max(kappa, 1.0))
    edges = [0.0, *(edge for edge in (0.5 * scale, scale, 2 * scale, 6 * scale) if edge < until), until]
    return sum(
        integrate.quad(density, low, high, epsabs=0, epsrel=1e-11, limit=200)[0] for low, high in pairwise(edges)
    )


def _one(w: float) -> float:
    return 1.0


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kappa", KAPPAS)
def test_kl_is_the_integral(dim: int, kappa: float) -> None:
    """KL = E[kappa w] - log of the mean of exp(kappa w) over the sphere, by quadrature over w."""
    weight, uniform = integral(dim, kappa), integral(dim, 0.0)
    deficit = -math.log(weight / uniform)
    expected = deficit - kappa * integral(dim, kappa, lambda w: 1.0 - w) / weight
    q = VonMisesFisher(directions(1, dim, dtype=torch.float64), torch.tensor([kappa], dtype=torch.float64))
    assert closed_form_kl(q, UniformSphere(dim)).item() == pytest.approx(expected, rel=1e-7)
    single = VonMisesFisher(directions(1, dim), torch.tensor([kappa]))
    found = closed_form_kl(single, UniformSphere(dim))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_another_prior_has_no_closed_form() -> None:
    assert closed_form_kl(VonMisesFisher(directions(1, 3), torch.ones(1)), StandardNormal(3)) is None


@pytest.mark.parametrize("kappa", [0.0, 1.0, 30.0, 1000.0])
def test_density_integrates_to_one_on_the_circle_and_the_sphere(kappa: float) -> None:
    count = 4000
    angle = torch.arange(count).double() * (2 * math.pi / count)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    q = VonMisesFisher(directions(1, 2, dtype=torch.float64), torch.tensor([kappa], dtype=torch.float64))
    assert q.log_prob(circle).exp().mean().item() * 2 * math.pi == pytest.approx(1.0, abs=1e-9)
    side = 1600
    height, longitude = (
        (torch.arange(side).double() + 0.5) * (2 / side) - 1,
        (torch.arange(side)) * (2 * math.pi / side),
    )
    height, longitude = torch.meshgrid(height, longitude.double(), indexing="ij")
    round_ = (1 - height.square()).sqrt()
    sphere = torch.stack([round_ * longitude.cos(), round_ * longitude.sin(), height], -1).flatten(0, 1)
    q = VonMisesFisher(directions(1, 3, dtype=torch.float64), torch.tensor([kappa], dtype=torch.float64))
    assert q.log_prob(sphere).exp().mean().item() * 4 * math.pi == pytest.approx(1.0, abs=2e-4)


def test_density_is_scipys() -> None:
    for dim, kappa in ((2, 0.3), (3, 5.0), (10, 80.0)):
        mean, points = directions(1, dim, dtype=torch.float64), directions(50, dim, seed=1, dtype=torch.float64)
        q = VonMisesFisher(mean, torch.tensor([kappa], dtype=torch.float64))
        expected = stats.vonmises_fisher(mean[0].numpy(), kappa).logpdf(points.numpy())
        np.testing.assert_allclose(q.log_prob(points).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_uniform_density_is_one_over_the_area() -> None:
    assert log_area(2) == pytest.approx(math.log(2 * math.pi))
    assert log_area(4) == pytest.approx(math.log(2 * math.pi**2))
    points = draw(UniformSphere(7), Noise.from_seed(0, 5), "prior", (3,))
    torch.testing.assert_close(points.norm(dim=-1), torch.ones(3, 5))
    assert torch.equal(UniformSphere(7).log_prob(points), torch.full((3, 5), -log_area(7)))


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kappa", [0.0, 1.0, 25.0, 1e5])
def test_quantiles_invert_the_distribution_function(dim: int, kappa: float) -> None:
    probabilities = torch.tensor([1e-6, 0.01, 0.3, 0.5, 0.9, 0.999], dtype=torch.float64)
    angles = 2.0 * half_angle(torch.tensor([kappa], dtype=torch.float64), probabilities[:, None], dim)[:, 0]
    whole = integral(dim, kappa)
    for probability, angle in zip(probabilities.tolist(), angles.tolist(), strict=True):
        assert integral(dim, kappa, until=angle) / whole == pytest.approx(probability, rel=1e-5)


def test_on_the_sphere_of_three_dimensions_the_quantiles_have_a_closed_form() -> None:
    probabilities = ((torch.arange(999).double()[:, None] + 1) / 1000).expand(-1, 3)
    kappas = torch.tensor([0.2, 4.0, 300.0], dtype=torch.float64)
    w = (2.0 * half_angle(kappas, probabilities, 3)).cos()
    expected = 1.0 + torch.log((1 - probabilities) + probabilities * (-2.0 * kappas).exp()) / kappas
    torch.testing.assert_close(w, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kappa", [1.0, 25.0, 1000.0])
def test_gradient_by_the_concentration_is_that_of_the_quantile(dim: int, kappa: float) -> None:
    """Against differences of the quantile itself, and their mean over probabilities against A_d'(kappa)."""
    probabilities, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(200))
    probabilities, weights = (0.5 + 0.5 * probabilities)[:, None], 0.5 * weights
    given = torch.tensor([kappa], dtype=torch.float64, requires_grad=True)
    height = (2.0 * half_angle(given, probabilities, dim)).cos()[:, 0]
    each = torch.stack([torch.autograd.grad(one, given, retain_graph=True)[0] for one in height])[:, 0]
    step = 1e-4 * kappa
    low, high = (
        (2.0 * half_angle(torch.tensor([at], dtype=torch.float64), probabilities, dim)).cos()[:, 0]
        for at in (kappa - step, kappa + step)
    )
    torch.testing.assert_close(each, (high - low) / (2 * step), rtol=1e-5, atol=1e-9)
    slope = cumulant(given, dim).slope.item()
    assert (weights * each).sum().item() == pytest.approx(slope, rel=2e-3)
    assert (weights * height.detach()).sum().item() == pytest.approx(cumulant(given, dim).ratio.item(), rel=1e-3)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kappa", [1.0, 25.0, 1000.0])
def test_samples_have_the_distribution(dim: int, kappa: float) -> None:
    """Unit length; mean resultant length A_d; w by a Kolmogorov-Smirnov test; the rest uniform around the mean."""
    count = 3000
    mean = directions(1, dim, seed=dim).expand(count, dim)
    q = VonMisesFisher(mean, torch.full((count,), kappa))
    z = draw(q, Noise.from_seed(3, count), "latent")
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(count), rtol=0, atol=1e-5)
    w = (z * mean).sum(-1).double()
    ratio = cumulant(torch.tensor([kappa]), dim).ratio.item()
    assert abs(w.mean().item() - ratio) < Z_BOUND * w.std().item() / math.sqrt(count)
    tangent = z - w[:, None].float() * mean
    assert (tangent.mean(0).abs() <= Z_BOUND * tangent.std(0) / math.sqrt(count) + 1e-6).all()
    grid = np.linspace(0.0, math.pi, 40001)[1:-1]
    log_density = -2.0 * kappa * np.sin(grid / 2) ** 2 + (dim - 2) * np.log(np.sin(grid))
    below = integrate.cumulative_trapezoid(np.exp(log_density - log_density.max()), grid, initial=0.0)
    angle = 2.0 * torch.asin(((z - mean).norm(dim=-1).double() / 2).clamp(max=1.0)).numpy()
    assert stats.kstest(angle, lambda at: np.interp(at, grid, below / below[-1])).pvalue > 1e-4


@pytest.mark.parametrize("dim", [2, 3, 9])
def test_reflected_vectors_are_unit_orthogonal_and_uniform(dim: int) -> None:
    first = torch.zeros(1, dim)
    first[0, 0] = 1.0
    means = torch.cat([directions(50, dim), first, -first, F.normalize(first + 1e-6 * directions(1, dim), dim=-1)])
    rest = F.normalize(torch.randn(53, dim - 1, generator=torch.Generator().manual_seed(2)), dim=-1)
    found = across(means, rest)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(53))
    torch.testing.assert_close((found * means).sum(-1), torch.zeros(53), rtol=0, atol=1e-6)
    whole = torch.stack([across(means, F.one_hot(torch.full((53,), axis), dim - 1).float()) for axis in range(dim - 1)])
    torch.testing.assert_close(torch.einsum("anj,bnj->nab", whole, whole), torch.eye(dim - 1).expand(53, -1, -1))


@pytest.mark.parametrize("dim", [2, 3, 10])
def test_pathwise_gradients_are_unbiased_in_direction_and_concentration(dim: int) -> None:
    """E f(z) for f = <a, z> is A_d(kappa) <a, mean>; its gradients by a z-test of 4.5 standard errors."""
    count, kappa = 20000, 6.0
    raw = (0.3 * torch.ones(dim)).index_fill(0, torch.tensor([0]), -0.4).expand(count, dim).clone().requires_grad_()
    given = torch.full((count,), kappa, requires_grad=True)
    towards = directions(1, dim, seed=5)[0]
    z = draw(VonMisesFisher(F.normalize(raw, dim=-1), given), Noise.from_seed(1, count), "latent")
    by_raw, by_kappa = torch.autograd.grad((z @ towards).sum(), (raw, given))
    found, one = cumulant(torch.tensor([kappa]), dim), raw[0].detach().requires_grad_()
    inner = F.normalize(one, dim=-1) @ towards
    (slope,) = torch.autograd.grad(inner, one)
    for each, expected in ((by_raw, found.ratio.float() * slope), (by_kappa[:, None], found.slope * inner.item())):
        error = each.std(0) / math.sqrt(count)
        assert ((each.mean(0) - expected).abs() <= Z_BOUND * error + 1e-6).all()


def test_axes_of_samples_stand_for_themselves() -> None:
    """Sample axes, batches of one image, and parameters with sample axes of their own give the same numbers."""
    q = VonMisesFisher(directions(4, 5), torch.tensor([1.0, 5.0, 50.0, 500.0]))
    noise = Noise.from_seed(0, 4)
    z = draw(q, noise, "latent", (2, 3))
    assert z.shape == (2, 3, 4, 5)
    assert q.log_prob(z).shape == (2, 3, 4)
    alone = VonMisesFisher(q.mean[2:3], q.concentration[2:3])
    own = draw(alone, Noise(noise.key, noise.index[2:3]), "latent", (2, 3))
    torch.testing.assert_close(own[..., 0, :], z[..., 2, :], rtol=0, atol=1e-6)
    wide = VonMisesFisher(q.mean.expand(2, 3, 4, 5), q.concentration.expand(2, 3, 4))
    torch.testing.assert_close(draw(wide, noise, "latent", (2, 3)), z, rtol=0, atol=1e-6)
    torch.testing.assert_close(wide.log_prob(z), q.log_prob(z))


@pytest.mark.parametrize("dim", [2, 3, 64, 1000])
def test_extremes_in_single_precision_are_finite(dim: int) -> None:
    kappas = torch.tensor([0.0, 1.0, 1e3, 1e5, 1e7], requires_grad=True)
    raw = directions(5, dim).requires_grad_()
    q = VonMisesFisher(F.normalize(raw, dim=-1), kappas)
    z = draw(q, Noise.from_seed(0, 5), "latent", (50,))
    total = z.sum() + q.log_prob(z).mean() + closed_form_kl(q, UniformSphere(dim)).sum()
    for value in (z, q.log_prob(z), total, *torch.autograd.grad(total, (raw, kappas))):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("kappa", [5.0, 1e5])
def test_single_precision_scores_its_own_samples_like_double(kappa: float) -> None:
    q = VonMisesFisher(directions(1, 10), torch.tensor([kappa]))
    z = draw(q, Noise.from_seed(0, 1), "latent", (100,))
    exact = VonMisesFisher(F.normalize(q.mean.double(), dim=-1), q.concentration.double())
    expected = exact.log_prob(F.normalize(z.double(), dim=-1))
    torch.testing.assert_close(q.log_prob(z).double(), expected, rtol=1e-5, atol=1e-3)
