"""ReLU on integers, whose zeros the layer after it may set: always the gradients that torch's own has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaekit.networks import convolution, relu
from vaekit.networks.convolution import Conv2d, ConvTranspose2d
from vaekit.networks.relu import is_masked, is_rectified, relu_


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the fast path for the small images here as well."""
    monkeypatch.setattr(convolution, "_NUMBERS", 1)
    monkeypatch.setattr(relu, "_NUMBERS", 1)


@pytest.fixture
def zeros_set(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """By whom: ``ahead`` for the layer that reads a ReLU's output, ``itself`` for the ReLU."""
    found: list[str] = []
    ahead, itself = relu.masked_, relu.masked

    def noted(name: str, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def wrapped(*arguments: Any) -> Tensor:
            found.append(name)
            return original(*arguments)

        return wrapped

    monkeypatch.setattr(convolution, "masked_", noted("ahead", ahead))
    for module in (convolution, relu):
        monkeypatch.setattr(module, "masked", noted("itself", itself))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_kind_of_number(dtype: torch.dtype) -> None:
    """NaN, infinities, zeros and subnormal numbers: all 65,536 bf16 numbers."""
    x = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16).to(dtype)
    value = x.clone()
    relu.rectify_(value)
    torch.testing.assert_close(value, x.relu(), rtol=0, atol=0, equal_nan=True)
    y = value[~value.isnan()]
    g = torch.randn(y.shape).to(dtype)
    assert torch.equal(relu.masked(g, y), torch.where(y > 0, g, 0))
    kept = g.clone()
    assert relu.masked_(kept, y) is kept
    assert torch.equal(kept, torch.where(y > 0, g, 0))


def first(kind: str) -> nn.Module:
    """A layer with a ReLU, (3, 32, 6, 6) to (3, 32, 12, 12)."""
    torch.manual_seed(0)
    if kind == "transposed":
        return ConvTranspose2d(32, 32, 3, 2, 1, 1, relu=True)
    layer = Conv2d(32, 32, 1, 1, 3, relu=True)  # with no faster path of its own: torch's, and `relu_`
    return nn.Sequential(layer)


def second() -> ConvTranspose2d:
    torch.manual_seed(1)
    return ConvTranspose2d(32, 16, 3, 2, 1, 1)


def gradients(run: Callable[[Tensor], Tensor], x: Tensor, layers: list[nn.Module]) -> list[Tensor]:
    """Of the input and all weights, under a loss with as many signs as numbers."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = run(x).float()
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    return list(
        torch.autograd.grad((y * weights).sum(), [x, *(each for layer in layers for each in layer.parameters())])
    )


READERS: dict[str, Callable[[Tensor, nn.Module, nn.Module], Tensor]] = {
    "one": lambda y, b, c: b(y),
    "two": lambda y, b, c: b(y) + c(y),
    "a layer, then a sum": lambda y, b, c: b(y) + y.mean(),
    "a sum, then a layer": lambda y, b, c: y.mean() + b(y),
    "a layer and itself": lambda y, b, c: b(y).mean() + y,
    "scaled": lambda y, b, c: b(y * -2.0),
    "reshaped": lambda y, b, c: b(y.flatten(1).view(y.shape)),
    "none that knows": lambda y, b, c: y * 3.0,
}


@pytest.mark.parametrize("kind", ["transposed", "plain"])
@pytest.mark.parametrize("reader", READERS)
def test_gradients_are_those_of_a_relu_that_sets_its_own_zeros(
    reader: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c, x = first(kind), second(), second(), torch.randn(3, 32, 6, 6)
    if kind == "plain":
        monkeypatch.setattr(convolution, "_worthwhile", lambda *_: False)

    def run(x: Tensor) -> Tensor:
        return READERS[reader](a(x), b, c)

    layers = [a, b, c] if reader == "two" else [a] if reader == "none that knows" else [a, b]
    ours = gradients(run, x, layers)
    monkeypatch.setattr(convolution, "is_rectified", lambda _: False)
    theirs = gradients(run, x, layers)
    for mine, yours in zip(ours, theirs, strict=True):
        # a sum of two gradients is rounded to bf16 before the zeros are set or after, which is the same number
        assert torch.equal(mine, yours)
    assert any(bool(each.abs().sum() > 0) for each in ours)


@pytest.mark.parametrize("reader", ["one", "two", "none that knows"])
def test_who_sets_the_zeros(reader: str, zeros_set: list[str]) -> None:
    a, b, c = first("transposed"), second(), second()
    gradients(lambda x: READERS[reader](a(x), b, c), torch.randn(3, 32, 6, 6), [a])
    assert (
        zeros_set
        == {
            "one": ["ahead"],
            "two": ["ahead", "ahead", "itself"],  # their sum bears no mark
            "none that knows": ["itself"],
        }[reader]
    )


def test_a_gradient_that_a_hook_changed_in_place_is_masked_anew(zeros_set: list[str]) -> None:
    a, b, x = first("transposed"), second(), torch.randn(3, 32, 6, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = a(x)
        y.register_hook(lambda grad: grad.add_(1.0))
        loss = b(y).float().sum()
    (first_gradient,) = torch.autograd.grad(loss, x)
    assert zeros_set == ["ahead", "itself"]
    with torch.autocast("cpu", torch.bfloat16):
        y = a(x)
        given = torch.autograd.grad(b(y).float().sum(), y, retain_graph=True)[0]
        torch.testing.assert_close(first_gradient, torch.autograd.grad(y, x, given + 1.0)[0], rtol=1e-2, atol=1e-2)


def test_marks_hold_as_long_as_nobody_writes() -> None:
    x = torch.randn(4, 8, dtype=torch.bfloat16, requires_grad=True)
    y = relu_(x * 1.0)
    assert is_rectified(y)
    assert not is_rectified(y.detach())
    assert not is_rectified(y.view(8, 4))
    y += 1.0
    assert not is_rectified(y)
    grad = relu.masked_(torch.randn(4, 8, dtype=torch.bfloat16), torch.ones(4, 8, dtype=torch.bfloat16))
    assert is_masked(grad)
    grad.mul_(2.0)
    assert not is_masked(grad)


def test_what_needs_no_gradient_bears_no_mark() -> None:
    with torch.no_grad():
        assert not hasattr(relu_(torch.randn(4, 8, dtype=torch.bfloat16)), "rectified_at")
    with torch.inference_mode():
        relu_(torch.randn(4, 8, dtype=torch.bfloat16))
