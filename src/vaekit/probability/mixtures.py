"""Mixtures that are the same for every image: of diagonal Gaussians, and of any rows of a distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vaekit.noise import Noise
from vaekit.probability.distributions import LOG_2PI, Distribution, draw


@dataclass(frozen=True)
class GaussianMixture:
    """K diagonal Gaussians.

    Attributes:
        log_weights: (K,), logarithms of weights that sum to 1.
        loc: (K, latent) means.
        log_scale: (K, latent) logarithms of the standard deviations.
    """

    log_weights: Tensor
    loc: Tensor
    log_scale: Tensor

    @property
    def mean(self) -> Tensor:
        """Of the whole mixture, (latent,)."""
        return self.log_weights.exp() @ self.loc

    def log_prob_by_component(self, value: Tensor) -> Tensor:
        """log N(value; loc_k, scale_k) in nats, (*sample_shape, batch, K), of values (*sample_shape, batch, latent).

        The squares are written out, so that nothing has the size (batch, K, latent); in float64, as they cancel.
        """
        with torch.autocast(value.device.type, enabled=False):
            loc, log_scale, z = self.loc.double(), self.log_scale.double(), value.double()
            precision = (-2.0 * log_scale).exp()
            pairs = torch.cat([z.square(), z], -1) @ torch.cat([precision, -2.0 * loc * precision], -1).T
            constant = (loc.square() * precision + 2.0 * log_scale + LOG_2PI).sum(-1)
            return (-0.5 * (pairs + constant)).to(value.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.logsumexp(self.log_prob_by_component(value) + self.log_weights, -1)

    def sample_from(self, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Gradients reach the means and scales of the chosen components, not the weights."""
        chosen = choose(self.log_weights, noise, purpose, sample_shape)
        standard = noise.normal(purpose, (self.loc.shape[-1],), sample_shape)
        return F.embedding(chosen, self.loc) + F.embedding(chosen, self.log_scale).exp() * standard


@dataclass(frozen=True)
class RowMixture:
    """The K rows of any distribution, equally weighted.

    Attributes:
        rows: a distribution over (K, latent) whose density can be taken at any values.
        count: K.
        at: the distribution of the rows with some numbers, int64 (n,).
    """

    rows: Distribution
    count: int
    at: Callable[[Tensor], Distribution]

    def log_prob(self, value: Tensor) -> Tensor:
        """(*sample_shape, batch) in nats; unlike `GaussianMixture` it holds every value against every row in full."""
        return torch.logsumexp(self.rows.log_prob(value[..., None, :]), -1) - math.log(self.count)

    def sample_from(self, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
        weights = torch.full((self.count,), -math.log(self.count), device=noise.index.device)
        chosen = choose(weights, noise, purpose, sample_shape).view(-1, len(noise.index))
        drawn = [
            draw(self.at(rows), noise._replace(first_sample=noise.first_sample + sample), purpose)
            for sample, rows in enumerate(chosen)
        ]
        return torch.stack(drawn).view(*sample_shape, *drawn[0].shape)


def choose(log_weights: Tensor, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
    """Numbers of components, int64 (*sample_shape, batch), by the inverse of the cumulative weights (K,).

    Two words of 16 bits make the uniform number, so that a weight of a thousandth is drawn as often as it should be.
    """
    words = noise.uniform(f"{purpose} component", (2,), sample_shape)
    uniform = words[..., 0].double() + words[..., 1].double() * 2.0**-16
    cumulative = log_weights.detach().double().exp().cumsum(0)
    return torch.searchsorted(cumulative, uniform, right=True).clamp(max=len(log_weights) - 1)
