"""The variational Renyi bound: values of its formula, its limits, and its order in alpha."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vaekit.objectives import bounds
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.renyi import Renyi, renyi_bound
from vaekit.objectives.table import MODEL
from weighted_cases import conditional_draw, conditional_model, gradients, linear_draw, losses_of


def random_log_w(seed: int = 0, spread: float = 3.0, samples: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(samples, 4, generator=generator) - 90.0


def bound(log_w: Tensor, alpha: float) -> Tensor:
    return renyi_bound(log_w, torch.tensor(alpha))


def by_definition(column: list[float], alpha: float) -> float:
    """In Python's own floats, around the largest log-weight."""
    top = max(column)
    mean = math.fsum(math.exp((1.0 - alpha) * (value - top)) for value in column) / len(column)
    return top + math.log(mean) / (1.0 - alpha)


@pytest.mark.parametrize("alpha", [-7.0, -0.5, 0.0, 0.3, 0.5, 0.99, 0.999, 1.001, 1.5, 4.0])
def test_values_are_those_of_the_formula(alpha: float) -> None:
    log_w = random_log_w()
    expected = [by_definition(log_w[:, i].double().tolist(), torch.tensor(alpha).item()) for i in range(4)]
    assert bound(log_w, alpha).tolist() == pytest.approx(expected, abs=2e-4)


def test_zero_is_iwae_and_one_the_mean() -> None:
    log_w = random_log_w()
    torch.testing.assert_close(bound(log_w, 0.0), bounds.importance_weighted(log_w))
    assert torch.equal(bound(log_w, 1.0), log_w.mean(0))


def test_far_ends_are_the_largest_and_the_smallest_weight() -> None:
    log_w = random_log_w()
    torch.testing.assert_close(bound(log_w, -1000.0), log_w.amax(0), rtol=0, atol=0.01)
    torch.testing.assert_close(bound(log_w, 1000.0), log_w.amin(0), rtol=0, atol=0.01)


@given(st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 30.0, 3000.0]))
@settings(max_examples=60, deadline=None)
def test_it_never_rises_with_alpha_and_stays_between_the_weights(seed: int, spread: float) -> None:
    log_w = random_log_w(seed, spread)
    alphas = [-50.0, -1.0, 0.0, 0.5, 0.9, 0.99, 0.9999, 1.0, 1.0001, 1.01, 1.1, 2.0, 50.0]
    values = torch.stack([bound(log_w, alpha) for alpha in alphas])
    slack = 1e-4 + 2e-5 * (log_w.amax(0) - log_w.amin(0))  # the largest error of the series and of float32
    assert (values.diff(dim=0) <= slack).all()
    assert (values <= log_w.amax(0) + slack).all()
    assert (values >= log_w.amin(0) - slack).all()


@pytest.mark.parametrize("alpha", [-2.0, 0.0, 0.5, 0.999, 0.9999999, 1.0, 1.0000001, 1.002, 3.0])
def test_the_gradient_is_the_softmax_of_powers(alpha: float) -> None:
    """At and near alpha 1 too, where the value is a series."""
    log_w = random_log_w().requires_grad_()
    (found,) = torch.autograd.grad(bound(log_w, alpha).sum(), log_w)
    power = 1.0 - torch.tensor(alpha).double()
    torch.testing.assert_close(found.double(), (power * log_w.detach().double()).softmax(0), rtol=0, atol=5e-5)


@pytest.mark.parametrize("alpha", [-1000.0, 0.0, 0.5, 1.0, 1.0 + 1e-6, 1000.0])
@pytest.mark.parametrize("log_w", [torch.full((3, 2), -80.0), torch.tensor([[-1e30], [0.0], [2e4]])])
def test_equal_and_far_weights_keep_value_and_gradient_finite(alpha: float, log_w: Tensor) -> None:
    weights = log_w.clone().requires_grad_()
    value = bound(weights, alpha)
    (found,) = torch.autograd.grad(value.sum(), weights)
    assert torch.isfinite(value).all()
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.sum(0), torch.ones(log_w.shape[1]))


def test_one_sample_is_the_weight_itself() -> None:
    log_w = random_log_w(samples=1)
    for alpha in (-3.0, 0.0, 1.0, 2.0):
        torch.testing.assert_close(bound(log_w, alpha), log_w[0])


def test_alpha_comes_from_the_context() -> None:
    model, draw = linear_draw((5,), 0.6, 0.5)
    zero = losses_of(Renyi(5, alpha=0.9), draw, alpha=0.0).players[MODEL]
    iwae = losses_of(Iwae(5), draw).players[MODEL]
    torch.testing.assert_close(zero, iwae)
    found, expected = gradients(model, zero), gradients(model, iwae)
    for name, each in expected.items():
        torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-3)
    losses = [losses_of(Renyi(5), draw, alpha=alpha).players[MODEL].item() for alpha in (-1.0, 0.0, 0.5, 1.0, 2.0)]
    assert losses == sorted(losses)
    assert losses[-1] > losses[0] + 0.5
    assert Renyi(5).sample_shape == (5,)
    assert Renyi().needs == {"log_w"}


def test_a_conditional_model_learns_everywhere() -> None:
    model = conditional_model()
    for alpha in (0.5, 1.0):
        loss = losses_of(Renyi(3), conditional_draw(model, (3,)), alpha=alpha).players[MODEL]
        found = gradients(model, loss)
        assert all(torch.isfinite(each).all() and each.abs().sum() > 0 for each in found.values())
