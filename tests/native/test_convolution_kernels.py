"""The kernels give the sums that they promise, computed exactly from the same bf16 numbers, and the same bits every time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.native import kernels, library

pytestmark = pytest.mark.usefixtures("in_use")

# (images, C of the larger image, D of the smaller one, height, width of the larger, kernel, stride, padding)
WEIGHTS = [
    (5, 32, 64, 28, 28, (3, 3), (2, 2), (1, 1)),
    (7, 64, 32, 14, 14, (3, 3), (2, 2), (1, 1)),
    (9, 64, 96, 7, 7, (3, 3), (2, 2), (1, 1)),
    (20, 32, 32, 4, 4, (3, 3), (2, 2), (1, 1)),  # several images at once, and some left over
    (3, 32, 32, 9, 13, (3, 5), (1, 2), (0, 2)),
    (2, 32, 32, 11, 10, (4, 4), (2, 3), (1, 0)),  # a last row and columns that no window covers
    (4, 32, 64, 5, 1, (1, 1), (1, 1), (0, 0)),
    (2, 96, 32, 6, 6, (3, 3), (1, 1), (2, 2)),
    (2, 32, 32, 7, 6, (2, 2), (3, 4), (2, 3)),  # strides and paddings beyond the kernel
    (130, 32, 32, 4, 4, (3, 3), (2, 2), (1, 1)),  # groups of several images, and a smaller one
]
FEW_READ = [
    (5, 1, 32, 28, 28, (3, 3), (2, 2), (1, 1)),
    (3, 3, 64, 9, 13, (4, 4), (2, 3), (1, 0)),
    (2, 4, 32, 7, 5, (3, 5), (1, 2), (0, 2)),
    (4, 2, 96, 6, 6, (1, 1), (1, 1), (0, 0)),
    (1, 3, 32, 5, 5, (2, 2), (3, 3), (2, 2)),
]
# (images, C, D, height, width, kernel, padding), stride 1
FEW_MADE = [
    (3, 32, 1, 28, 28, (3, 3), (1, 1)),
    (3, 32, 3, 9, 13, (3, 3), (1, 1)),
    (5, 64, 4, 7, 5, (3, 3), (0, 0)),
    (2, 32, 2, 9, 8, (4, 4), (2, 2)),
    (3, 96, 2, 5, 6, (2, 3), (0, 1)),
    (1, 32, 1, 5, 5, (1, 1), (0, 0)),
    (3, 32, 1, 6, 7, (5, 6), (2, 4)),
]
# (images, D of the smaller image, C of the larger one, height, width of the smaller, kernel, stride, padding, more)
TRANSPOSED = [
    (3, 64, 32, 14, 14, (3, 3), (2, 2), (1, 1), (1, 1)),
    (5, 32, 96, 7, 7, (3, 3), (2, 2), (1, 1), (0, 1)),
    (2, 32, 32, 1, 19, (4, 4), (2, 2), (1, 1), (0, 0)),  # tiles of 7, 6 and 6 pixels, and more pixels than taps reach
    (2, 64, 32, 5, 3, (3, 5), (1, 2), (0, 2), (0, 0)),
    (3, 32, 32, 4, 4, (2, 1), (3, 2), (0, 0), (1, 1)),  # pixels that no tap meets
    (1, 32, 32, 6, 5, (3, 3), (3, 2), (2, 2), (2, 1)),
    (2, 32, 32, 6, 7, (2, 2), (3, 2), (2, 3), (1, 0)),
]


def images(*shape: int) -> Tensor:
    """bf16 in channels-last memory."""
    n, c, h, w = shape
    return torch.randn(n, h, w, c).bfloat16().permute(0, 3, 1, 2)


def gradient_case(case: tuple) -> tuple[Tensor, Tensor, Tensor]:
    """The larger image, the smaller one, and the exact gradient of the weight between them."""
    n, c, d, height, width, kernel, stride, padding = case
    torch.manual_seed(0)
    big = images(n, c, height, width)
    weight = torch.zeros(d, c, *kernel, dtype=torch.float64, requires_grad=True)
    made = F.conv2d(big.double(), weight, None, stride, padding)
    small = images(*made.shape)
    (exact,) = torch.autograd.grad(made, weight, small.double())
    return big, small, exact


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", [*WEIGHTS, *FEW_READ], ids=str)
def test_gradient_of_the_weight(case: tuple, threads: int) -> None:
    torch.set_num_threads(threads)
    big, small, exact = gradient_case(case)
    found, nothing = kernels.weight_gradient(big, small, *case[5:])
    assert nothing is None
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - exact).norm() < 2e-6 * exact.norm()
    for name, image in (("big", big), ("small", small)):
        again, total = kernels.weight_gradient(big, small, *case[5:], total_of=name)
        assert torch.equal(found, again)
        if total is None:
            assert name == "big"
            assert case in FEW_READ
            continue
        sums, sizes = image.double().sum((0, 2, 3)), image.double().abs().sum((0, 2, 3))
        assert ((total - sums).abs() < 1e-6 * sizes).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", FEW_MADE, ids=str)
def test_few_outputs(case: tuple, threads: int) -> None:
    torch.set_num_threads(threads)
    n, c, d, height, width, kernel, padding = case
    torch.manual_seed(1)
    x, weight, bias = images(n, c, height, width), torch.randn(d, c, *kernel).bfloat16(), torch.randn(d)
    exact_x, exact_weight = x.double().requires_grad_(), weight.double().requires_grad_()
    exact = F.conv2d(exact_x, exact_weight, bias.double(), 1, padding)
    gradient = images(*exact.shape)
    of_x, of_weight = torch.autograd.grad(exact, [exact_x, exact_weight], gradient.double())

    y = kernels.few_outputs_forward(x, weight, bias, padding)
    assert y is not None
    assert y.dtype == torch.bfloat16
    within_rounding(y, exact)
    assert torch.equal(
        y, kernels.few_outputs_forward(x, weight.contiguous(memory_format=torch.channels_last), bias, padding)
    )
    without = kernels.few_outputs_forward(x, weight, None, padding)
    assert without is not None
    within_rounding(without, exact - bias.view(1, -1, 1, 1))

    both = kernels.few_outputs_backward(x, gradient, weight, padding, True, True, masked=False)
    assert both is not None
    dx, dw = both
    within_rounding(dx, of_x)
    assert (dw - of_weight).norm() < 2e-6 * of_weight.norm()
    masked, nothing = kernels.few_outputs_backward(x, gradient, weight, padding, True, False, masked=True)
    assert nothing is None
    assert torch.equal(masked, torch.where(x > 0, dx, 0))
    nothing, alone = kernels.few_outputs_backward(x, gradient, weight, padding, False, True, masked=True)
    assert nothing is None
    assert torch.equal(alone, dw)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", FEW_READ, ids=str)
def test_few_channels_read(case: tuple, threads: int) -> None:
    torch.set_num_threads(threads)
    n, c, d, height, width, kernel, stride, padding = case
    torch.manual_seed(3)
    x, weight, bias = images(n, c, height, width), torch.randn(d, c, *kernel).bfloat16(), torch.randn(d)
    exact = F.conv2d(x.double(), weight.double(), None, stride, padding)
    plain = kernels.few_inputs_forward(x, weight, None, stride, padding)
    assert plain is not None
    within_rounding(plain, exact)
    shifted = kernels.few_inputs_forward(x, weight, bias, stride, padding)
    within_rounding(shifted, exact + bias.view(1, -1, 1, 1))
    assert torch.equal(kernels.few_inputs_forward(x, weight, bias, stride, padding, relu=True), shifted.relu())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_back_to_the_larger_image(case: tuple, threads: int) -> None:
    torch.set_num_threads(threads)
    n, d, c, height, width, kernel, stride, padding, more = case
    torch.manual_seed(2)
    small, weight, bias = images(n, d, height, width), torch.randn(d, c, *kernel).bfloat16(), torch.randn(c)
    exact = F.conv_transpose2d(small.double(), weight.double(), None, stride, padding, more)
    plain = kernels.transposed_convolution(small, weight, None, exact.shape, stride, padding)
    assert plain is not None
    within_rounding(plain, exact)
    shifted = kernels.transposed_convolution(small, weight, bias, exact.shape, stride, padding)
    within_rounding(shifted, exact + bias.view(1, -1, 1, 1))
    laid_out = weight.contiguous(memory_format=torch.channels_last)
    assert torch.equal(shifted, kernels.transposed_convolution(small, laid_out, bias, exact.shape, stride, padding))
    positive = kernels.transposed_convolution(small, weight, bias, exact.shape, stride, padding, relu=True)
    assert torch.equal(positive, shifted.relu())
    mask = images(*exact.shape)
    masked = kernels.transposed_convolution(small, weight, None, exact.shape, stride, padding, mask=mask)
    assert torch.equal(masked, torch.where(mask > 0, plain, 0))


def within_rounding(value: Tensor, exact: Tensor) -> None:
    """Each number is the exact one rounded once to bf16, but for the rounding of sums of float32."""
    error = (value.double() - exact).abs()
    assert (error <= 2.0**-8 * exact.abs() + 1e-5 * exact.abs().max()).all()


@pytest.mark.parametrize("where", ["big", "small"])
def test_numbers_that_are_not_finite_show(where: str) -> None:
    big, small, _ = gradient_case(WEIGHTS[0])
    {"big": big, "small": small}[where][2, 3, 4, 4] = float("nan")
    assert kernels.weight_gradient(big, small, *WEIGHTS[0][5:])[0].isnan().any()
    x, weight = images(2, 32, 6, 6), torch.randn(1, 32, 3, 3).bfloat16()
    x[1, 5, 2, 2] = float("nan")
    assert kernels.few_outputs_forward(x, weight, None, (1, 1)).isnan().sum() == 9
    gradient, weight = images(2, 1, 6, 6), torch.randn(1, 32, 3, 3).bfloat16()
    assert kernels.few_outputs_backward(x, gradient, weight, (1, 1), False, True, masked=False)[1].isnan().any()
    gradient[0, 0, 1, 1] = float("nan")
    assert kernels.few_outputs_backward(x, gradient, weight, (1, 1), True, False, masked=False)[0][0].isnan().any()
    assert (
        kernels.few_inputs_forward(
            x[:, 3:7].contiguous(memory_format=torch.channels_last),
            torch.randn(32, 4, 3, 3).bfloat16(),
            None,
            (2, 2),
            (1, 1),
        )
        .isnan()
        .any()
    )
    weight = torch.randn(32, 64, 3, 3).bfloat16()
    assert (
        kernels.transposed_convolution(x, weight, None, (2, 64, 12, 12), (2, 2), (1, 1), relu=True).isnan().sum()
        == 9 * 64
    )


def test_what_does_not_fit_is_left_to_others() -> None:
    big, small, _ = gradient_case(WEIGHTS[0])
    kernel, stride, padding = WEIGHTS[0][5:]
    assert kernels.weight_gradient(big[:, :24], small, kernel, stride, padding) is None
    assert kernels.weight_gradient(big.contiguous(), small, kernel, stride, padding) is None
    assert kernels.weight_gradient(big.float(), small.float(), kernel, stride, padding) is None
    assert kernels.weight_gradient(big[:0], small[:0], kernel, stride, padding) is None
    assert (
        kernels.transposed_convolution(
            small, torch.randn(64, 32, 3, 3).bfloat16(), None, (5, 32, 14, 14), (1, 1), (1, 1)
        )
        is None
    )
    assert kernels.few_outputs_forward(images(2, 16, 4, 4), torch.randn(1, 16, 3, 3).bfloat16(), None, (1, 1)) is None
    assert kernels.few_outputs_forward(images(2, 32, 2, 2), torch.randn(1, 32, 3, 3).bfloat16(), None, (0, 0)) is None
    with library.using(False):
        assert kernels.weight_gradient(big, small, kernel, stride, padding) is None
