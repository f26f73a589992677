"""The diagonal Gaussian posterior and the standard normal prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vaekit.latents.table import POSTERIORS, PRIORS, SPACES, Posterior, Shape, Space
from vaekit.networks.layers import linear
from vaekit.probability.distributions import DiagonalGaussian, Distribution, StandardNormal


class DiagonalGaussianHead(nn.Module):
    """A linear map from features (batch, num_features) to means and log-variances (batch, num_latents)."""

    diagonal = True

    def __init__(self, num_features: int, num_latents: int):
        super().__init__()
        self.map = linear(num_features, 2 * num_latents)

    def forward(self, features: Tensor) -> DiagonalGaussian:
        loc, log_variance = self.map(features).chunk(2, -1)
        return DiagonalGaussian(loc, 0.5 * log_variance)


class StandardNormalPrior(nn.Module):
    diagonal = True
    law = "normal"

    def __init__(self, num_latents: int):
        super().__init__()
        self.num_latents = num_latents

    def forward(self, condition: Tensor | None) -> Distribution:
        return StandardNormal(self.num_latents)


@POSTERIORS.register("gaussian")
@dataclass(frozen=True)
class GaussianPosterior:
    """Diagonal Gaussian posterior (Kingma and Welling 2014, arXiv:1312.6114)."""

    space: ClassVar[Space] = "euclidean"

    def build(self, num_features: int, num_latents: int) -> nn.Module:
        return DiagonalGaussianHead(num_features, num_latents)

    def standard(self, num_latents: int) -> nn.Module:
        return StandardNormalPrior(num_latents)


@PRIORS.register("standard")
@dataclass(frozen=True)
class StandardPrior:
    """The standard of the space that the posterior lives in: N(0, I), or on a sphere the uniform distribution."""

    spaces: ClassVar[frozenset[Space]] = SPACES

    def build(self, num_latents: int, num_condition: int, shape: Shape, posterior: Posterior) -> nn.Module:
        return posterior.standard(num_latents)
