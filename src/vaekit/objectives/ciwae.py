"""A mixture of the ELBO and the importance-weighted bound."""

from __future__ import annotations

from dataclasses import dataclass

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.bounds import importance_weighted
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses
from vaekit.objectives.weighted import Sampled


@OBJECTIVES.register("ciwae")
@dataclass(frozen=True)
class Ciwae(Sampled):
    """Minus (share * ELBO + (1 - share) * IWAE) of the same K samples (Rainforth et al. 2018).

    "Tighter variational bounds are not necessarily better" (arXiv:1802.04537), where the share is called beta.
    The ELBO is 1/K sum_k log w_k, its rate sampled. Share 0 is IWAE, share 1 the ELBO.
    """

    elbo_share: float = leaf(0.05, "share of the ELBO; 0 is IWAE, 1 the ELBO", ge=0, le=1)

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        assert draw.log_w is not None
        elbo, tight = draw.log_w.mean(), importance_weighted(draw.log_w).mean()
        share = context.hyper["elbo_share"]
        return Losses({MODEL: -(share * elbo + (1.0 - share) * tight)}, {})
