"""Planar and radial transforms (Rezende and Mohamed 2015, arXiv:1505.05770): cheap to draw through, no inverse."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Transform, constraints

from vaekit.latents.flows import SMALL
from vaekit.networks.layers import linear

MARGIN = 1e-3  # by which constraints are kept, so that logarithms stay finite
_SHIFT = math.log(math.e - 1.0)  # softplus(_SHIFT) = 1


def above_minus_one(x: Tensor) -> Tensor:
    """A monotonic function onto (-1 + MARGIN, infinity) that is 0 at 0.

    The constraint m(x) = -1 + log(1 + e^x) of Rezende and Mohamed 2015, appendix A, shifted so that 0 means no change:
    the same transforms can be reached, and small parameters are near the identity.
    """
    return (1.0 - MARGIN) * (F.softplus(x + _SHIFT) - 1.0)


class _ResidualTransform(Transform):
    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.call_and_ladj(x)[1]

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class PlanarTransform(_ResidualTransform):
    """y = x + u' tanh(w.x + b), log |det| = log(1 + (1 - tanh^2) u'.w), with u' made of u so that u'.w > -1.

    Rezende and Mohamed 2015, equations 10 to 12 and appendix A.1.

    Args:
        u, w: (batch, latent).
        b: (batch,).
    """

    def __init__(self, u: Tensor, w: Tensor, b: Tensor):
        super().__init__()
        self.w, self.b = w, b
        product = (u * w).sum(-1)
        self.slope = above_minus_one(product)
        self.u = u + ((self.slope - product) / (w.square().sum(-1) + 1e-12))[..., None] * w

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        bent = torch.tanh((x * self.w).sum(-1) + self.b)
        return x + self.u * bent[..., None], torch.log1p((1.0 - bent.square()) * self.slope)


class RadialTransform(_ResidualTransform):
    """y = x + beta' h (x - c), h = 1 / (alpha + r), r = |x - c|, with beta' > -alpha.

    log |det| = (D - 1) log(1 + beta' h) + log(1 + beta' h - beta' r h^2): Rezende and Mohamed 2015, equation 14 and appendix
    A.2.

    Args:
        center: c, (batch, latent).
        alpha: unconstrained, (batch,); alpha is its softplus.
        beta: unconstrained, (batch,); 0 is the identity.
    """

    def __init__(self, center: Tensor, alpha: Tensor, beta: Tensor):
        super().__init__()
        self.center, self.alpha = center, F.softplus(alpha) + MARGIN
        self.beta = self.alpha * above_minus_one(beta)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        away = x - self.center
        squared = away.square().sum(-1)
        radius = (squared + 1e-12).sqrt()  # has a slope at 0
        h = 1.0 / (self.alpha + radius)
        stretch = self.beta * h
        across = (x.shape[-1] - 1) * torch.log1p(stretch)
        along = torch.log1p(stretch * (1.0 - h * squared / radius))
        return x + stretch[..., None] * away, across + along


class _Step(nn.Module):
    """Numbers (batch, count) from the context (batch, num_context), or the same for all, (count,).

    The last `num_small` of them are small at the start.
    """

    def __init__(self, count: int, num_small: int, num_context: int):
        super().__init__()
        self.map = linear(num_context, count) if num_context else None
        self.free = None if num_context else nn.Parameter(torch.randn(count))
        weights = self.free if self.map is None else self.map.weight
        assert weights is not None
        with torch.no_grad():
            weights[count - num_small :].mul_(SMALL)

    def numbers(self, context: Tensor | None) -> Tensor:
        if self.map is not None:
            return self.map(context)
        assert self.free is not None
        return self.free


class Planar(_Step):
    """Context (batch, num_context), or None, to a `PlanarTransform`."""

    def __init__(self, num_latents: int, num_context: int):
        super().__init__(2 * num_latents + 1, num_latents, num_context)
        self.num_latents = num_latents

    def forward(self, context: Tensor | None) -> Transform:
        w, b, u = self.numbers(context).split((self.num_latents, 1, self.num_latents), -1)
        return PlanarTransform(u, w, b[..., 0])


class Radial(_Step):
    """Context (batch, num_context), or None, to a `RadialTransform`."""

    def __init__(self, num_latents: int, num_context: int):
        super().__init__(num_latents + 2, 1, num_context)
        self.num_latents = num_latents

    def forward(self, context: Tensor | None) -> Transform:
        center, alpha, beta = self.numbers(context).split((self.num_latents, 1, 1), -1)
        return RadialTransform(center, alpha[..., 0], beta[..., 0])
