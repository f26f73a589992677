"""One bound for what generates, another for what infers."""

from __future__ import annotations

from dataclasses import dataclass

from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.bounds import importance_weighted
from vaekit.objectives.table import INFERENCE, MODEL, OBJECTIVES, Context, Losses
from vaekit.objectives.weighted import Grouped, weighted_bound


@OBJECTIVES.register("piwae")
@dataclass(frozen=True)
class Piwae(Grouped):
    """IWAE with M * K samples for the decoder and the prior, MIWAE (M, K) for the posterior (Rainforth et al. 2018).

    "Tighter variational bounds are not necessarily better" (arXiv:1802.04537): the tightest bound is best for
    p, a looser one of clearer gradient for q. The parameters of p, and those that p and q share, such as a label's code,
    minimize -log 1/(MK) sum_mk w_mk; encoder and posterior minimize -1/M sum_m log 1/K sum_k w_mk.
    """

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | {"inference"}

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        assert draw.log_w is not None
        generation = -importance_weighted(draw.log_w, (0, 1)).mean()
        inference = -weighted_bound(draw, self.gradient, dim=1).mean()
        return Losses({MODEL: generation, INFERENCE: inference}, {})
