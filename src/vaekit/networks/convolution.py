"""Convolutions that train faster on a CPU, as drop-in subclasses of torch's own layers.

torch hands a convolution on the CPU to oneDNN, whose forward and input gradients run close to the speed of
a matrix product but whose other parts do not. Times below: 2 Zen 4 cores, bf16, batch 128.

- The bias gradient of a transposed convolution takes longer than its weight gradient: 5.2 ms of 9.6 ms for
  64->32 channels at 28x28. A plain sum takes 0.14 ms.
- Few output channels (32->1 at 28x28) leave its vectors mostly empty. A product of all pixels by all taps
  and a sum of shifted planes: 0.9 ms for 2.7 ms forward. With the roles of input and gradient exchanged,
  the weight gradient takes 0.4 ms for 2.8 ms.
- Weight gradients on narrow images (rows of 8 pixels or fewer) are faster as one product: 3.5 ms for 6.2 ms
  for 256->256 channels at 4x4, batch 64. In fp32, on wider rows, for fewer than 32 channels and with
  stride 1, they are not.
- Where there are kernels for it (`vaekit.native`), weight gradients and layers of few outputs take half of that again.

And one part is wrong: of a bf16 convolution whose images are one pixel high or wide, oneDNN (torch 2.13) leaves the
gradients of taps that touch no pixel as it found the memory. Such layers, which cost nothing, are computed in fp32.

Everything is computed by fixed sequences of deterministic operators: the same inputs give the same bits.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vaekit.native import kernels as native
from vaekit.native.eager import plain
from vaekit.networks.relu import is_masked, is_rectified, mark_masked, masked, masked_, rectified, rectify_, relu_

__all__ = ["Conv2d", "ConvTranspose2d"]

Pair = Sequence[int]  # a height and a width

# Where each of these stops paying off, as measured. The shifted planes grow with the output channels, and the
# product that they replace with the input channels: 32->3 gains, 16->3 and 32->4 lose.
_FEW_OUTPUTS_FORWARD = 3
_FEW_OUTPUTS_BACKWARD = 4
_MANY_INPUTS = 16
_INPUTS_PER_OUTPUT = 10
_NARROW = 8
_CHANNELS = 32
_NUMBERS = 2**16  # below, the 0.1 ms that Python takes for a layer is more than the gain


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d`, optionally followed by a ReLU: (N, C, H, W) -> (N, D, H', W').

    Parameters, state dict and results are torch's own, to rounding. The fast path returns channels-last
    memory and has no second derivative (asking for it raises an error).
    """

    def __init__(self, *args: Any, relu: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.relu = relu

    def forward(self, input: Tensor) -> Tensor:
        if _leaves_taps_unset(input):
            with torch.autocast("cpu", enabled=False):
                output = super().forward(input.float())
            return output.relu_() if self.relu else output
        dtype = _fast_dtype(self, input)
        if dtype is not None and _worthwhile(self, input, dtype):
            return _convolution(
                input, self.weight, self.bias, dtype, self.stride, self.padding, (0, 0), False, self.relu
            )
        output = super().forward(input)
        return relu_(output) if self.relu else output

    def extra_repr(self) -> str:
        return super().extra_repr() + (", relu=True" if self.relu else "")


class ConvTranspose2d(nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d`, optionally followed by a ReLU: (N, C, H, W) -> (N, D, H', W').

    Parameters, state dict and results are torch's own, to rounding. The fast path returns channels-last
    memory and has no second derivative (asking for it raises an error).
    """

    def __init__(self, *args: Any, relu: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.relu = relu

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if _leaves_taps_unset(input):
            with torch.autocast("cpu", enabled=False):
                output = super().forward(input.float(), output_size)
            return output.relu_() if self.relu else output
        usual = output_size is None and all(
            more < step for more, step in zip(self.output_padding, self.stride, strict=True)
        )
        dtype = _fast_dtype(self, input) if usual else None
        if dtype is None:
            output = super().forward(input, output_size)
            return relu_(output) if self.relu else output
        weight, transposed = self.weight, True
        padding = _pair(self.padding)
        if _few_outputs(self):
            # With stride 1 it is the convolution by the mirrored kernel, which has the faster path.
            weight, transposed = weight.flip(2, 3).transpose(0, 1), False
            padding = _mirrored(_pair(self.kernel_size), padding)
        return _convolution(
            input, weight, self.bias, dtype, self.stride, padding, self.output_padding, transposed, self.relu
        )

    def extra_repr(self) -> str:
        return super().extra_repr() + (", relu=True" if self.relu else "")


def _leaves_taps_unset(x: Tensor) -> bool:
    """Whether oneDNN's bf16 weight gradient would hold what the memory held before (see above)."""
    return x.device.type == "cpu" and x.dim() == 4 and min(x.shape[2:]) == 1 and torch.is_autocast_enabled("cpu")


def _fast_dtype(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> torch.dtype | None:
    """The type to compute in, or None where only torch's own convolution will do."""
    if (
        x.device.type != "cpu"
        or not plain()  # first: a number of images that is exported as any must not be compared
        or x.dim() != 4
        or x.numel() < _NUMBERS
        or x.shape[1] != layer.in_channels
        or layer.groups != 1
        or layer.dilation != (1, 1)
        or layer.padding_mode != "zeros"
        or isinstance(layer.padding, str)
        or type(x) not in (Tensor, nn.Parameter)  # fake tensors and other subclasses
        or type(layer.weight) not in (Tensor, nn.Parameter)
        or layer.weight.device != x.device
    ):
        return None
    fast = (torch.float32, torch.bfloat16)
    if x.dtype not in fast or layer.weight.dtype not in fast:
        return None
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        return dtype if dtype == torch.bfloat16 else None
    return x.dtype if x.dtype == layer.weight.dtype else None


def _worthwhile(layer: nn.Conv2d, x: Tensor, dtype: torch.dtype) -> bool:
    """Whether a convolution has a part that is faster here. A transposed one always has: its bias."""
    if _few_outputs(layer) or (dtype == torch.bfloat16 and native.has_weight_gradient(layer.weight.shape)):
        return True
    (h, w), (kh, kw), (sh, sw), (ph, pw) = x.shape[2:], layer.kernel_size, layer.stride, _pair(layer.padding)
    height, width = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    return height > 0 and width > 0 and _narrow(width, layer.weight.shape, layer.stride, dtype)


def _few_outputs(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    return (
        layer.stride == (1, 1)
        and layer.out_channels <= _FEW_OUTPUTS_BACKWARD
        and layer.in_channels >= _MANY_INPUTS
        and min(_mirrored(_pair(layer.kernel_size), _pair(layer.padding))) >= 0
    )


def _narrow(width: int, shape: torch.Size, stride: Pair, dtype: torch.dtype) -> bool:
    """Whether the weight gradient is faster as one product; width is that of the smaller image."""
    return dtype == torch.bfloat16 and width <= _NARROW and min(stride) > 1 and min(shape[:2]) >= _CHANNELS


def _pair(sizes: str | tuple[int, ...]) -> Pair:
    """The sizes of a layer as the pair that they are for images; torch's annotations allow more."""
    return int(sizes[0]), int(sizes[1])


def _mirrored(kernel: Pair, padding: Pair) -> Pair:
    """The padding of the convolution that leads back from output to input (stride 1)."""
    return kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1]


def _convolution(*arguments: Any) -> Tensor:
    """The arguments are those of `_Convolution`."""
    output = _Convolution.apply(*arguments)
    return rectified(output) if arguments[-1] else output


class _Convolution(torch.autograd.Function):
    """(Transposed) convolution, with ReLU if asked for, computed channels-last in one type."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        stride: Pair,
        padding: Pair,
        output_padding: Pair,
        transposed: bool,
        relu: bool,
    ) -> Tensor:
        ctx.input_rectified = x.dtype == torch.bfloat16 and is_rectified(x)  # in fp32 it does not pay
        ctx.types = x.dtype, weight.dtype, None if bias is None else bias.dtype
        x, w = _channels_last(x.to(dtype)), weight.to(dtype)
        ctx.few = (
            not transposed
            and stride == (1, 1)
            and w.shape[0] <= _FEW_OUTPUTS_BACKWARD
            and w.shape[1] >= _MANY_INPUTS
            and min(_mirrored(w.shape[2:], padding)) >= 0
        )
        y = _output(x, w, bias, stride, padding, output_padding, transposed, ctx.few, relu)
        ctx.stride, ctx.padding, ctx.transposed = stride, padding, transposed
        ctx.save_for_backward(x, w, y if relu else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w, y = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        g = _channels_last(grad)
        if y is not None and not is_masked(grad):
            g = masked(g, _channels_last(y))
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        mask = x if ctx.input_rectified else None
        dx = dw = db = None
        if ctx.few:
            both = native.few_outputs_backward(x, g, w, padding, of_x, of_weight, masked=mask is not None)
            dx, dw = (None, None) if both is None else both
        elif of_weight:
            big, small = (g, x) if ctx.transposed else (x, g)
            total_of = ("big" if ctx.transposed else "small") if of_bias else None
            dw, db = native.weight_gradient(big, small, w.shape[2:], stride, padding, total_of) or (None, None)
        if of_bias and db is None:
            db = _rows(g).sum(0)
        if of_weight and dw is None:
            if ctx.transposed:
                dw = _weight_grad(g, x, w, stride, padding)
            elif ctx.few:
                back = _mirrored(w.shape[2:], padding)
                dw = _weight_grad(g, x, w.transpose(0, 1), stride, back).flip(2, 3).transpose(0, 1)
            else:
                dw = _weight_grad(x, g, w, stride, padding)
        # the gradient of x last: its zeros are set while it is in the caches
        if of_x and dx is None and not ctx.transposed:
            dx = native.transposed_convolution(g, w, None, x.shape, stride, padding, mask=mask)
        set_already = dx is not None
        if of_x and dx is None:
            if ctx.transposed:
                dx = F.conv2d(g, w, None, stride, padding)
            else:
                dx = _onednn_grad(g, x, w, stride, padding, (True, False, False))
        dx, dw, db = (
            None if each is None else each.to(kind) for each, kind in zip((dx, dw, db), ctx.types, strict=True)
        )
        if dx is not None and mask is not None:
            mark_masked(dx) if set_already else masked_(dx, x)
        return dx, dw, db, None, None, None, None, None, None


def _output(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    transposed: bool,
    few: bool,
    relu: bool,
) -> Tensor:
    """What a layer gives, its ReLU included; x and w are of the type to compute in."""
    b = None if bias is None else bias.to(x.dtype)
    if transposed:
        sizes = zip(x.shape[2:], w.shape[2:], stride, padding, output_padding, strict=True)
        shape = (x.shape[0], w.shape[1], *((n - 1) * s - 2 * p + k + extra for n, k, s, p, extra in sizes))
        if (y := native.transposed_convolution(x, w, bias, shape, stride, padding, relu)) is not None:
            return y
        y = F.conv_transpose2d(x, w, b, stride, padding, output_padding)
    elif (found := native.few_inputs_forward(x, w, bias, stride, padding, relu)) is not None:
        return found
    elif few and (found := native.few_outputs_forward(x, w, bias, padding)) is not None:
        y = found
    elif few and w.shape[0] <= min(_FEW_OUTPUTS_FORWARD, w.shape[1] // _INPUTS_PER_OUTPUT):
        y = _by_taps(x, w, b, padding)
    else:
        y = F.conv2d(x, w, b, stride, padding)
    if relu:
        rectify_(y)
    return y


def _channels_last(x: Tensor) -> Tensor:
    """x (N, C, H, W) in channels-last memory, with the strides that say so even where a size is 1.

    Of strides that fit both layouts, as those of a single channel, torch concludes the other one, and every
    operator that follows would convert.
    """
    n, c, h, w = x.shape
    return x.contiguous(memory_format=torch.channels_last).as_strided((n, c, h, w), (h * w * c, 1, w * c, c))


def _rows(x: Tensor) -> Tensor:
    """The pixels of x (N, C, H, W), channels-last, as rows: (N*H*W, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _by_taps(x: Tensor, w: Tensor, b: Tensor | None, padding: Pair) -> Tensor:
    """Convolution with stride 1 of x (N, C, H, W) by w (D, C, K, L), for few output channels D.

    All taps of all pixels are one product; each tap's plane is then added, in fp32, where it belongs.
    """
    n, _, h, width = x.shape
    d, c, k, m = w.shape
    planes = (w.permute(2, 3, 0, 1).reshape(k * m * d, c) @ _rows(x).t()).float().view(k, m, d, n, h, width)
    shape = d, n, h + k - 1, width + m - 1
    total = planes.new_zeros(shape) if b is None else b.float().view(d, 1, 1, 1).expand(shape).contiguous()
    for i in range(k):
        for j in range(m):
            top, left = k - 1 - i, m - 1 - j
            total[:, :, top : top + h, left : left + width] += planes[i, j]
    top, left = _mirrored((k, m), padding)
    total = total[:, :, top : total.shape[2] - top, left : total.shape[3] - left]
    # no view of other memory, so that what follows may change it in place
    found = torch.empty((n, d, *total.shape[2:]), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return found.copy_(total.transpose(0, 1))


def _weight_grad(big: Tensor, small: Tensor, w: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Gradient of w (D, C, K, L), by which a convolution leads from big (N, C, ...) to small (N, D, ...)."""
    n, d, height, width = small.shape
    if not _narrow(width, w.shape, stride, big.dtype):
        return _onednn_grad(small, big, w, stride, padding, (False, True, False))
    _, c, k, m = w.shape
    (sh, sw), (ph, pw), (h, wide) = stride, padding, big.shape[2:]
    right, bottom = (width - 1) * sw + m - wide - pw, (height - 1) * sh + k - h - ph
    padded = F.pad(big.permute(0, 2, 3, 1), (0, 0, pw, max(0, right), ph, max(0, bottom)))
    a, r, s, _ = padded.stride()
    # In channels-last memory, a row of a window is contiguous: m pixels of c channels.
    windows = padded.as_strided((n, height, width, k, m * c), (a, r * sh, s * sw, r, 1))
    product = _rows(small).t() @ windows.reshape(n * height * width, k * m * c)
    return product.view(d, k, m, c).permute(0, 3, 1, 2)


def _onednn_grad(g: Tensor, x: Tensor, w: Tensor, stride: Pair, padding: Pair, mask: tuple[bool, bool, bool]) -> Tensor:
    grads = torch.ops.aten.convolution_backward(g, x, w, None, stride, padding, (1, 1), False, (0, 0), 1, mask)
    return grads[mask.index(True)]
