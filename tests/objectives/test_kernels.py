"""Kernels and the maximum mean discrepancy, against direct sums."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit.objectives.kernels import kernel_matrix, mmd

KERNELS = ["imq", "rbf"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel_of(a: list[float], b: list[float], kernel: str, bandwidth: float) -> float:
    distance = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    if kernel == "rbf":
        return math.exp(-distance / (2 * len(a) * bandwidth**2))
    total = 0.0
    for scale in (0.1, 0.2, 0.5, 1, 2, 5, 10):
        c = scale * 2 * len(a) * bandwidth**2
        total += c / (c + distance)
    return total


def direct(a: Tensor, b: Tensor, kernel: str, bandwidth: float) -> float:
    """The discrepancy by loops over pairs."""
    rows, others = a.tolist(), b.tolist()
    total = 0.0
    for sample in (rows, others):
        n = len(sample)
        for i, j in itertools.permutations(range(n), 2):
            total += kernel_of(sample[i], sample[j], kernel, bandwidth) / (n * (n - 1))
    for x, y in itertools.product(rows, others):
        total -= 2 * kernel_of(x, y, kernel, bandwidth) / (len(rows) * len(others))
    return total


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 4.0])
@pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 5), (7, 3), (8, 8)])
def test_values_are_those_of_direct_sums(kernel: Any, bandwidth: float, n: int, m: int) -> None:
    a, b = normal(n, 3), 1.0 + normal(m, 3, seed=1)
    matrix = kernel_matrix(a, b, kernel, bandwidth)
    assert matrix.shape == (n, m)
    for i, j in itertools.product(range(n), range(m)):
        assert matrix[i, j].item() == pytest.approx(kernel_of(a[i].tolist(), b[j].tolist(), kernel, bandwidth))
    assert mmd(a, b, kernel, bandwidth).item() == pytest.approx(direct(a, b, kernel, bandwidth), rel=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_leading_axes_are_apart(kernel: Any) -> None:
    a, b = normal(2, 3, 6, 4), normal(2, 3, 5, 4, seed=1)
    found = mmd(a, b, kernel, 1.0)
    assert found.shape == (2, 3)
    for i, j in itertools.product(range(2), range(3)):
        torch.testing.assert_close(found[i, j], mmd(a[i, j], b[i, j], kernel, 1.0))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n", [2, 3, 16])
def test_samples_of_one_distribution_have_a_mean_of_zero(kernel: Any, n: int) -> None:
    """2000 pairs of samples; z = 4. Sums over pairs with themselves, or divided by n^2, miss it by far more."""
    a, b = normal(2000, n, 3), normal(2000, n, 3, seed=1)
    found = mmd(a, b, kernel, 1.0)
    error = found.std().item() / 2000**0.5
    assert abs(found.mean().item()) < 4 * error
    assert (found < 0).any()
    with_themselves = kernel_matrix(a, a, kernel, 1.0) + kernel_matrix(b, b, kernel, 1.0)
    biased = with_themselves.mean((-2, -1)) - 2 * kernel_matrix(a, b, kernel, 1.0).mean((-2, -1))
    assert biased.mean().item() > 20 * error


@pytest.mark.parametrize("kernel", KERNELS)
def test_other_distributions_lie_apart(kernel: Any) -> None:
    for other in (normal(200, 3, seed=1) + 0.5, 0.5 * normal(200, 3, seed=1), normal(200, 1, seed=1).expand(-1, 3)):
        same = max(abs(mmd(normal(200, 3), normal(200, 3, seed=seed), kernel, 1.0).item()) for seed in range(2, 12))
        assert mmd(normal(200, 3), other, kernel, 1.0).item() > 2 * same


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_order_of_a_sample_does_not_matter(kernel: Any) -> None:
    a, b = normal(40, 3), normal(30, 3, seed=1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mmd(a[order], b, kernel, 1.0), mmd(a, b, kernel, 1.0))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_single_vector_has_no_discrepancy(kernel: Any) -> None:
    assert mmd(normal(1, 3), normal(5, 3), kernel, 1.0).item() == 0.0
    assert mmd(normal(2, 5, 3), normal(2, 1, 3), kernel, 1.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bandwidth", [1e-3, 1.0, 1e6])
def test_gradients_are_finite_where_vectors_are_equal_or_far(kernel: Any, bandwidth: float) -> None:
    for spread in (0.0, 1.0, 1e6):
        codes = (spread * normal(6, 3).float()).requires_grad_()
        found = mmd(codes, normal(6, 3, seed=1).float(), kernel, bandwidth)
        found.backward()
        assert found.isfinite()
        assert codes.grad.isfinite().all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_those_of_finite_differences(kernel: Any) -> None:
    b = normal(5, 3, seed=1)
    assert torch.autograd.gradcheck(lambda a: mmd(a, b, kernel, 0.7), normal(4, 3).requires_grad_())
