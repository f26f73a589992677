"""The convolutions give the results of torch's own, whichever path they take."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad

from vaekit.networks import convolution
from vaekit.networks.convolution import Conv2d, ConvTranspose2d

# (transposed, in, out, kernel, stride, padding, output padding, height, width, relu)
LAYERS = [
    (False, 1, 32, 3, 2, 1, 0, 28, 28, True),  # the layers of a small network for 28x28 images
    (False, 32, 64, 3, 2, 1, 0, 14, 14, True),
    (True, 64, 64, 3, 2, 1, 1, 7, 7, True),
    (True, 64, 32, 3, 2, 1, 1, 14, 14, True),
    (False, 32, 1, 3, 1, 1, 0, 28, 28, False),
    (True, 32, 1, 3, 1, 1, 0, 28, 28, False),
    (True, 33, 32, 3, 2, 1, 1, 5, 3, False),
    (False, 34, 32, 4, (2, 3), (0, 2), 0, 11, 10, True),
    (False, 36, 3, 3, 1, 1, 0, 9, 13, True),  # few outputs, of other numbers, kernels and paddings
    (False, 21, 2, 4, 1, 2, 0, 9, 8, False),
    (False, 16, 4, 3, 1, 0, 0, 7, 5, False),
    (False, 16, 1, 3, 1, (2, 0), 0, 7, 5, False),
    (False, 16, 1, 1, 1, 1, 0, 5, 5, False),  # a padding larger than the kernel
    (True, 16, 3, 4, 1, 1, 0, 9, 7, False),
    (True, 20, 2, (2, 3), 1, (0, 1), 0, 5, 6, True),
    (False, 5, 7, 4, 2, 1, 0, 15, 13, True),  # odd sizes, remainders that no window covers
    (False, 3, 6, 3, 2, 0, 0, 12, 17, False),
    (False, 3, 6, 3, (1, 2), (2, 1), 0, 6, 9, True),
    (True, 5, 7, 4, 2, 1, 0, 5, 9, True),
    (True, 5, 3, 3, 2, 1, 0, 17, 4, False),
    (True, 4, 6, 3, 3, 0, 2, 3, 5, True),
    (True, 6, 1, 3, 2, 1, 1, 4, 4, False),
    (False, 1, 1, 3, 1, 1, 0, 4, 4, False),
]


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the fast path for the small images here as well."""
    monkeypatch.setattr(convolution, "_NUMBERS", 1)


def _pair(case: tuple, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module, Tensor]:
    """torch's layer, ours with the same parameters, and an input for both: (3, in, height, width)."""
    transposed, inputs, outputs, kernel, stride, padding, extra, height, width, relu = case
    torch.manual_seed(0)
    if transposed:
        arguments = (inputs, outputs, kernel, stride, padding, extra)
        theirs, ours = nn.ConvTranspose2d(*arguments), ConvTranspose2d(*arguments, relu=relu)
    else:
        arguments = (inputs, outputs, kernel, stride, padding)
        theirs, ours = nn.Conv2d(*arguments), Conv2d(*arguments, relu=relu)
    ours.load_state_dict(theirs.state_dict())
    if relu:
        theirs = nn.Sequential(theirs, nn.ReLU())
    return theirs.to(dtype), ours.to(dtype), torch.randn(3, inputs, height, width, dtype=dtype)


def _run(layer: nn.Module, x: Tensor, weights: Tensor, *, bf16: bool = False) -> list[Tensor]:
    """Output and gradients of x, weight and bias."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], weights.to(y.dtype))]


def _error(value: Tensor, reference: Tensor) -> float:
    """Root mean square error, relative to the reference's root mean square."""
    reference = reference.double()
    return float((value.double() - reference).norm() / reference.norm().clamp_min(1e-30))


@pytest.mark.parametrize("case", LAYERS, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_agrees_in_fp32(case: tuple, layout: torch.memory_format) -> None:
    theirs, ours, x = _pair(case)
    x, ours = x.to(memory_format=layout), ours.to(memory_format=layout)
    weights = torch.randn(theirs(x).shape)
    for value, reference in zip(_run(ours, x, weights), _run(theirs, x, weights), strict=True):
        assert value.dtype == reference.dtype
        torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-4)
        assert _error(value, reference) < 2e-6  # a few roundings of 6e-8, in sums of up to 2,352 products


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_agrees_in_bf16(case: tuple) -> None:
    theirs, ours, x = _pair(case)
    # Rounded here, so that the exact result and both bf16 ones start from the same numbers.
    with torch.no_grad():
        for parameter in [*theirs.parameters(), *ours.parameters()]:
            parameter.copy_(parameter.bfloat16())
    x = x.bfloat16().float()
    output = theirs[0](x) if isinstance(theirs, nn.Sequential) else theirs(x)
    # Where the output is within rounding of 0, a ReLU's gradient may be that of the other side.
    weights = (torch.randn(output.shape) * (output.abs() > 0.05)).bfloat16().float()
    got, torchs, exact = (
        _run(layer, x, weights, bf16=bf16) for layer, bf16 in ((ours, True), (theirs, True), (theirs, False))
    )
    for value, other, reference in zip(got, torchs, exact, strict=True):
        assert value.dtype == other.dtype
        # One rounding of the result is 2**-9 at most, 1.7e-3 in the root mean square. The products of single
        # taps are rounded besides, of the same size together.
        assert _error(value, reference) < max(4e-3, 1.5 * _error(other, reference))


@pytest.mark.parametrize("case", LAYERS[:6], ids=str)
def test_same_bits_twice(case: tuple) -> None:
    _, ours, x = _pair(case)
    weights = torch.randn(ours(x).shape)
    for first, second in zip(*(_run(ours, x, weights, bf16=True) for _ in range(2)), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("case", LAYERS[:6], ids=str)
def test_takes_the_fast_path(case: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the first layer, in which there is nothing to gain."""
    _, ours, x = _pair(case)
    calls = []
    apply = convolution._Convolution.apply
    monkeypatch.setattr(convolution._Convolution, "apply", lambda *args: calls.append(1) or apply(*args))
    with torch.autocast("cpu", torch.bfloat16):
        ours(x)
    assert len(calls) == (case[1] > 1)


@pytest.mark.parametrize("bf16", [False, True])
def test_without_gradients(bf16: bool) -> None:
    for case in LAYERS:
        theirs, ours, x = _pair(case)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value, reference = ours(x), theirs(x)
        assert not value.requires_grad
        assert value.dtype == reference.dtype
        assert _error(value, reference) < (6e-3 if bf16 else 2e-6)


def test_frozen_weight_and_no_bias() -> None:
    for layer in (ConvTranspose2d(4, 5, 3, 2, 1, 1, bias=False), Conv2d(16, 1, 3, 1, 1, bias=False)):
        layer.weight.requires_grad_(False)
        x = torch.randn(2, layer.in_channels, 6, 6, requires_grad=True)
        layer(x).sum().backward()
        assert x.grad is not None
        assert layer.weight.grad is None


def test_few_numbers_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours, x = _pair(LAYERS[3])
    monkeypatch.setattr(convolution, "_NUMBERS", x.numel() + 1)
    assert torch.equal(ours(x), theirs(x))


def test_no_gradient_for_the_input_unless_asked() -> None:
    layer = ConvTranspose2d(4, 5, 3, 2, 1, 1)
    layer(torch.randn(2, 4, 6, 6)).sum().backward()
    assert layer.weight.grad.shape == layer.weight.shape
    assert layer.bias.grad.shape == (5,)


@pytest.mark.parametrize("case", [LAYERS[14], LAYERS[19]], ids=str)
def test_double_precision_is_torchs(case: tuple) -> None:
    theirs, ours, x = _pair(case, torch.float64)
    assert torch.equal(ours(x), theirs(x))
    assert torch.autograd.gradcheck(ours, (x[:1, :, :3, :3].requires_grad_(),))


@pytest.mark.parametrize("case", LAYERS[3:5], ids=str)
def test_fake_and_meta_tensors(case: tuple) -> None:
    theirs, ours, x = _pair(case)
    shape = theirs(x).shape
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert ours(torch.empty(x.shape)).shape == shape
    assert ours.to("meta")(x.to("meta")).shape == shape


@pytest.mark.parametrize("case", LAYERS[3:5], ids=str)
def test_function_transforms(case: tuple) -> None:
    theirs, ours, x = _pair((*case[:-1], False))
    expected = grad(lambda p: functional_call(theirs, p, (x,)).square().sum())(dict(theirs.named_parameters()))
    value = grad(lambda p: functional_call(ours, p, (x,)).square().sum())(dict(ours.named_parameters()))
    for name in expected:
        torch.testing.assert_close(value[name], expected[name])
    assert torch.equal(torch.vmap(ours)(x[:, None]), torch.vmap(theirs)(x[:, None]))


def test_unusual_calls_are_torchs() -> None:
    theirs, ours, x = _pair(LAYERS[3])
    theirs = theirs[0]
    ours.relu = False
    assert torch.equal(ours(x[0]), theirs(x[0]))
    assert torch.equal(ours(x, [27, 27]), theirs(x, [27, 27]))
    assert ours(x[:0]).shape == (0, 32, 28, 28)
    with pytest.raises(RuntimeError, match="64 channels"):
        ours(x[:, :5])
    for options in (
        {"padding": "same"},
        {"groups": 2},
        {"dilation": 2},
        {"padding_mode": "reflect", "padding": 1},
    ):
        theirs, ours = nn.Conv2d(16, 2, 3, **options), Conv2d(16, 2, 3, **options)
        ours.load_state_dict(theirs.state_dict())
        assert torch.equal(ours(x[:, :16]), theirs(x[:, :16]))


def test_second_derivative_is_refused() -> None:
    layer, x = ConvTranspose2d(4, 5, 3, 2, 1, 1), torch.randn(2, 4, 6, 6, requires_grad=True)
    (dx,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def test_representation() -> None:
    assert "relu=True" in repr(Conv2d(1, 2, 3, relu=True))
    assert "relu" not in repr(ConvTranspose2d(1, 2, 3))


@pytest.mark.parametrize("side", [(1, 1), (1, 5), (2, 2)])
@pytest.mark.parametrize("kind", [Conv2d, ConvTranspose2d])
@pytest.mark.parametrize("channels", [8, 64])
def test_gradients_on_tiny_images_hold_nothing_that_memory_held(
    channels: int, kind: Any, side: tuple[int, int]
) -> None:
    """oneDNN leaves the gradients of taps that touch no pixel unset in bf16: memory full of NaN would show in them."""
    torch.manual_seed(0)
    layer = kind(channels, channels, 3, 2, 1)
    images = torch.randn(16, channels, *side).contiguous(memory_format=torch.channels_last)
    for _ in range(5):
        junk = [torch.full((size,), math.nan, dtype=torch.bfloat16) for size in (1000, 5000, 20000, 100000)]
        del junk
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            layer(images).float().square().sum().backward()
        low = layer.weight.grad.clone()
        layer.zero_grad()
        layer(images).square().sum().backward()
        torch.testing.assert_close(low, layer.weight.grad, rtol=0.05, atol=0.05 * float(layer.weight.grad.abs().max()))
