"""Geometry of the Poincare ball, a model of hyperbolic space (Ganea, Becigneul and Hofmann 2018, arXiv:1805.09112)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = 1.0 - 1e-5  # of sqrt(c) |z|: nearer to the boundary, float32 cannot tell points apart
FARTHEST = 2.0 * math.atanh(LARGEST)  # of sqrt(c) times the distance from the origin: 12.2


@dataclass(frozen=True)
class PoincareBall:
    """Points of length below 1 / sqrt(c), with the metric (2 / (1 - c |z|^2))^2 |dz|^2: curvature -c everywhere.

    Vectors at the origin are written in orthonormal coordinates: their length is the distance that they lead to. Methods
    work for points (..., d) of one shape or that broadcast; close to the boundary give them float64.

    Attributes:
        curvature: c, more than 0.

    >>> ball = PoincareBall(1.0)
    >>> ball.log(ball.exp(torch.tensor([3.0, 4.0]))).round(decimals=4)
    tensor([3., 4.])
    """

    curvature: float

    def add(self, start: Tensor, step: Tensor) -> Tensor:
        """Moebius addition: the point that `step`, seen from the origin, is when seen from `start`."""
        c = self.curvature
        inner = (start * step).sum(-1, keepdim=True)
        near, far = (part.square().sum(-1, keepdim=True) for part in (start, step))
        above = (1.0 + 2.0 * c * inner + c * far) * start + (1.0 - c * near) * step
        return above / (1.0 + 2.0 * c * inner + c**2 * near * far)

    def exp(self, vector: Tensor) -> Tensor:
        """The point that a vector at the origin leads to."""
        half = 0.5 * _length(vector, self.curvature)
        return 0.5 * vector * half.tanh() / half

    def log(self, point: Tensor) -> Tensor:
        """The vector at the origin that leads to a point; the inverse of `exp`."""
        length = _length(point, self.curvature).clamp(max=1.0 - torch.finfo(point.dtype).eps)
        return 2.0 * point * length.atanh() / length

    def inside(self, point: Tensor) -> Tensor:
        """The point itself, or if it is too close to the boundary for float32, the last one on its way there."""
        return point * (LARGEST / _length(point, self.curvature)).clamp(max=1.0)

    def between(self, start: Tensor, end: Tensor, weights: Tensor) -> Tensor:
        """Points at `weights` (steps,) of the way along the geodesics from `start` to `end`, (n, d) each: (n, steps, d)."""
        first, last = start.double(), end.double()
        way = self.log(self.add(-first, last))[:, None] * weights[:, None].double()
        return self.inside(self.add(first[:, None], self.exp(way))).to(start.dtype)


def _length(vector: Tensor, curvature: float) -> Tensor:
    """sqrt(c) times the length, (..., 1), never 0, so that there is a slope at the origin."""
    return torch.sqrt(curvature * vector.square().sum(-1, keepdim=True) + 1e-16)
