"""One bound for what generates, another for what infers."""

from __future__ import annotations

from dataclasses import dataclass

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.bounds import importance_weighted
from vaekit.objectives.table import INFERENCE, MODEL, OBJECTIVES, Context, Losses, SinglePlayer
from vaekit.objectives.weighted import GRADIENT_HELP, Gradient, needs_of, weighted_bound


@OBJECTIVES.register("piwae")
@dataclass(frozen=True)
class Piwae(SinglePlayer):
    """IWAE with M * K samples for the decoder and the prior, MIWAE (M, K) for the posterior (Rainforth et al. 2018).

    "Tighter variational bounds are not necessarily better" (arXiv:1802.04537): the tightest bound is best for
    p, a looser one of clearer gradient for q. The parameters of p, and those that p and q share, such as a label's code,
    minimize -log 1/(MK) sum_mk w_mk; encoder and posterior minimize -1/M sum_m log 1/K sum_k w_mk.
    """

    num_bounds: int = leaf(4, "bounds that are averaged for the posterior, M", ge=1, le=100000)
    num_samples: int = leaf(4, "samples in each of them, K; the decoder's bound has M * K", ge=1, le=100000)
    gradient: Gradient = leaf("standard", GRADIENT_HELP)
    selects = "iw_elbo_nats"

    @property
    def needs(self) -> frozenset[str]:
        return needs_of(self.gradient) | {"inference"}

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.num_bounds, self.num_samples)

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        assert draw.log_w is not None
        generation = -importance_weighted(draw.log_w, (0, 1)).mean()
        inference = -weighted_bound(draw, self.gradient, dim=1).mean()
        return Losses({MODEL: generation, INFERENCE: inference}, {})
