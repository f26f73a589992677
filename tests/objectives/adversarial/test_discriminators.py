"""Discriminators and the losses of both sides: formulas by hand, and what an optimal discriminator knows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vaekit.objectives.adversarial.discriminators import (
    ImageDiscriminator,
    accuracy,
    code_discriminator,
    discriminator_loss,
    generator_loss,
    smoothed,
)

REAL, FIRST, SECOND = [2.0, -1.0, 0.5], [-3.0, 1.5], [0.25]


def log_d(logit: float) -> float:
    return -math.log1p(math.exp(-logit))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_losses_are_those_of_the_formulas() -> None:
    real, first, second = (torch.tensor(logits) for logits in (REAL, FIRST, SECOND))
    on_real = mean([log_d(logit) for logit in REAL])
    on_fake = [mean([log_d(-logit) for logit in logits]) for logits in (FIRST, SECOND)]
    assert discriminator_loss(real, first).item() == pytest.approx(-0.5 * on_real - 0.5 * on_fake[0], rel=1e-6)
    assert discriminator_loss(real, first, second).item() == pytest.approx(
        -0.5 * on_real - 0.5 * mean(on_fake), rel=1e-6
    )
    wanted = [-mean([log_d(logit) for logit in logits]) for logits in (FIRST, SECOND)]
    assert generator_loss(first).item() == pytest.approx(wanted[0], rel=1e-6)
    assert generator_loss(first, second).item() == pytest.approx(mean(wanted), rel=1e-6)
    assert accuracy(real, first, second).item() == pytest.approx(0.5 * (2 / 3) + 0.5 * mean([1 / 2, 0.0]))


def test_losses_and_their_gradients_are_finite_for_any_logit() -> None:
    """A logarithm of a sigmoid would be infinite here."""
    logits = torch.tensor([-1e4, 0.0, 1e4], requires_grad=True)
    for loss in (discriminator_loss(logits, logits.flip(0)), generator_loss(logits)):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
    assert discriminator_loss(logits[2:], logits[:1]).item() == 0.0
    assert generator_loss(logits[:1]).item() == 1e4


def test_the_generator_is_pushed_hardest_where_it_is_found_out() -> None:
    logits = torch.tensor([-20.0, 0.0, 20.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(3.0 * generator_loss(logits), logits)
    torch.testing.assert_close(gradient, torch.tensor([-1.0, -0.5, 0.0]), atol=1e-6, rtol=0)


def test_a_trained_code_discriminator_estimates_the_log_ratio_of_two_gaussians() -> None:
    """KL(N(m, 1) || N(0, 1)) = m^2 / 2 for each of two latents, and the log-ratio is m . z - |m|^2 / 2."""
    torch.manual_seed(0)
    mean = torch.tensor([1.0, -0.5])
    discriminator = code_discriminator(2, (32, 32))
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
    for _ in range(600):
        loss = discriminator_loss(discriminator(mean + torch.randn(256, 2)), discriminator(torch.randn(256, 2)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    codes = mean + torch.randn(50_000, 2)
    with torch.no_grad():
        found = discriminator(codes)
    exact = codes @ mean - 0.5 * mean.square().sum()
    # one seed; the sampling error of the mean alone is 1.118 / sqrt(50,000) = 0.005
    assert found.mean().item() == pytest.approx(0.625, abs=0.08)
    assert torch.corrcoef(torch.stack([found, exact]))[0, 1] > 0.98


def test_the_penalty_is_half_the_squared_slope() -> None:
    """Of a linear discriminator it is half the squared norm of its weights, whatever the samples."""
    torch.manual_seed(0)
    discriminator = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    samples, weight = torch.randn(5, 3), discriminator[0].weight
    logits, penalty = smoothed(discriminator, samples)
    torch.testing.assert_close(logits, discriminator(samples))
    torch.testing.assert_close(penalty, 0.5 * weight.square().sum())
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, weight.detach())
    with torch.no_grad():
        again = smoothed(discriminator, samples)
    assert all(torch.equal(a, b) for a, b in zip(again, (logits, penalty), strict=True))
    assert not any(value.requires_grad for value in again)


@pytest.mark.parametrize("hidden", [(7,), (5, 9, 4)])
def test_a_code_discriminator_has_the_layers_that_were_asked_for(hidden: tuple[int, ...]) -> None:
    discriminator = code_discriminator(3, hidden)
    sizes = [(layer.in_features, layer.out_features) for layer in discriminator if isinstance(layer, nn.Linear)]
    assert sizes == list(zip((3, *hidden), (*hidden, 1), strict=True))
    assert discriminator(torch.randn(6, 3)).shape == (6,)
    assert sum(isinstance(layer, nn.LeakyReLU) for layer in discriminator) == len(hidden)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (3, 17, 13), (2, 28, 28), (4, 1, 31)])
@pytest.mark.parametrize("channels", [(4,), (4, 8, 6)])
def test_images_of_any_size_have_features_and_a_logit_each(
    shape: tuple[int, int, int], channels: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    discriminator = ImageDiscriminator(shape, channels)
    images = torch.rand(5, *shape)
    features, logits = discriminator(images)
    assert features.shape[0] == 5
    assert features.shape[1] % channels[-1] == 0
    assert logits.shape == (5,)
    logits.sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in discriminator.parameters())
    alone = torch.cat([discriminator(image[None])[1] for image in images])
    torch.testing.assert_close(alone, logits)  # no statistics of the batch
