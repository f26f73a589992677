"""A prior learned as a normalizing flow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.distributions import Transform

from vaekit.config import leaf
from vaekit.latents.flows import Flow, affine, autoregressive_steps, composed, spline
from vaekit.latents.gaussian import StandardNormalPrior
from vaekit.latents.table import PRIORS, Posterior, Shape, Space
from vaekit.probability.distributions import Distribution, StandardNormal

TRANSFORMS_HELP = "transforms of the prior; 0 leaves the standard normal"
HIDDEN_HELP = "sizes of the hidden layers of each transform of the prior"


class FlowPriorModule(nn.Module):
    """Code (batch, k), or None, to a `Flow` over latents (batch, num_latents).

    Args:
        num_latents: D.
        steps: modules from the code, or None, to transforms that lead from latents to standard normal noise.
    """

    def __init__(self, num_latents: int, steps: nn.ModuleList):
        super().__init__()
        self.num_latents, self.steps = num_latents, steps

    def forward(self, condition: Tensor | None) -> Distribution:
        return Flow(StandardNormal(self.num_latents), composed(step(condition) for step in self.steps))


class FlowPriorEntry(ABC):
    """What the entries share; they differ in what each transform does to a latent."""

    spaces: ClassVar[frozenset[Space]] = frozenset({"euclidean"})
    prior_transforms: int
    prior_hidden: tuple[int, ...]

    @abstractmethod
    def univariate(self) -> tuple[int, Callable[[Tensor], Transform]]:
        """Numbers that a transform takes for each latent, and the function that makes it of them."""

    def build(self, num_latents: int, num_condition: int, shape: Shape, posterior: Posterior) -> nn.Module:
        if not self.prior_transforms:
            return StandardNormalPrior(num_latents)
        how = (self.prior_transforms, num_latents, num_condition, self.prior_hidden, *self.univariate())
        return FlowPriorModule(num_latents, autoregressive_steps(*how))


@PRIORS.register("flow")
@dataclass(frozen=True)
class FlowPrior(FlowPriorEntry):
    """Masked autoregressive flow, learned with the model and given the condition (Chen et al. 2017, arXiv:1611.02731).

    Each transform shifts and scales a latent given those before it (Papamakarios et al. 2017, arXiv:1705.07057). A density
    takes one pass of each network, a sample one for each latent.
    """

    prior_transforms: int = leaf(4, TRANSFORMS_HELP, ge=0, le=1000)
    prior_hidden: tuple[int, ...] = leaf((64, 64), HIDDEN_HELP, ge=1, le=65536)

    def univariate(self) -> tuple[int, Callable[[Tensor], Transform]]:
        return 2, affine


@PRIORS.register("spline-flow")
@dataclass(frozen=True)
class SplineFlowPrior(FlowPriorEntry):
    """Autoregressive flow of rational-quadratic splines, learned and given the condition (Durkan et al. 2019).

    arXiv:1906.04032. The splines bend latents within [-5, 5] and leave the tails to the standard normal.
    """

    prior_transforms: int = leaf(4, TRANSFORMS_HELP, ge=0, le=1000)
    prior_hidden: tuple[int, ...] = leaf((64, 64), HIDDEN_HELP, ge=1, le=65536)
    prior_bins: int = leaf(8, "bins of each spline", ge=2, le=1000)

    def univariate(self) -> tuple[int, Callable[[Tensor], Transform]]:
        return 3 * self.prior_bins - 1, spline
