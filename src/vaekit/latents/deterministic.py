"""A code without a density, for autoencoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vaekit.latents.gaussian import StandardNormalPrior
from vaekit.latents.table import POSTERIORS, Space
from vaekit.networks.layers import linear
from vaekit.probability.distributions import Point


class DeterministicHead(nn.Module):
    """A linear map from features (batch, num_features) to codes (batch, num_latents)."""

    deterministic = True

    def __init__(self, num_features: int, num_latents: int):
        super().__init__()
        self.map = linear(num_features, num_latents)

    def forward(self, features: Tensor) -> Point:
        return Point(self.map(features))


@POSTERIORS.register("deterministic")
@dataclass(frozen=True)
class DeterministicPosterior:
    """One code for each image and no density: an autoencoder, of which no bound on log p(x) exists."""

    space: ClassVar[Space] = "euclidean"

    def build(self, num_features: int, num_latents: int) -> nn.Module:
        return DeterministicHead(num_features, num_latents)

    def standard(self, num_latents: int) -> nn.Module:
        return StandardNormalPrior(num_latents)
