"""The wrapped normal distribution on the Poincare ball."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.noise import Noise
from vaekit.probability.distributions import DiagonalGaussian
from vaekit.probability.poincare_ball import PoincareBall


@dataclass(frozen=True)
class WrappedNormal:
    """A normal vector at the origin, transported to the centre and followed along its geodesic.

    Nagano et al. 2019, arXiv:1902.02992, algorithm 1; on the ball Mathieu et al. 2019, arXiv:1901.06033, section 3.2. With
    v = log_0(-mean + z), + the Moebius addition, and r = |v| the distance from the centre, the density with respect to
    hyperbolic volume is N(v; 0, scale^2) (sqrt(c) r / sinh(sqrt(c) r))^(d - 1). It becomes the normal density of flat space
    for c to 0, of points 2 z, as the ball's metric at the origin is twice that of its coordinates.

    Computed in float64: near the boundary, where 1 - c |z|^2 loses its digits.

    Attributes:
        mean: (*sample_shape, batch, d), the centre: a point of the ball; or (d,), the same for every image.
        log_scale: the same shape, logarithms of the standard deviations of v, in units of distance.
        ball: the space.
    """

    mean: Tensor
    log_scale: Tensor
    ball: PoincareBall

    def sample_from(self, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
        standard = noise.normal(purpose, (self.mean.shape[-1],), sample_shape)
        vector = self.log_scale.double().exp() * standard.double()
        point = self.ball.add(self.mean.double(), self.ball.exp(vector))
        return self.ball.inside(point).to(self.mean.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        vector = self.ball.log(self.ball.add(-self.mean.double(), value.double()))
        flat = DiagonalGaussian(torch.zeros_like(vector), self.log_scale.double()).log_prob(vector)
        # never 0, so that there is a slope at the centre
        length = torch.sqrt(self.ball.curvature * vector.square().sum(-1) + 1e-16)
        stretch = length + torch.log(-torch.expm1(-2.0 * length)) - torch.log(2.0 * length)
        return (flat - (vector.shape[-1] - 1) * stretch).to(value.dtype)
