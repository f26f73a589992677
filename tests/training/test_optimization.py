"""Learning rates, and Adam against its definition."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vaekit.settings import Training
from vaekit.training.optimization import Optimizers, learning_rate

CPU = torch.device("cpu")


@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from(["cosine", "none"]))
@settings(max_examples=80, deadline=None)
def test_learning_rate_warms_up_then_falls_and_stays_in_range(total: int, warmup: float, decay: str) -> None:
    training = Training(learning_rate=0.3, warmup=warmup, decay=decay)  # type: ignore[arg-type]
    rates = [learning_rate(training, step, total) for step in range(total)]
    top = round(warmup * total)
    assert all(0 < rate <= 0.3 + 1e-12 for rate in rates)
    assert all(a < b for a, b in pairwise(rates[:top]))
    assert all(a >= b for a, b in pairwise(rates[top:]))
    assert max(rates) == pytest.approx(0.3)


def test_cosine_is_its_formula() -> None:
    training = Training(learning_rate=2.0, warmup=0.2)
    assert [learning_rate(training, step, 10) for step in (0, 1, 2, 6)] == pytest.approx([1.0, 2.0, 2.0, 1.0])
    assert learning_rate(training, 9, 10) == pytest.approx(1 + math.cos(math.pi * 7 / 8))
    assert learning_rate(Training(learning_rate=2.0, warmup=0.0, decay="none"), 9, 10) == 2.0


def make(clip: float | None = None, seed: int = 0) -> tuple[nn.Module, Optimizers]:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    module(torch.zeros(1, 3, 5, 5))
    module.to(memory_format=torch.channels_last)
    return module, Optimizers({"model": module}, Training(gradient_clip=clip, adam_epsilon=1e-4), CPU)


def loss_of(module: nn.Module, step: int) -> torch.Tensor:
    return module(torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(step))).square().sum()


def train(module: nn.Module, optimizers: Optimizers, steps: range) -> list[torch.Tensor]:
    for step in steps:
        optimizers.set_learning_rate(0.01 * (step + 1))
        optimizers.backward({"model": loss_of(module, step)})
        optimizers.step()
    return [p.detach().clone() for p in module.parameters()]


def test_steps_are_adams() -> None:
    """Against Kingma and Ba 2015, algorithm 1, in float64."""
    module, optimizers = make()
    by_hand = [p.detach().double().clone() for p in module.parameters()]
    first, second = [[torch.zeros_like(p) for p in by_hand] for _ in range(2)]
    for step in range(4):
        gradients = torch.autograd.grad(loss_of(module, step), list(module.parameters()))
        train(module, optimizers, range(step, step + 1))
        for p, g, m, v in zip(by_hand, gradients, first, second, strict=True):
            m.mul_(0.9).add_(0.1 * g.double())
            v.mul_(0.999).add_(0.001 * g.double() ** 2)
            m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
            p.sub_(0.01 * (step + 1) * m_hat / (v_hat.sqrt() + 1e-4))
    for p, expected in zip(module.parameters(), by_hand, strict=True):
        torch.testing.assert_close(p.detach(), expected.float(), rtol=1e-5, atol=1e-6)


def test_learning_rate_zero_moves_nothing() -> None:
    module, optimizers = make()
    before = [p.detach().clone() for p in module.parameters()]
    optimizers.set_learning_rate(0.0)
    optimizers.backward({"model": loss_of(module, 0)})
    optimizers.step()
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))


def test_clipping_bounds_the_norm_of_all_gradients_together() -> None:
    module, optimizers = make(clip=0.5)
    optimizers.backward({"model": loss_of(module, 0)})
    before = [p.grad.clone() for p in module.parameters()]
    norm = torch.cat([g.flatten() for g in before]).norm()
    optimizers.step()
    assert norm > 0.5
    for p, g in zip(module.parameters(), before, strict=True):
        torch.testing.assert_close(p.grad, g * 0.5 / norm, rtol=1e-4, atol=1e-7)


def test_resumed_steps_have_the_same_bits() -> None:
    module, optimizers = make()
    whole = train(module, optimizers, range(6))
    module, optimizers = make()
    train(module, optimizers, range(3))
    weights, state = {k: v.clone() for k, v in module.state_dict().items()}, optimizers.state()
    state = {name: value.contiguous().clone() for name, value in state.items()}  # as a file gives it back
    module, optimizers = make(seed=1)
    module.load_state_dict(weights)
    optimizers.load(state)
    for p, expected in zip(train(module, optimizers, range(3, 6)), whole, strict=True):
        assert torch.equal(p, expected)


def test_each_player_follows_its_own_loss_alone() -> None:
    torch.manual_seed(0)
    players = {"model": nn.Linear(3, 3), "critic": nn.Linear(3, 1)}
    x = torch.randn(5, 3)
    optimizers = Optimizers(players, Training(), CPU)
    score = players["critic"](players["model"](x)).mean()
    optimizers.backward({"model": score, "critic": -2.0 * score})
    expected = torch.autograd.grad(players["critic"](players["model"](x)).mean(), list(players["model"].parameters()))
    for p, g in zip(players["model"].parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g)
    own = torch.autograd.grad(
        -2.0 * players["critic"](players["model"](x)).mean(), list(players["critic"].parameters())
    )
    for p, g in zip(players["critic"].parameters(), own, strict=True):
        torch.testing.assert_close(p.grad, g)
    assert len(optimizers.all_parameters()) == 4


class Weighed(nn.Module):
    """A channels_last weight whose gradient comes contiguous."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))

    def forward(self) -> torch.Tensor:
        factors = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1))
        return (self.weight.contiguous() * factors).square().sum()


def test_two_players_gradients_keep_the_strides_of_channels_last_weights() -> None:
    """Fused Adam pairs weight and gradient by memory order: two players must train as one would."""
    alone, beside, other = Weighed(), Weighed(), nn.Linear(1, 1)
    assert torch.autograd.grad(alone(), alone.weight)[0].stride() != alone.weight.stride()
    for players in ({"model": alone}, {"model": beside, "other": other}):
        optimizers = Optimizers(players, Training(), CPU)
        optimizers.set_learning_rate(0.01)
        for _ in range(3):
            losses = {"model": players["model"]()}
            if "other" in players:
                losses["other"] = other.weight.sum()
            optimizers.backward(losses)
            optimizers.step()
    torch.testing.assert_close(beside.weight, alone.weight, rtol=1e-6, atol=1e-7)
