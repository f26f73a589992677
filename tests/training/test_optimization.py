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


@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from(["cosine", "stages", "none"]))
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


def test_stages_are_those_of_the_published_schedule() -> None:
    """3^i epochs at 1e-3 * 10^(-i/7), i = 0 to 7: 3,280 epochs (Burda, Grosse and Salakhutdinov 2016, section 5)."""
    training = Training(learning_rate=1e-3, warmup=0.0, decay="stages", epochs=3280.0)
    published = [1e-3 * 10 ** (-stage / 7) for stage in range(8) for _ in range(3**stage)]
    assert [learning_rate(training, epoch, 3280) for epoch in range(3280)] == pytest.approx(published)
    cut = Training(learning_rate=1e-3, warmup=0.0, decay="stages", decay_stages=6, epochs=364.0)
    assert [learning_rate(cut, epoch, 364) for epoch in range(364)] == pytest.approx(published[:364])
    alone = Training(learning_rate=1e-3, warmup=0.0, decay="stages", decay_stages=1)
    assert {learning_rate(alone, step, 50) for step in range(50)} == {1e-3}


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


class Halves(nn.Module):
    """What infers, what generates, and a part that both read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder, self.shared = nn.Linear(3, 2), nn.Linear(2, 3), nn.Linear(3, 3)
        self.x = torch.randn(5, 3)

    def losses(self) -> dict[str, torch.Tensor]:
        """Both read every parameter, with gradients that differ."""
        read = self.shared(self.x)
        output = self.decoder(self.encoder(read).tanh()) * read
        return {"model": output.square().mean(), "inference": (output - 1.0).abs().sum()}

    def optimizers(self, clip: float | None = None, critic: nn.Module | None = None) -> Optimizers:
        players = {"model": self} if critic is None else {"model": self, "critic": critic}
        return Optimizers(players, Training(gradient_clip=clip), CPU, None, self.encoder.parameters())


def of_loss(module: Halves, name: str) -> dict[str, torch.Tensor]:
    names = [label for label, _ in module.named_parameters()]
    return dict(zip(names, torch.autograd.grad(module.losses()[name], list(module.parameters())), strict=True))


def test_a_loss_of_inference_is_for_that_part_and_the_models_for_all_others() -> None:
    """What both read follows the model's loss, and a critic its own."""
    module = Halves()
    torch.manual_seed(1)
    critic = nn.Linear(3, 1)
    generates, infers = of_loss(module, "model"), of_loss(module, "inference")
    assert all(not torch.allclose(generates[name], infers[name], rtol=0.1) for name in generates)
    of_critic = critic(module.x).mean()
    module.optimizers(critic=critic).backward({**module.losses(), "critic": of_critic})
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter.grad, (infers if name.startswith("encoder") else generates)[name]), name
    torch.testing.assert_close(critic.weight.grad, module.x.mean(0, keepdim=True))


def test_without_a_loss_of_inference_the_models_moves_everything() -> None:
    module = Halves()
    torch.manual_seed(1)
    critic = nn.Linear(3, 1)
    expected = of_loss(module, "model")
    for losses in ({}, {"critic": critic(module.x).mean()}):
        module.optimizers(critic=critic).backward({"model": module.losses()["model"], **losses})
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name])


def test_a_loss_of_inference_does_not_move_the_decoder() -> None:
    """Whatever it is: the decoder steps as under the model's loss alone, the encoder as under that of inference alone."""
    moved = []
    for factor in (1.0, 1e4):
        module = Halves()
        optimizers = module.optimizers()
        optimizers.set_learning_rate(0.01)
        for _ in range(2):
            losses = module.losses()
            optimizers.backward({"model": losses["model"], "inference": factor * losses["inference"] + factor})
            module.encoder.weight.grad.zero_()
            module.encoder.bias.grad.zero_()
            optimizers.step()
        moved.append({name: weight.detach().clone() for name, weight in module.named_parameters()})
    start = dict(Halves().named_parameters())
    for name, weight in moved[0].items():
        assert torch.equal(weight, moved[1][name]), name
        assert torch.equal(weight, start[name]) == name.startswith("encoder"), name


def test_both_parts_are_clipped_as_one_model_and_share_its_state() -> None:
    module = Halves()
    optimizers = module.optimizers(clip=0.1)
    optimizers.set_learning_rate(0.01)
    optimizers.backward(module.losses())
    assert torch.cat([weight.grad.flatten() for weight in module.parameters()]).norm() > 1.0
    optimizers.step()
    assert torch.cat([weight.grad.flatten() for weight in module.parameters()]).norm() == pytest.approx(0.1, rel=1e-4)
    assert {name.split("/")[0] for name in optimizers.state()} == {"model"}


def test_a_split_step_resumes_with_the_same_bits() -> None:
    def advance(module: Halves, optimizers: Optimizers, steps: int) -> None:
        optimizers.set_learning_rate(0.01)
        for _ in range(steps):
            optimizers.backward(module.losses())
            optimizers.step()

    whole, parts = Halves(), Halves()
    advance(whole, whole.optimizers(), 6)
    first = parts.optimizers()
    advance(parts, first, 3)
    second = parts.optimizers()
    second.load(first.state())
    advance(parts, second, 3)
    for ours, expected in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, expected)


def test_what_does_not_learn_needs_no_gradient() -> None:
    """A player without parameters, and fixed parameters of the model and of a player."""
    module, fixed = Halves(), nn.Linear(1, 1).requires_grad_(False)
    module.decoder.bias.requires_grad_(False)
    players = {"model": module, "empty": nn.Identity(), "fixed": fixed}
    inference = module.encoder.parameters()
    losses = {**module.losses(), "empty": module.losses()["model"], "fixed": module.losses()["model"]}
    Optimizers(players, Training(), CPU, None, inference).backward(losses)
    assert fixed.weight.grad is None
    assert module.decoder.bias.grad is None
    module.decoder.bias.requires_grad_()
    generates, infers = of_loss(module, "model"), of_loss(module, "inference")
    for name, parameter in module.named_parameters():
        if name != "decoder.bias":
            assert torch.equal(parameter.grad, (infers if name.startswith("encoder") else generates)[name]), name


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
