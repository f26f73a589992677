"""Posteriors q(z | x) and priors p(z), as tables of modules that return distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from vaekit.networks.layers import linear
from vaekit.probability.distributions import DiagonalGaussian, Distribution, StandardNormal
from vaekit.tables import Table

POSTERIORS = Table("posterior", "vaekit.probability")
PRIORS = Table("prior", "vaekit.probability")


class Posterior(Protocol):
    """An entry of the table: builds a module from features (batch, num_features) to a distribution."""

    def build(self, num_features: int, num_latents: int) -> nn.Module: ...


class Prior(Protocol):
    """An entry of the table: builds a module from the condition's code, or None, to a distribution."""

    def build(self, num_latents: int, num_condition: int) -> nn.Module: ...


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

    def __init__(self, num_latents: int):
        super().__init__()
        self.num_latents = num_latents

    def forward(self, condition: Tensor | None) -> Distribution:
        return StandardNormal(self.num_latents)


@POSTERIORS.register("gaussian")
@dataclass(frozen=True)
class GaussianPosterior:
    """Diagonal Gaussian posterior (Kingma and Welling 2014, arXiv:1312.6114)."""

    def build(self, num_features: int, num_latents: int) -> nn.Module:
        return DiagonalGaussianHead(num_features, num_latents)


@PRIORS.register("standard")
@dataclass(frozen=True)
class StandardPrior:
    """Standard normal prior N(0, I)."""

    def build(self, num_latents: int, num_condition: int) -> nn.Module:
        return StandardNormalPrior(num_latents)
