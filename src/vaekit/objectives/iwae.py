"""The importance-weighted bound."""

from __future__ import annotations

from dataclasses import dataclass

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses
from vaekit.objectives.weighted import GRADIENT_HELP, Gradient, Sampled, needs_of, weighted_bound


@OBJECTIVES.register("iwae")
@dataclass(frozen=True)
class Iwae(Sampled):
    """Minus the importance-weighted bound with K samples, -log 1/K sum_k w_k (Burda, Grosse and Salakhutdinov 2016).

    "Importance weighted autoencoders" (arXiv:1509.00519), equation 8. The bound tightens with K, while the standard
    gradient of the posterior drowns in noise (Rainforth et al. 2018, arXiv:1802.04537); the gradient `dreg` does not.
    With one sample and the gradient `stl` or `dreg` this is the ELBO with the path-derivative gradient of Roeder et al.
    (2017). See `weighted.weighted_bound`. The loss is minus the bound, whatever the gradient.
    """

    gradient: Gradient = leaf("standard", GRADIENT_HELP)

    @property
    def needs(self) -> frozenset[str]:
        return needs_of(self.gradient)

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        return Losses({MODEL: -weighted_bound(draw, self.gradient).mean()}, {})
