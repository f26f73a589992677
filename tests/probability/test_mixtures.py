"""Mixtures: the density against a direct double loop, samples against the density."""

from __future__ import annotations

import math

import pytest
import torch

from vaekit.noise import Noise
from vaekit.probability.distributions import DiagonalGaussian
from vaekit.probability.mixtures import GaussianMixture, RowMixture, choose


def mixture(components: int, num_latents: int, spread: float = 2.0) -> GaussianMixture:
    generator = torch.Generator().manual_seed(3)
    loc = spread * torch.randn(components, num_latents, generator=generator)
    log_scale = torch.randn(components, num_latents, generator=generator) - 1.0
    return GaussianMixture(torch.randn(components, generator=generator).log_softmax(0), loc, log_scale)


def direct(p: GaussianMixture, z: torch.Tensor) -> float:
    """log p(z) of one point (latent,), component by component and latent by latent."""
    total = 0.0
    for k in range(len(p.loc)):
        log_density = p.log_weights[k].item()
        for d in range(len(z)):
            scale = math.exp(p.log_scale[k, d].item())
            standard = (z[d].item() - p.loc[k, d].item()) / scale
            log_density -= 0.5 * standard**2 + math.log(scale) + 0.5 * math.log(2 * math.pi)
        total += math.exp(log_density)
    return math.log(total)


def test_the_density_is_that_of_a_double_loop() -> None:
    p, z = mixture(4, 3), torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    found = p.log_prob(z)
    assert found.shape == (2, 5)
    expected = torch.tensor([[direct(p, point) for point in row] for row in z])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_squares_written_out_lose_no_digits() -> None:
    """Narrow components far from the origin, where the square of the difference is a difference of large numbers."""
    loc = torch.tensor([[50.0, -80.0], [50.01, -80.0]])
    p = GaussianMixture(torch.tensor([0.5, 0.5]).log(), loc, torch.full((2, 2), math.log(1e-3)))
    z = loc[:1] + torch.tensor([[2e-3, -1e-3]])
    by_difference = DiagonalGaussian(loc.double(), p.log_scale.double()).log_prob(z.double()).to(z.dtype)
    torch.testing.assert_close(p.log_prob_by_component(z)[0], by_difference, rtol=1e-6, atol=1e-5)


def test_the_density_integrates_to_one() -> None:
    axis = torch.linspace(-12.0, 12.0, 1201)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    p = mixture(4, 2)
    assert p.log_prob(grid).exp().double().sum().item() * 0.02**2 == pytest.approx(1.0, abs=1e-4)


def test_samples_have_the_moments_of_the_density() -> None:
    """Means within 4 standard errors; shares of components (told apart by where they lie) too."""
    count, p = 40_000, mixture(3, 2)
    z = p.sample_from(Noise.from_seed(0, count), "prior").double()
    weights, loc = p.log_weights.double().exp(), p.loc.double()
    mean = weights @ loc
    variance = weights @ (loc.square() + (2 * p.log_scale.double()).exp()) - mean.square()
    assert ((z.mean(0) - mean).abs() < 4 * (variance / count).sqrt()).all()
    fourth = ((z - mean) ** 4).mean(0)
    assert ((z.var(0) - variance).abs() < 4 * ((fourth - variance.square()) / count).sqrt()).all()
    entropy = -p.log_prob(z.float()).double()
    axis = torch.linspace(-12.0, 12.0, 1201, dtype=torch.float64)
    density = p.log_prob(torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)).exp()
    expected = -(density * density.clamp(min=1e-300).log()).sum() * 0.02**2
    assert (entropy.mean() - expected).abs() < 4 * entropy.std() / math.sqrt(count)


def test_components_are_chosen_as_often_as_they_weigh() -> None:
    """Each share within 4 standard deviations, of weights down to a thousandth."""
    weights = torch.tensor([0.5, 0.001, 0.3, 0.0, 0.199])
    count = 200_000
    chosen = choose(weights.log(), Noise.from_seed(1, count), "prior")
    shares = torch.bincount(chosen, minlength=5) / count
    assert shares[3] == 0
    assert ((shares - weights).abs() <= 4 * (weights * (1 - weights) / count).sqrt()).all()


def test_an_image_has_its_sample_in_any_batch() -> None:
    p, noise = mixture(5, 3), Noise.from_seed(0, 8)
    whole = p.sample_from(noise, "prior", (4,))
    part = p.sample_from(noise._replace(index=noise.index[2:5], first_sample=1), "prior", (2,))
    assert torch.equal(part, whole[1:3, 2:5])
    assert whole.shape == (4, 8, 3)


def test_rows_of_any_distribution_are_the_same_mixture() -> None:
    p = mixture(6, 3)
    even = GaussianMixture(torch.full((6,), -math.log(6)), p.loc, p.log_scale)
    rows = RowMixture(
        DiagonalGaussian(p.loc, p.log_scale), 6, lambda chosen: DiagonalGaussian(p.loc[chosen], p.log_scale[chosen])
    )
    z = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows.log_prob(z), even.log_prob(z), rtol=1e-5, atol=1e-4)
    noise = Noise.from_seed(0, 5)
    for shape in ((), (3,), (2, 2)):
        torch.testing.assert_close(rows.sample_from(noise, "prior", shape), even.sample_from(noise, "prior", shape))
