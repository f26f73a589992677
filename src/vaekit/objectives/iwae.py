"""The importance-weighted bound."""

from __future__ import annotations

from dataclasses import dataclass

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.bounds import importance_weighted
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer


@OBJECTIVES.register("iwae")
@dataclass(frozen=True)
class Iwae(SinglePlayer):
    """Minus the importance-weighted bound with K samples, -log 1/K sum_k w_k (Burda, Grosse and Salakhutdinov 2016)."""

    num_samples: int = leaf(5, "samples drawn for each image", ge=1, le=100000)
    needs = frozenset({"log_w"})
    selects = "iw_elbo_nats"

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.num_samples,)

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        assert draw.log_w is not None
        bound = importance_weighted(draw.log_w)
        return Losses({MODEL: -bound.mean()}, {})
