"""The mean of several importance-weighted bounds."""

from __future__ import annotations

from dataclasses import dataclass

from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses
from vaekit.objectives.weighted import Grouped, weighted_bound


@OBJECTIVES.register("miwae")
@dataclass(frozen=True)
class Miwae(Grouped):
    """Minus the mean of M importance-weighted bounds with K samples each (Rainforth et al. 2018).

    -1/M sum_m log 1/K sum_k w_mk; "Tighter variational bounds are not necessarily better" (arXiv:1802.04537).
    M = 1 is IWAE with K samples; K = 1 is the ELBO with M samples, its rate sampled. The best weights are chosen by the
    bound of all M * K samples together.
    """

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        return Losses({MODEL: -weighted_bound(draw, self.gradient, dim=1).mean()}, {})
