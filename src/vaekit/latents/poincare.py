"""The posterior of hyperbolic space: a wrapped normal on the Poincare ball (Mathieu et al. 2019, arXiv:1901.06033)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.errors import InputError
from vaekit.latents.geometry import Geometry
from vaekit.latents.table import POSTERIORS, Space
from vaekit.networks.layers import linear
from vaekit.probability.poincare_ball import FARTHEST, PoincareBall
from vaekit.probability.wrapped_normal import WrappedNormal

_CENTRES = 0.75  # of the farthest distance: centres stay within it, so that there is room for samples around them
_SPARE = 3.0  # standard deviations of the prior's distance from the origin, sqrt(d) give or take 0.7, that must fit
_ROUNDING = 2.0**-21  # four times that of float32, of a point's distance from the origin
_FINEST = 1e-6
_CORNER = 0.2  # width, in logarithms of a scale, over which its limits set in


class Ball(Geometry):
    """The Poincare ball. Its chart is the vector at the origin that leads to a point, in orthonormal coordinates.

    The decoder reads the chart, as Mathieu et al. (2019, section 4.1) do before their plain decoders: half of the distances
    of a ball lie in a thin shell below its boundary, where a network would need huge weights to tell points apart. In the
    chart the standard prior is N(0, I).
    """

    kind = "ball"
    straight = False
    way = "in hyperbolic space"
    note = "The codes lie in a Poincare ball and are seen from its origin: lengths are hyperbolic distances from it."

    def __init__(self, curvature: float):
        self.ball = PoincareBall(curvature)

    def chart(self, latents: Tensor) -> Tensor:
        return self.ball.log(latents.double()).to(latents.dtype)

    def point(self, chart: Tensor) -> Tensor:
        return self.ball.inside(self.ball.exp(chart.double())).to(chart.dtype)

    def path(self, start: Tensor, end: Tensor, weights: Tensor, how: str = "linear") -> Tensor:
        return self.ball.between(start, end, weights)


class WrappedNormalHead(nn.Module):
    """A linear map from features (batch, num_features) to centres and log-variances.

    A density is only right where float32 can hold its samples: else a scale beyond the ball, or finer than the rounding of
    points, would buy a rate without bound. So centres stay within 0.75 of the farthest distance, and standard deviations
    between 4 roundings and what leaves room for sqrt(d) + 3 of them, by smooth functions.

    The vector that the map gives is where the hyperboloid's sinh(sqrt(c) r) / sqrt(c) has the distance r. So distances grow
    with a logarithm, and what an early step threw far out comes back: with a distance that a tanh bounds, centres on MNIST
    at a learning rate of 8e-3 were still 9 from the origin after 4 epochs.
    """

    def __init__(self, num_features: int, num_latents: int, curvature: float):
        super().__init__()
        self.map = linear(num_features, 2 * num_latents)
        self.geometry = Ball(curvature)

    def forward(self, features: Tensor) -> WrappedNormal:
        ball = self.geometry.ball
        vector, log_variance = self.map(features).double().chunk(2, -1)
        root = math.sqrt(ball.curvature)
        length = torch.sqrt(vector.square().sum(-1, keepdim=True) + 1e-16)
        bounded = root * length / torch.sqrt(1.0 + (root * length / math.sinh(_CENTRES * FARTHEST)).square())
        shorter = bounded.asinh() / root
        centre = ball.exp(vector * shorter / length)
        least = (_ROUNDING * (root * shorter).sinh() / root + _FINEST).log()
        most = ((FARTHEST / root - shorter) / (math.sqrt(vector.shape[-1]) + _SPARE)).log()
        log_scale = most - _above(most - least - _above(0.5 * log_variance - least))
        return WrappedNormal(centre.to(features.dtype), log_scale.to(features.dtype), ball)


def _above(value: Tensor) -> Tensor:
    """A smooth max(value, 0): a hyperbola."""
    return 0.5 * (value + torch.sqrt(value.square() + _CORNER**2))


class StandardWrappedNormalPrior(nn.Module):
    """The wrapped normal around the origin with standard deviations of 1."""

    law = "normal"
    origin: Tensor

    def __init__(self, num_latents: int, curvature: float):
        super().__init__()
        self.num_latents, self.ball = num_latents, PoincareBall(curvature)
        self.register_buffer("origin", torch.zeros(num_latents), persistent=False)

    def forward(self, condition: Tensor | None) -> WrappedNormal:
        return WrappedNormal(self.origin, self.origin, self.ball)


@POSTERIORS.register("wrapped-normal")
@dataclass(frozen=True)
class WrappedNormalPosterior:
    """Wrapped normal posterior on the Poincare ball, for data with a hierarchy (Mathieu et al. 2019, arXiv:1901.06033;
    Nagano et al. 2019, arXiv:1902.02992).

    The rate has no closed form: it is that of the sample that was drawn.
    """

    space: ClassVar[Space] = "ball"
    curvature: float = leaf(1.0, "c: the ball has curvature -c and radius 1 / sqrt(c); near 0 it is flat", gt=0, le=10)

    def build(self, num_features: int, num_latents: int) -> nn.Module:
        most = (FARTHEST / (math.sqrt(num_latents) + _SPARE)) ** 2
        if self.curvature > most:
            raise InputError(
                f"--curvature {self.curvature:g}: a prior of {num_latents} latents reaches beyond what float32 can hold "
                f"near the boundary; give {0.95 * most:.2g} or less, or fewer latents"
            )
        return WrappedNormalHead(num_features, num_latents, self.curvature)

    def standard(self, num_latents: int) -> nn.Module:
        return StandardWrappedNormalPrior(num_latents, self.curvature)
