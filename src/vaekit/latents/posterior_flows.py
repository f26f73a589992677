"""Posteriors that a normalizing flow bends away from a diagonal Gaussian."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import AffineTransform, Transform

from vaekit.config import leaf
from vaekit.latents.flows import Flow, affine, autoregressive_steps, composed, gated, spline
from vaekit.latents.gaussian import DiagonalGaussianHead, StandardNormalPrior
from vaekit.latents.residual_flows import Planar, Radial
from vaekit.latents.table import POSTERIORS, Space
from vaekit.probability.distributions import DiagonalGaussian, Distribution

TRANSFORMS_HELP = "transforms after the diagonal Gaussian; 0 leaves the Gaussian itself"
AMORTIZED_HELP = "whether the transforms depend on the image, and not the Gaussian alone"
HIDDEN_HELP = "sizes of the hidden layers of each transform's network"
PASSES_HELP = "groups of latents, each given the ones before; none is one for each latent, 2 is coupling"


class FlowHead(nn.Module):
    """Features (batch, num_features) to a `Flow` over latents (batch, num_latents).

    Args:
        num_features: of the encoder.
        num_latents: D.
        steps: modules from the context, or None, to transforms.
        name: of the entry.
        amortized: whether the context is the features; else there is none.
        standardized: the transforms bend standard normal noise, which the features' means and scales then place; else they
            bend the diagonal Gaussian.
        backwards: the transforms lead from latents to noise; else from noise to latents.
        rescored: whether both directions can be computed.
    """

    def __init__(
        self,
        num_features: int,
        num_latents: int,
        steps: nn.ModuleList,
        name: str,
        amortized: bool,
        standardized: bool = False,
        backwards: bool = False,
        rescored: bool = True,
    ):
        super().__init__()
        self.gaussian, self.steps = DiagonalGaussianHead(num_features, num_latents), steps
        self.name, self.amortized, self.rescored = name, amortized, rescored
        self.standardized, self.backwards = standardized, backwards

    def forward(self, features: Tensor) -> Distribution:
        base: DiagonalGaussian = self.gaussian(features)
        context = features if self.amortized else None
        transforms: list[Transform] = [step(context) for step in self.steps]
        if self.backwards:
            transforms = [step.inv for step in reversed(transforms)]
        if self.standardized:
            transforms.append(AffineTransform(base.loc, base.scale, event_dim=1))
            base = DiagonalGaussian(torch.zeros_like(base.loc), torch.zeros_like(base.log_scale))
        return Flow(base, composed(transforms).inv, self.rescored, self.name)


class FlowEntry(ABC):
    """What the entries share; they differ in their transforms and in what these lead from and to."""

    space: ClassVar[Space] = "euclidean"
    standardized: ClassVar[bool] = False
    backwards: ClassVar[bool] = False
    rescored: ClassVar[bool] = True
    flow_transforms: int
    flow_amortized: bool

    @abstractmethod
    def steps(self, num_latents: int, num_context: int) -> nn.ModuleList:
        """Modules from the context (batch, num_context), or None where that is 0, to transforms."""

    def build(self, num_features: int, num_latents: int) -> nn.Module:
        if not self.flow_transforms:
            return DiagonalGaussianHead(num_features, num_latents)
        steps = self.steps(num_latents, num_features if self.flow_amortized else 0)
        how = (self.standardized, self.backwards, self.rescored)
        return FlowHead(num_features, num_latents, steps, POSTERIORS.name_of(self), self.flow_amortized, *how)

    def standard(self, num_latents: int) -> nn.Module:
        return StandardNormalPrior(num_latents)


@POSTERIORS.register("planar")
@dataclass(frozen=True)
class PlanarPosterior(FlowEntry):
    """A Gaussian bent along planes (Rezende and Mohamed 2015, arXiv:1505.05770, equation 10).

    Each transform is z + u tanh(w.z + b), with u.w > -1. It has no inverse in closed form: the density is known only for
    what was drawn.
    """

    rescored: ClassVar[bool] = False
    flow_transforms: int = leaf(8, TRANSFORMS_HELP, ge=0, le=1000)
    flow_amortized: bool = leaf(True, AMORTIZED_HELP)

    def steps(self, num_latents: int, num_context: int) -> nn.ModuleList:
        return nn.ModuleList(Planar(num_latents, num_context) for _ in range(self.flow_transforms))


@POSTERIORS.register("radial")
@dataclass(frozen=True)
class RadialPosterior(FlowEntry):
    """A Gaussian drawn together or pushed apart around points (Rezende and Mohamed 2015, arXiv:1505.05770, equation 14).

    Each transform is z + beta (z - c) / (alpha + |z - c|), with beta > -alpha. It is not inverted: the density is known only
    for what was drawn.
    """

    rescored: ClassVar[bool] = False
    flow_transforms: int = leaf(8, TRANSFORMS_HELP, ge=0, le=1000)
    flow_amortized: bool = leaf(True, AMORTIZED_HELP)

    def steps(self, num_latents: int, num_context: int) -> nn.ModuleList:
        return nn.ModuleList(Radial(num_latents, num_context) for _ in range(self.flow_transforms))


@POSTERIORS.register("iaf")
@dataclass(frozen=True)
class IafPosterior(FlowEntry):
    """Inverse autoregressive flow (Kingma et al. 2016, arXiv:1606.04934).

    Each transform is g z + (1 - g) m with the gate g = sigmoid(s); m and s of a latent follow from the latents before it,
    so drawing takes one pass of a masked network. The density at other values takes one pass for each latent.
    """

    flow_transforms: int = leaf(4, TRANSFORMS_HELP, ge=0, le=1000)
    flow_hidden: tuple[int, ...] = leaf((64, 64), HIDDEN_HELP, ge=1, le=65536)
    flow_amortized: bool = leaf(True, AMORTIZED_HELP)

    def steps(self, num_latents: int, num_context: int) -> nn.ModuleList:
        return autoregressive_steps(self.flow_transforms, num_latents, num_context, self.flow_hidden, 2, gated)


@POSTERIORS.register("maf")
@dataclass(frozen=True)
class MafPosterior(FlowEntry):
    """Masked autoregressive flow (Papamakarios, Pavlakou and Murray 2017, arXiv:1705.07057).

    Shift and scale of a latent follow from the latents before it, so its density takes one pass of a masked network and
    drawing one for each group of latents: with 20 latents in 20 groups a step is far slower than with `iaf`. In two groups
    it is affine coupling (Dinh, Sohl-Dickstein and Bengio 2017, arXiv:1605.08803).
    """

    standardized: ClassVar[bool] = True
    backwards: ClassVar[bool] = True
    flow_transforms: int = leaf(2, TRANSFORMS_HELP, ge=0, le=1000)
    flow_hidden: tuple[int, ...] = leaf((64, 64), HIDDEN_HELP, ge=1, le=65536)
    flow_passes: int | None = leaf(None, PASSES_HELP, ge=2, le=65536)
    flow_amortized: bool = leaf(True, AMORTIZED_HELP)

    def steps(self, num_latents: int, num_context: int) -> nn.ModuleList:
        return autoregressive_steps(
            self.flow_transforms, num_latents, num_context, self.flow_hidden, 2, affine, self.flow_passes
        )


@POSTERIORS.register("spline")
@dataclass(frozen=True)
class SplinePosterior(FlowEntry):
    """Neural spline flow: monotonic rational-quadratic splines (Durkan et al. 2019, arXiv:1906.04032).

    The splines bend standard normal noise on [-5, 5], and the features' means and scales place it; drawing takes one pass
    of a masked network, the density at other values one for each group of latents.
    """

    standardized: ClassVar[bool] = True
    flow_transforms: int = leaf(2, TRANSFORMS_HELP, ge=0, le=1000)
    flow_hidden: tuple[int, ...] = leaf((64, 64), HIDDEN_HELP, ge=1, le=65536)
    flow_bins: int = leaf(8, "bins of each spline", ge=2, le=1000)
    flow_passes: int | None = leaf(2, PASSES_HELP, ge=2, le=65536)
    flow_amortized: bool = leaf(True, AMORTIZED_HELP)

    def steps(self, num_latents: int, num_context: int) -> nn.ModuleList:
        outputs = 3 * self.flow_bins - 1
        return autoregressive_steps(
            self.flow_transforms, num_latents, num_context, self.flow_hidden, outputs, spline, self.flow_passes
        )
