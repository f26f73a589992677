"""The mean of several importance-weighted bounds."""

from __future__ import annotations

from dataclasses import dataclass

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer
from vaekit.objectives.weighted import GRADIENT_HELP, Gradient, needs_of, weighted_bound


@OBJECTIVES.register("miwae")
@dataclass(frozen=True)
class Miwae(SinglePlayer):
    """Minus the mean of M importance-weighted bounds with K samples each (Rainforth et al. 2018).

    -1/M sum_m log 1/K sum_k w_mk; "Tighter variational bounds are not necessarily better" (arXiv:1802.04537).
    M = 1 is IWAE with K samples; K = 1 is the ELBO with M samples, its rate sampled. The best weights are chosen by the
    bound of all M * K samples together.
    """

    num_bounds: int = leaf(4, "bounds that are averaged for each image, M", ge=1, le=100000)
    num_samples: int = leaf(4, "samples in each bound, K", ge=1, le=100000)
    gradient: Gradient = leaf("standard", GRADIENT_HELP)
    selects = "iw_elbo_nats"

    @property
    def needs(self) -> frozenset[str]:
        return needs_of(self.gradient)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.num_bounds, self.num_samples)

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        return Losses({MODEL: -weighted_bound(draw, self.gradient, dim=1).mean()}, {})
