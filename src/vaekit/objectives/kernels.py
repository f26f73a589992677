"""Kernels on vectors, and the maximum mean discrepancy of two samples."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Literal

from torch import Tensor

Kernel = Literal["imq", "rbf"]
IMQ_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def kernel_matrix(a: Tensor, b: Tensor, kernel: Kernel, bandwidth: Tensor | float) -> Tensor:
    """k(a_i, b_j), (*lead, n, m), of vectors a (*lead, n, d) and b (*lead, m, d).

    With c = 2 d bandwidth^2, the mean squared distance of two draws from N(0, bandwidth^2 I):

        rbf:  exp(-|a - b|^2 / c),
        imq:  sum over scales s of s c / (s c + |a - b|^2), inverse multiquadratics (Tolstikhin et al. 2018), with the
              scales 0.1, 0.2, 0.5, 1, 2, 5 and 10 of their published code.

    The distances are differences squared, not a root: their gradient is 0, and not undefined, where two vectors are equal.

    >>> import torch
    >>> kernel_matrix(torch.zeros(1, 4), torch.zeros(1, 4), "imq", 1.0).item()
    7.0
    """
    distances = (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(-1)
    base = 2.0 * a.shape[-1] * bandwidth**2
    if kernel == "rbf":
        return (-distances / base).exp()
    return reduce(add, (scale * base / (scale * base + distances) for scale in IMQ_SCALES))


def mmd(a: Tensor, b: Tensor, kernel: Kernel, bandwidth: Tensor | float) -> Tensor:
    """The unbiased estimate of the squared maximum mean discrepancy of a (*lead, n, d) and b (*lead, m, d), (*lead,).

    Means of the kernel over pairs of different vectors of a, plus those of b, minus twice that of a with b (Gretton et al.
    2012, "A kernel two-sample test", lemma 6). Its mean is 0 for samples of one distribution, so that single values may
    lie below 0. A single vector makes no pair: the result is then 0, which depends on nothing.
    """
    if min(a.shape[-2], b.shape[-2]) < 2:
        return a.new_zeros(a.shape[:-2])
    between = kernel_matrix(a, b, kernel, bandwidth).mean((-2, -1))
    within_a, within_b = (_off_diagonal(kernel_matrix(each, each, kernel, bandwidth)) for each in (a, b))
    return within_a + within_b - 2.0 * between


def _off_diagonal(matrix: Tensor) -> Tensor:
    """Mean of a symmetric matrix (*lead, n, n) off its diagonal."""
    n = matrix.shape[-1]
    return matrix.tril(-1).sum((-2, -1)) * (2.0 / (n * (n - 1)))
