"""The hyperspherical posterior: von Mises-Fisher (Davidson et al. 2018, arXiv:1804.00891)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.errors import InputError
from vaekit.latents.geometry import Geometry
from vaekit.latents.table import POSTERIORS, Space
from vaekit.networks.layers import linear
from vaekit.paths import slerp
from vaekit.probability.von_mises_fisher import UniformSphere, VonMisesFisher

_SHORTEST = 1e-6  # of a vector that still has a direction


# a circle is drawn by its angle, a sphere by Lambert's cylindrical projection: equal areas stay equal
_AROUND = ("angle around the first two latents, in half turns", "third latent (z₃)")
_RANGE = ((-1.0, 1.0), (-1.0, 1.0))


class Sphere(Geometry):
    """The unit sphere in `num_latents` dimensions."""

    kind = "sphere"
    straight = False
    way = "on the sphere"
    note = (
        "The codes lie on a unit sphere: where one latent moves, the others grow or shrink together, so that the length "
        "stays 1."
    )

    def __init__(self, num_latents: int):
        self.num_latents, self.farthest = num_latents, math.sqrt(num_latents)
        self.names = {2: _AROUND[:1], 3: _AROUND}.get(num_latents, Geometry.names)
        self.range = {2: _RANGE[:1], 3: _RANGE}.get(num_latents)

    def dimensions(self, num_latents: int) -> int:
        return num_latents - 1

    def drawn(self, chart: Tensor) -> Tensor:
        if self.num_latents > 3:
            return chart
        angle = torch.atan2(chart[..., 1], chart[..., 0])[..., None] / math.pi
        return torch.cat([angle, chart[..., 2:]], -1)

    def placed(self, drawn: Tensor) -> Tensor:
        if self.num_latents > 3:
            return drawn
        angle, height = math.pi * drawn[..., :1], drawn[..., 1:]
        radius = (1.0 - height.square().sum(-1, keepdim=True)).clamp(min=0.0).sqrt()
        return torch.cat([radius * angle.cos(), radius * angle.sin(), height], -1)

    def path(self, start: Tensor, end: Tensor, weights: Tensor, how: str = "linear") -> Tensor:
        return F.normalize(slerp(start, end, weights), dim=-1)

    def moved(self, latents: Tensor, chosen: Tensor, values: Tensor) -> Tensor:
        values = values.to(latents).clamp(-1.0, 1.0)
        axes = torch.eye(len(latents)).to(latents)[chosen][:, None]
        rest = F.normalize(latents * (1.0 - axes), dim=-1)
        return (1.0 - values.square()).sqrt()[..., None] * rest + values[..., None] * axes

    def tempered(self, latents: Tensor, temperature: float) -> Tensor:
        if temperature == 1.0:
            return latents
        raise InputError(
            f"--temperature {temperature:g}: the uniform prior on a sphere is equally likely everywhere; leave it at 1"
        )


class VonMisesFisherHead(nn.Module):
    """A linear map from features (batch, num_features) to directions and concentrations, softplus + 1 as published."""

    def __init__(self, num_features: int, num_latents: int):
        super().__init__()
        self.map = linear(num_features, num_latents + 1)
        self.geometry = Sphere(num_latents)

    def forward(self, features: Tensor) -> VonMisesFisher:
        mapped = self.map(features)
        direction, raw = mapped[..., :-1], mapped[..., -1]
        length = direction.norm(dim=-1, keepdim=True)
        first = torch.cat([torch.ones_like(length), torch.zeros_like(direction[..., 1:])], -1)
        direction = torch.where(length > _SHORTEST, direction, first)
        return VonMisesFisher(F.normalize(direction, dim=-1), F.softplus(raw) + 1.0)


class UniformSpherePrior(nn.Module):
    """Every point of the unit sphere alike."""

    law = "uniform"

    def __init__(self, num_latents: int):
        super().__init__()
        self.num_latents = num_latents

    def forward(self, condition: Tensor | None) -> UniformSphere:
        return UniformSphere(self.num_latents)


@POSTERIORS.register("von-mises-fisher")
@dataclass(frozen=True)
class VonMisesFisherPosterior:
    """Von Mises-Fisher posterior on the unit sphere, --latent-dim being the dimensions around it (Davidson et al. 2018,
    arXiv:1804.00891).

    The mean direction is normalized and the concentration is softplus + 1. With the uniform prior the rate is closed form.
    """

    space: ClassVar[Space] = "sphere"

    def build(self, num_features: int, num_latents: int) -> nn.Module:
        if num_latents < 2:
            raise InputError(f"--latent-dim {num_latents}: a sphere needs 2 dimensions or more; give --latent-dim 2")
        return VonMisesFisherHead(num_features, num_latents)

    def standard(self, num_latents: int) -> nn.Module:
        return UniformSpherePrior(num_latents)
