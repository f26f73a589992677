"""Ratios and logarithms of modified Bessel functions of the first kind, as distributions on spheres need them."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

_TERMS = 6  # of the expansion in 1 / order
_LEAST_ORDER = 16.0  # from which it is used; smaller orders are reached by recurrence


class Cumulant(NamedTuple):
    """L(kappa) = log E exp(kappa w), with w one coordinate of a uniform point on the unit sphere in d dimensions.

    With v = d / 2 - 1 it is log(Gamma(v + 1) (2 / kappa)^v I_v(kappa)), and L(0) = 0.

    Attributes:
        deficit: kappa - L(kappa), which stays small where kappa is large.
        ratio: A_d(kappa) = I_{v+1}(kappa) / I_v(kappa) = L'(kappa), between 0 and 1.
        divergence: kappa A - L, in nats: KL from the density exp(kappa w - L) to the uniform one.
        slope: A_d'(kappa) = 1 - A^2 - (d - 1) A / kappa.
    """

    deficit: Tensor
    ratio: Tensor
    divergence: Tensor
    slope: Tensor


@functools.cache
def _polynomials() -> tuple[tuple[float, ...], ...]:
    """U_k(p) / p^k as coefficients of powers of p^2, for k from 0 (DLMF 10.41.10)."""
    powers: Mapping[int, Fraction] = {0: Fraction(1)}
    found = []
    for order in range(_TERMS + 1):
        found.append(tuple(float(powers[order + 2 * place]) for place in range(order + 1)))
        following: defaultdict[int, Fraction] = defaultdict(Fraction)
        for power, value in powers.items():
            following[power + 1] += value * power / 2 + value / (8 * (power + 1))
            following[power + 3] -= value * power / 2 + 5 * value / (8 * (power + 3))
        powers = following
    return tuple(found)


def _series(order: float, radius: Tensor) -> tuple[Tensor, Tensor]:
    """S = sum_k U_k(p) / order^k with p = order / radius, and -radius dS/dradius; `radius` is hypot(order, kappa)."""
    square = (order / radius).square()
    total, steep = torch.ones_like(radius), torch.zeros_like(radius)
    for k, coefficients in enumerate(_polynomials()[1:], 1):
        value, derivative = torch.zeros_like(radius), torch.zeros_like(radius)
        for coefficient in reversed(coefficients):
            derivative = derivative * square + value
            value = value * square + coefficient
        weight = radius.pow(-k)
        total = total + weight * value
        steep = steep + weight * (k * value + 2.0 * square * derivative)
    return total, steep


@torch.no_grad()
def cumulant(kappa: Tensor, dim: int) -> Cumulant:
    """L and its derivatives for every concentration, without a loop that depends on values.

    Olver's expansion for large orders, uniform in kappa (DLMF 10.41.3), at an order of 16 or more; from there the
    recurrence I_{u-1} = (2 u / kappa) I_u + I_{u+1}, downwards as it is stable, in terms that are all positive.

    Args:
        kappa: any shape, 0 or more.
        dim: d, 2 or more.

    Returns:
        float64, each of the shape of `kappa`.

    >>> found = cumulant(torch.tensor([2.0]), 3)  # A_3 is coth(kappa) - 1 / kappa
    >>> abs(float(found.ratio) - (1.0 / math.tanh(2.0) - 0.5)) < 1e-9
    True
    """
    kappa = kappa.double()
    lowest = dim / 2 - 1
    steps = max(0, math.ceil(_LEAST_ORDER - lowest))
    order = lowest + steps
    radius = torch.sqrt(kappa.square() + order**2)
    beyond = kappa.square() / (radius + order)  # radius - order
    series, steep = _series(order, radius)
    at_zero, _ = _series(order, torch.full_like(radius, order))
    logarithms = torch.log1p(beyond / (2 * order)) * order + 0.5 * torch.log1p(beyond / order)
    logarithms = logarithms - torch.log(series / at_zero)
    # kappa - (radius - order), without a difference of large numbers
    deficit = kappa * (order + order**2 / (radius + kappa)) / (radius + order) + logarithms
    over = 1.0 / (radius + order) - (0.5 + steep / series) / radius.square()  # A / kappa, also where kappa is 0
    for place in range(steps, 0, -1):
        twice = 2 * (lowest + place)
        product = kappa.square() * over
        deficit = deficit - torch.log1p(product / twice)
        over = 1.0 / (twice + product)
    ratio = kappa * over
    slope = (1.0 - ratio.square() - (dim - 1) * over).clamp(min=0.0)
    return Cumulant(deficit, ratio, deficit - kappa * (1.0 - ratio), slope)
