"""Parts of bf16 convolutions in channels-last memory, by the kernels.

A convolution leads from `big` (N, C, H, W) to `small` (N, D, h, w) by a weight (D, C, K, L). There are kernels for

- the gradient of the weight, float32 to the end, where oneDNN's is rounded to bf16;
- the way back to the larger image with a stride beyond 1, and the zeros of a ReLU; with stride 1 oneDNN is as fast;
- convolutions that read one to four channels, forward and the gradient of their weight;
- convolutions of stride 1 that make one to four, forward and both gradients.

benchmarks/kernels.py times them against what `vaekit.networks.convolution` does otherwise (docs/speed.md).

Images too large for the caches are left to others. Every function returns None where the kernels do not serve; results are
the same bits for the same number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from vaekit.native import library

__all__ = [
    "few_inputs_forward",
    "few_outputs_backward",
    "few_outputs_forward",
    "has_weight_gradient",
    "transposed_convolution",
    "weight_gradient",
]

_LANES = 32  # bf16 numbers that are read at once
_FEW = 4  # channels read that are few
_PAIRS = 2**19  # numbers of an image, as the taps meet it, above which it leaves the caches
_MANY = 2**20  # numbers of a weight above which it leaves the caches between images

_POINTERS = ("big", "small", "weight", "bias", "result", "gradient", "total", "scratch")

Pair = Sequence[int]


class _Convolution(ctypes.Structure):
    """As in convolution.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int) for name in ("n", "H", "W", "C", "h", "w", "D", "kh", "kw", "sh", "sw", "ph", "pw")),
        ("masked", ctypes.c_int),
        ("relu", ctypes.c_int),
        ("of_big", ctypes.c_int),
        ("parts", ctypes.c_int),
        ("scratch_bytes", ctypes.c_int64),
    )


def has_weight_gradient(weight: torch.Size) -> bool:
    """Whether `weight_gradient` serves for a weight (D, C, K, L), and is faster."""
    return library.in_use() is not None and (_in_vectors(weight) or _few_inputs(weight))


def _in_vectors(weight: torch.Size) -> bool:
    return not (weight[0] % _LANES or weight[1] % _LANES) and weight.numel() <= _MANY


def _few_inputs(weight: torch.Size) -> bool:
    """Whether a convolution reads few channels."""
    return weight[1] <= _FEW and not weight[0] % _LANES and weight.numel() <= _MANY


def few_inputs_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, relu: bool = False
) -> Tensor | None:
    """Convolution of an x of few channels by a weight (D, C, K, L), with the ReLU that follows; bf16 and channels-last."""
    kernels = library.in_use()
    if kernels is None or not _few_inputs(weight.shape) or not _fits(x):
        return None
    height, width = _smaller(x.shape, weight.shape, stride, padding)
    if min(height, width) < 1:
        return None
    y, taps = _channels_last((x.shape[0], weight.shape[0], height, width)), weight.permute(0, 2, 3, 1).contiguous()
    numbers = None if bias is None else bias.float().contiguous()
    what = _described(x.shape, y.shape, weight.shape[2:], stride, padding)
    what.big, what.weight, what.result, what.relu = x.data_ptr(), taps.data_ptr(), y.data_ptr(), relu
    what.bias = None if numbers is None else numbers.data_ptr()
    _call(kernels, "few_inputs_forward", what, clear=True)
    return y


def weight_gradient(
    big: Tensor,
    small: Tensor,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    total_of: str | None = None,
) -> tuple[Tensor, Tensor | None] | None:
    """Gradient (D, C, K, L) of a convolution's weight and, if asked for, that of its bias; float32, channels-last.

    The bias is left to others where it belongs to a `big` of few channels.

    Args:
        big: what the convolution reads, or for a transposed one its gradient; bf16, channels-last.
        small: the gradient of what it makes, or what a transposed one reads.
        total_of: `big` or `small`, which of the two to add up over all pixels for the bias.
    """
    kernels = library.in_use()
    shape = torch.Size((small.shape[1], big.shape[1], *kernel))
    if kernels is None or not has_weight_gradient(shape) or not _fits(big, small):
        return None
    few = _few_inputs(shape)
    if not few and kernel[1] * big[0].numel() // stride[1] > _PAIRS:
        return None
    gradient = _floats((shape[0], *kernel, shape[1]))
    if few and total_of == "big":
        total_of = None
    total = None if total_of is None else _floats((shape[1] if total_of == "big" else shape[0],))
    what = _described(big.shape, small.shape, kernel, stride, padding)
    what.big, what.small, what.gradient = big.data_ptr(), small.data_ptr(), gradient.data_ptr()
    what.total, what.of_big = None if total is None else total.data_ptr(), total_of == "big"
    _call(kernels, "few_inputs_gradient" if few else "weight_gradient", what, clear=few)
    return gradient.permute(0, 3, 1, 2), total


def transposed_convolution(
    small: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    shape: Sequence[int],
    stride: Pair,
    padding: Pair,
    relu: bool = False,
    mask: Tensor | None = None,
) -> Tensor | None:
    """From `small` to `big`, bf16 (N, C, H, W): a transposed convolution, or the gradient of what a convolution reads.

    Strides of 1 are left to others.

    Args:
        small: (N, D, h, w), bf16, channels-last.
        weight: (D, C, K, L), bf16.
        bias: (C,), in float32 or rounded to it.
        shape: of the result.
        relu: whether a ReLU follows.
        mask: where it is not positive, the result is 0; of the result's shape, bf16, channels-last.
    """
    kernels = library.in_use()
    if kernels is None or max(stride) == 1 or not _in_vectors(weight.shape) or not _fits(small):
        return None
    if mask is not None and not _fits(mask):
        return None
    result = _channels_last(shape)
    taps = weight.permute(0, 2, 3, 1).contiguous()
    numbers = None if bias is None else bias.float().contiguous()
    what = _described(shape, small.shape, weight.shape[2:], stride, padding)
    what.small, what.weight, what.result = small.data_ptr(), taps.data_ptr(), result.data_ptr()
    what.bias = None if numbers is None else numbers.data_ptr()
    what.relu, what.masked, what.big = relu, mask is not None, None if mask is None else mask.data_ptr()
    _call(kernels, "transposed_convolution", what, clear=True)
    return result


def few_outputs_forward(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair) -> Tensor | None:
    """Convolution with stride 1 of x by a weight of few output channels, bf16 and channels-last; bias float32."""
    kernels = library.in_use()
    if kernels is None or x.shape[1] % _LANES or not _fits(x):
        return None
    n, kernel = x.shape[0], weight.shape[2:]
    height, width = _smaller(x.shape, weight.shape, (1, 1), padding)
    if min(height, width) < 1:
        return None
    y = _channels_last((n, weight.shape[0], height, width))
    taps = weight.permute(0, 2, 3, 1).contiguous()
    numbers = None if bias is None else bias.float().contiguous()
    what = _described(x.shape, y.shape, kernel, (1, 1), padding)
    what.big, what.weight, what.result = x.data_ptr(), taps.data_ptr(), y.data_ptr()
    what.bias = None if numbers is None else numbers.data_ptr()
    _call(kernels, "few_outputs_forward", what, clear=True)
    return y


def few_outputs_backward(
    x: Tensor, gradient: Tensor, weight: Tensor, padding: Pair, of_x: bool, of_weight: bool, masked: bool
) -> tuple[Tensor | None, Tensor | None] | None:
    """Gradients of `few_outputs_forward`'s x (bf16) and weight (float32), each if asked for, in one pass.

    Args:
        gradient: of what the convolution made; bf16, channels-last.
        masked: set the gradient of x to 0 where x is not positive, for an x that a ReLU made.
    """
    kernels = library.in_use()
    if kernels is None or x.shape[1] % _LANES or not _fits(x, gradient):
        return None
    kernel = weight.shape[2:]
    what = _described(x.shape, gradient.shape, kernel, (1, 1), padding)
    taps = weight.permute(0, 2, 3, 1).contiguous()
    dx = torch.empty_like(x) if of_x else None
    dw = _floats(taps.shape) if of_weight else None
    what.big, what.small, what.weight, what.masked = x.data_ptr(), gradient.data_ptr(), taps.data_ptr(), masked
    what.result = None if dx is None else dx.data_ptr()
    what.gradient = None if dw is None else dw.data_ptr()
    _call(kernels, "few_outputs_backward", what, clear=True)
    return dx, None if dw is None else dw.permute(0, 3, 1, 2)


def _fits(*images: Tensor) -> bool:
    """Whether images lie in memory as the kernels read them."""
    return all(x.dtype == torch.bfloat16 and x.numel() > 0 and x.permute(0, 2, 3, 1).is_contiguous() for x in images)


def _smaller(big: Pair, weight: Pair, stride: Pair, padding: Pair) -> tuple[int, int]:
    """Height and width that a convolution makes."""
    sizes = zip(big[2:], weight[2:], stride, padding, strict=True)
    height, width = ((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)
    return height, width


def _channels_last(shape: Sequence[int]) -> Tensor:
    """Memory for images, and no view of other memory: such a view, once returned, may not be changed in place."""
    return torch.empty(tuple(shape), dtype=torch.bfloat16, device="cpu", memory_format=torch.channels_last)


def _floats(shape: Sequence[int]) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _described(big: Pair, small: Pair, kernel: Pair, stride: Pair, padding: Pair) -> _Convolution:
    n, channels, height, width = big
    _, outputs, out_height, out_width = small
    what = _Convolution(n=n, H=height, W=width, C=channels, h=out_height, w=out_width, D=outputs)
    (what.kh, what.kw), (what.sh, what.sw), (what.ph, what.pw) = kernel, stride, padding
    what.parts = min(torch.get_num_threads(), n)
    return what


def _call(kernels: ctypes.CDLL, name: str, what: _Convolution, clear: bool) -> None:
    """Call a kernel with scratch memory for each part, as many bytes as it says; `clear` sets them to zero."""
    reference = ctypes.byref(what)
    size = (getattr(kernels, f"{name}_scratch")(reference) + 63) // 64 * 64
    make = torch.zeros if clear else torch.empty
    scratch = make(what.parts * size + 64, dtype=torch.uint8, device="cpu")
    what.scratch, what.scratch_bytes = (scratch.data_ptr() + 63) // 64 * 64, size
    getattr(kernels, name)(reference, library.parallel())
