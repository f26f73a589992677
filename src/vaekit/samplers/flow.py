"""A normalizing flow over codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vaekit.config import leaf
from vaekit.latents.gaussian import GaussianPosterior
from vaekit.latents.prior_flow import FlowPrior, FlowPriorEntry, SplineFlowPrior
from vaekit.noise import Noise, seeded
from vaekit.probability.distributions import draw
from vaekit.samplers.fitting import EPOCHS_HELP, PATIENCE_HELP, fit_by_gradient
from vaekit.samplers.table import SAMPLERS, Density


class FlowDensity(Density):
    """The module of a flow prior, fitted."""

    def __init__(self, prior: FlowPriorEntry, num_latents: int):
        super().__init__()
        self.flow = prior.build(num_latents, 0, (1, 1, 1), GaussianPosterior())  # type: ignore[arg-type]  # it is one

    def sample(self, noise: Noise) -> Tensor:
        return draw(self.flow(None), noise, "sampler")

    def log_prob(self, codes: Tensor) -> Tensor:
        found: Tensor = self.flow(None).log_prob(codes)
        return found


@SAMPLERS.register("flow")
@dataclass(frozen=True)
class FlowSampler:
    """Autoregressive flow: affine (Papamakarios et al. 2017, arXiv:1705.07057) or spline (Durkan et al. 2019)."""

    flow_kind: Literal["affine", "spline"] = leaf("spline", "what each transform does to a latent: affine or spline")
    flow_transforms: int = leaf(4, "transforms of the flow", ge=1, le=1000)
    flow_hidden: tuple[int, ...] = leaf((128, 128), "sizes of the hidden layers of each transform", ge=1, le=65536)
    fit_epochs: int = leaf(100, EPOCHS_HELP, ge=1, le=1_000_000)
    patience: int = leaf(8, PATIENCE_HELP, ge=1, le=1_000_000)

    def fit(self, codes: Tensor, seed: int) -> Density:
        with seeded(seed, "flow"):
            density = self.build(codes.shape[1], len(codes)).to(codes.device)
        fit_by_gradient(
            density, lambda part, noise: -density.log_prob(part), codes, self.fit_epochs, self.patience, seed
        )
        return density

    def build(self, num_latents: int, num_codes: int) -> Density:
        entry = FlowPrior if self.flow_kind == "affine" else SplineFlowPrior
        prior = entry(prior_transforms=self.flow_transforms, prior_hidden=self.flow_hidden)
        return FlowDensity(prior, num_latents)
