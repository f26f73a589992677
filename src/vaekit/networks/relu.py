"""ReLU for training on a CPU, where it costs what the memory costs that it reads and writes.

In bf16 torch's own converts to fp32 and back. As integers, the same bits compare four times faster (0.06 for 0.26 ms at
32x28x28, batch 128, 2 Zen 4 cores): up to -128 they are the negative numbers, and above the positive ones and NaN. oneDNN's
ReLU, fused with a convolution, would hide a NaN and gains no more.

Its gradient is 0 where the output is. Computed on its own, that reads output and gradient from memory and writes a third
tensor. The layer that reads the output has both in its caches during its backward pass, and its gradient is nobody else's
yet: so it sets the zeros there, in place, and the ReLU finds them set. With this package's `Conv2d` and `ConvTranspose2d`
that makes the step of a small convolutional VAE 1.05 to 1.2 times as fast (2 Zen 5 cores, bf16, batch 128, same bits).

Both sides know it from a mark on the tensor, which holds as long as nobody writes to the tensor: a sum of several gradients,
or one that a hook changed, is no longer marked, and the ReLU sets its zeros itself.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vaekit.native.eager import plain

__all__ = ["is_masked", "is_rectified", "mark_masked", "masked", "masked_", "rectified", "rectify_", "relu_"]

_NUMBERS = 2**17  # below, the 0.05 ms that Python takes is more than the gain


def relu_(x: Tensor) -> Tensor:
    """ReLU of x, any shape, in place and with a gradient; in bf16 on a CPU by the integers behind the numbers."""
    fits = x.device.type == "cpu" and x.dtype == torch.bfloat16 and type(x) is Tensor
    if plain() and fits and x.numel() >= _NUMBERS:
        return rectified(_InPlaceReLU.apply(x))
    return x.relu_()


class _InPlaceReLU(torch.autograd.Function):
    """ReLU of a bf16 tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rectify_(x)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad if is_masked(grad) else masked(grad, y)


def rectify_(y: Tensor) -> None:
    """ReLU in place, without a gradient."""
    if y.dtype == torch.bfloat16:
        torch.threshold_(y.view(torch.int16), -128, 0)
    else:
        y.relu_()


def rectified(y: Tensor) -> Tensor:
    """y, marked as the output of a ReLU whose backward pass asks `is_masked` of its gradient."""
    if y.requires_grad:
        y.rectified_at = y._version  # type: ignore[attr-defined]
    return y


def is_rectified(x: Tensor) -> bool:
    """Whether x is what a ReLU gave, and was not written to since."""
    return x.requires_grad and getattr(x, "rectified_at", None) == x._version


def masked_(grad: Tensor, y: Tensor) -> Tensor:
    """grad, set to 0 in place where y, the output of a ReLU, is; both of one type. `is_masked` of it from now on."""
    _threshold_backward(grad, y, grad)
    return mark_masked(grad)


def mark_masked(grad: Tensor) -> Tensor:
    """grad, whose zeros were set by the layer that made it. `is_masked` of it from now on."""
    grad.masked_at = grad._version  # type: ignore[attr-defined]
    return grad


def is_masked(grad: Tensor) -> bool:
    """Whether the layer that read a ReLU's output has set the zeros of its gradient, and nobody wrote to it since."""
    return getattr(grad, "masked_at", None) == grad._version


def masked(grad: Tensor, y: Tensor) -> Tensor:
    """grad where y, the output of a ReLU, is positive, else 0."""
    return _threshold_backward(grad, y, None)


def _threshold_backward(grad: Tensor, y: Tensor, out: Tensor | None) -> Tensor:
    """Into `out`, or a new tensor; on integers where both are bf16 (0.15 for 0.31 ms)."""
    if y.dtype == grad.dtype == torch.bfloat16:
        bits = None if out is None else out.view(torch.int16)
        return _threshold_backward(grad.view(torch.int16), y.view(torch.int16), bits).view(torch.bfloat16)
    if out is None:
        return torch.ops.aten.threshold_backward(grad, y, 0)
    return torch.ops.aten.threshold_backward.grad_input(grad, y, 0, grad_input=out)
