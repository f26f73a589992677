"""The continuous Bernoulli against torch's own in float64, above all around logit 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import ContinuousBernoulli as Reference

from vaekit.noise import Noise
from vaekit.probability.continuous_bernoulli import ContinuousBernoulliImage, log_partition, mean_of_logits

# both sides of the switch, tiny numbers, and some between
TINY = (0.0, 1e-30, 1e-12, 1e-6, 1e-4, 0.001, 0.01, 0.1, 0.3, 0.7, 0.9, 0.99, 0.999999)
LOGITS = torch.tensor([*TINY, 1.0, 1.000001, 1.01, 1.1, 2.0, 5.0, 12.0, 40.0, 90.0, 300.0, 1e4])
LOGITS = torch.cat([LOGITS, -LOGITS])


def exact_partition(logits: torch.Tensor) -> np.ndarray:
    """log((e^l - 1) / l) in float64, from log(sinh(y) / y) with y = l/2."""
    y = np.abs(logits.double().numpy()) / 2
    log_sinhc = np.array(
        [math.log(math.sinh(v) / v) if 1e-8 < v < 300 else v - math.log(2 * v) if v > 1 else 0 for v in y]
    )
    return logits.double().numpy() / 2 + log_sinhc


def exact_mean(logits: torch.Tensor) -> np.ndarray:
    """1 / (1 - e^-l) - 1 / l in float64, and near 0 its first two terms, right to l^3 / 720."""
    l = logits.double().numpy()  # noqa: E741 - the paper's letter
    near = np.abs(l) < 1e-4
    safe = np.where(near, 1.0, l)
    return np.where(near, 0.5 + l / 12, 0.5 + 0.5 / np.tanh(safe / 2) - 1 / safe)


def test_normalizer_is_exact_in_float32_for_any_logit() -> None:
    np.testing.assert_allclose(log_partition(LOGITS).double(), exact_partition(LOGITS), rtol=4e-7, atol=1e-30)


def test_normalizers_gradient_is_the_mean_everywhere() -> None:
    """The series and the closed form meet in value and in gradient: A' is the mean."""
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_partition(logits).sum(), logits)
    np.testing.assert_allclose(gradient.double(), exact_mean(LOGITS), rtol=1e-6, atol=4e-7)
    np.testing.assert_allclose(mean_of_logits(LOGITS).double(), exact_mean(LOGITS), rtol=0, atol=2e-7)


def test_gradients_of_any_order_are_those_of_the_function() -> None:
    logits = torch.tensor([-7.0, -1.3, -0.6, 0.0, 0.4, 0.95, 1.05, 3.0], dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(log_partition, logits)
    assert torch.autograd.gradgradcheck(log_partition, logits)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(log_partition))(logits), mean_of_logits(logits))


def test_nothing_jumps_at_the_switch() -> None:
    """In float64, between neighbours on both sides, value, gradient and slope agree to what the series leaves."""
    for sign in (-1.0, 1.0):
        sides = sign * torch.tensor([1.0 - 1e-13, 1.0 + 1e-13], dtype=torch.float64).requires_grad_()
        values = log_partition(sides)
        (gradients,) = torch.autograd.grad(values.sum(), sides)
        means = mean_of_logits(sides)
        (slopes,) = torch.autograd.grad(means.sum(), sides)
        for pair, gap in ((values, 3e-9), (gradients, 3e-8), (means, 3e-8), (slopes, 3e-7)):
            assert abs((pair[0] - pair[1]).item()) < gap


def test_the_papers_normalizer() -> None:
    """log C(l) = log(l / tanh(l / 2)) is softplus(l) - A(l)."""
    logits = LOGITS.double()[(LOGITS.abs() > 1e-3) & (LOGITS.abs() < 300)]
    found = torch.nn.functional.softplus(logits) - log_partition(logits)
    np.testing.assert_allclose(found, np.log(logits.numpy() / np.tanh(logits.numpy() / 2)), rtol=0, atol=3e-9)


@pytest.mark.parametrize("logit", [-6.0, -1.5, -0.9, 0.2, 0.999, 1.001, 4.0])
def test_density_and_mean_are_torchs(logit: float) -> None:
    """Away from torch's own switch, which is coarse: it uses a Taylor series where the parameter is 0.499 to 0.501."""
    reference = Reference(logits=torch.tensor(logit, dtype=torch.float64), validate_args=False)
    x = torch.linspace(0, 1, 21)
    p = ContinuousBernoulliImage(torch.full((21, 1, 1, 1), logit))
    np.testing.assert_allclose(p.log_prob(x.view(21, 1, 1, 1)), reference.log_prob(x.double()), rtol=0, atol=1e-6)
    np.testing.assert_allclose(p.mean[0].item(), reference.mean.item(), rtol=1e-6)


@pytest.mark.parametrize("logit", [-9000.0, -60.0, -2.0, -1e-3, 0.0, 1e-5, 0.5, 3.0, 60.0, 9000.0])
def test_samples_follow_the_distribution_function(logit: float) -> None:
    """To the resolution of the noise, by the Kolmogorov-Smirnov test."""
    p = ContinuousBernoulliImage(torch.full((20, 1, 40, 50), logit))
    drawn = p.sample_from(Noise.from_seed(0, 20), "pixels").double().flatten().numpy()

    def below(x: np.ndarray) -> np.ndarray:
        if abs(logit) < 1e-2:
            return x + logit * (x * x - x) / 2
        if logit < 0:
            return np.expm1(logit * x) / np.expm1(logit)
        return (np.exp(logit * (x - 1)) - math.exp(-logit)) / -math.expm1(-logit)

    assert stats.kstest(drawn, below).pvalue > 1e-4
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_the_mean_is_not_the_sigmoid() -> None:
    """Figures of it would be too contrasted; the mean lies nearer to a half."""
    logits = torch.tensor([-3.0, 3.0]).view(2, 1, 1, 1)
    mean = ContinuousBernoulliImage(logits).mean
    assert ((mean - 0.5).abs() < (logits.sigmoid() - 0.5).abs() - 0.1).all()
    for logit, found in zip(logits.flatten().tolist(), mean.flatten().tolist(), strict=True):
        total = integrate.quad(lambda x, slope=logit: math.exp(slope * x), 0, 1)[0]
        assert found == pytest.approx(integrate.quad(lambda x, s=logit: x * math.exp(s * x), 0, 1)[0] / total, abs=1e-6)
