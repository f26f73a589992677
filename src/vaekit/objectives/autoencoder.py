"""The autoencoder: distortion and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer


@OBJECTIVES.register("autoencoder")
@dataclass(frozen=True)
class Autoencoder(SinglePlayer):
    """Distortion alone, -log p(x | z) in nats: an autoencoder, with --posterior deterministic.

    Nothing shapes the codes, so samples of the prior decode to images only by luck. Under a posterior with a density its
    scale shrinks and the rate grows without end: the bound is still reported, and nothing is selected by it.
    """

    needs = frozenset()
    selects = None

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        return Losses({MODEL: draw.distortion.mean()}, {})
