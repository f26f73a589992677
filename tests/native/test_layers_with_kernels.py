"""Layers of convolutions use the kernels where these serve, give what they give without, and the same bits every time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vaekit.native import kernels, library
from vaekit.networks import convolution as layers
from vaekit.networks.convolution import Conv2d, ConvTranspose2d

pytestmark = pytest.mark.usefixtures("in_use")


@pytest.mark.parametrize(
    "layer",
    [
        Conv2d(32, 64, 3, 2, 1, relu=True),
        Conv2d(1, 32, 3, 2, 1, relu=True),
        Conv2d(32, 3, 3, 1, 1),
        ConvTranspose2d(64, 32, 3, 2, 1, 1, relu=True),
        ConvTranspose2d(32, 1, 3, 1, 1),
    ],
    ids=str,
)
def test_layers_use_them(layer: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """And results are the same as without, to rounding, and to numbers within rounding of a ReLU's zero."""
    calls: list[str] = []
    call = kernels._call
    monkeypatch.setattr(kernels, "_call", lambda *args, **more: calls.append(args[1]) or call(*args, **more))
    torch.manual_seed(0)
    x = torch.randn(8, layer.in_channels, 96 if layer.in_channels == 1 else 16, 96 if layer.in_channels == 1 else 16)
    weights = None
    found: list[list[Tensor]] = []
    for wanted in (True, False):
        given = x.clone().requires_grad_()
        with library.using(wanted):
            with torch.autocast("cpu", torch.bfloat16):
                y = layer(given)
            weights = torch.randn(y.shape).to(y.dtype) if weights is None else weights
            found.append([y.detach(), *torch.autograd.grad(y, [given, *layer.parameters()], weights)])
    reads_few = layer.weight.shape[1] == 1 and layer.stride == (2, 2)
    if reads_few:
        expected = ["few_inputs_forward", "few_inputs_gradient"]
    elif min(layer.weight.shape[:2]) < 32:
        expected = ["few_outputs_forward", "few_outputs_backward"]
    elif isinstance(layer, ConvTranspose2d):
        expected = ["transposed_convolution", "weight_gradient"]
    else:
        expected = ["weight_gradient", "transposed_convolution"]
    assert calls == expected
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        # torch adds up the gradient of the first layer's bias in bf16
        assert (ours.float() - theirs.float()).norm() < (5e-2 if reads_few else 2e-2) * theirs.float().norm()


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        (ConvTranspose2d(32, 32, 3, 2, 1, 1, relu=True), ConvTranspose2d(32, 1, 3, 1, 1)),
        (Conv2d(32, 64, 3, 2, 1, relu=True), Conv2d(64, 32, 3, 2, 1)),
        (ConvTranspose2d(32, 32, 3, 2, 1, 1, relu=True), ConvTranspose2d(32, 32, 3, 2, 1, 1)),
    ],
    ids=str,
)
def test_a_gradient_between_two_layers_is_masked_once(
    inner: torch.nn.Module, outer: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layer that reads a ReLU's output sets the zeros of its gradient, by the kernel as by torch."""
    calls: list[str] = []
    masked = layers.masked
    monkeypatch.setattr(layers, "masked", lambda *args: calls.append("again") or masked(*args))
    torch.manual_seed(0)
    x = torch.randn(8, 32, 32, 32)
    grads = []
    for wanted in (True, False):
        with library.using(wanted):
            with torch.autocast("cpu", torch.bfloat16):
                loss = outer(inner(x)).float().square().sum()
            grads.append(torch.autograd.grad(loss, [*inner.parameters(), *outer.parameters()]))
        assert not calls
    for ours, theirs in zip(*grads, strict=True):
        assert (ours - theirs).norm() < 2e-2 * theirs.norm()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", ["weight", "bias", "both"])
@pytest.mark.parametrize(
    "made",
    [
        lambda bias: Conv2d(32, 64, 3, 2, 1, relu=True, bias=bias),
        lambda bias: Conv2d(2, 32, 3, 2, 1, bias=bias),
        lambda bias: Conv2d(32, 3, 3, 1, 1, bias=bias),
        lambda bias: ConvTranspose2d(64, 32, 3, 2, 1, 1, bias=bias),
        lambda bias: ConvTranspose2d(32, 3, 4, 2, 1, bias=bias),
        lambda bias: ConvTranspose2d(32, 1, 3, 1, 1, bias=bias),
    ],
)
def test_frozen_parts_and_no_bias(made: Callable[[bool], torch.nn.Module], frozen: str, bias: bool) -> None:
    """Gradients of what is left are those with everything free: to the bit, but for a bias that is then added up in bf16."""
    torch.manual_seed(0)
    layer = made(bias)
    x = torch.randn(64, layer.in_channels, 24, 24)[1:].requires_grad_()  # memory that begins elsewhere

    def gradients() -> dict[str, Tensor]:
        layer.zero_grad()
        x.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        y.float().square().sum().backward()
        return {"x": x.grad, **{name: part.grad for name, part in layer.named_parameters() if part.requires_grad}}

    everything = {name: value.clone() for name, value in gradients().items()}
    for name, part in layer.named_parameters():
        part.requires_grad_(frozen not in (name, "both"))
    for name, value in gradients().items():
        torch.testing.assert_close(value, everything[name], rtol=2**-7 if name == "bias" else 0, atol=0)


def test_padding_added_to_the_output_is_less_than_the_stride() -> None:
    """torch refuses more, and so do the layers."""
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="output padding"):
        ConvTranspose2d(32, 32, 3, 2, 1, 2)(torch.randn(8, 32, 16, 16))


@pytest.mark.parametrize("threads", [2, 4])
def test_a_whole_pass_has_the_same_bits_each_time(threads: int) -> None:
    """Threads that met in one place of memory would show: here every kernel runs thirty times, on the bits of one pass."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        Conv2d(1, 32, 3, 2, 1, relu=True),
        Conv2d(32, 64, 3, 2, 1, relu=True),
        ConvTranspose2d(64, 64, 3, 2, 1, 1, relu=True),
        ConvTranspose2d(64, 32, 3, 2, 1, 1, relu=True),
        ConvTranspose2d(32, 1, 3, 1, 1),
    )
    x = torch.randn(67, 1, 28, 28)

    def passed() -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            y = network(x)
        return [y.detach(), *torch.autograd.grad(y.float().square().sum(), list(network.parameters()))]

    first = passed()
    for _ in range(29):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(passed(), first, strict=True))


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        Conv2d(32, 64, 3, 2, 1),
        Conv2d(64, 64, 3, 1, 1),
        Conv2d(1, 32, 3, 2, 1),
        Conv2d(32, 3, 3, 1, 1),
        ConvTranspose2d(64, 32, 3, 2, 1, 1),
        ConvTranspose2d(32, 1, 3, 1, 1),
    ],
    ids=str,
)
def test_what_they_return_may_be_changed_in_place(layer: torch.nn.Module, wanted: bool) -> None:
    """Blocks go on with activations in place, which autograd allows of no view that a function of one's own returns."""
    torch.manual_seed(0)
    x = torch.randn(8, layer.in_channels, 48, 48)
    grads = []
    for after in (torch.nn.ELU(inplace=True), torch.nn.ELU()):
        with library.using(wanted):
            with torch.autocast("cpu", torch.bfloat16):
                y = after(layer(x))
            grads.append(torch.autograd.grad(y.float().square().sum(), list(layer.parameters())))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=1e-2 * theirs.abs().max().item())
