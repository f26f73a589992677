"""A rate that is held at a capacity, which grows during training."""

from __future__ import annotations

from dataclasses import dataclass

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached


@OBJECTIVES.register("capacity")
@dataclass(frozen=True)
class Capacity(SinglePlayer):
    """Distortion + gamma * |rate - C|, C growing in a line from 0 to the capacity (Burgess et al. 2018).

    "Understanding disentangling in beta-VAE" (arXiv:1804.03599), equation 8; the rate is the mean over the images of a
    batch, of all processes together, so that single images may lie above C and others below. With capacity 0 and gamma 1
    this is the bound itself. The best validation ELBO is looked for once C stands.
    """

    gamma: float = leaf(10.0, "weight of the distance between rate and capacity (published: 1000)", ge=0, le=1e6)
    capacity: float = leaf(25.0, "rate in nats that C grows to", ge=0, le=1e6)
    capacity_epochs: float = leaf(10.0, "epochs over which C grows from 0", gt=0, le=1e6)
    scope = "batch"
    needs = frozenset({"moved_rate"})

    def factors(self, epochs: float) -> dict[str, float]:
        return {"capacity": min(1.0, epochs / self.capacity_epochs)}

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        assert draw.rate is not None
        rate = context.gather(draw.rate.mean()[None]).mean()
        gap = (rate - context.hyper["capacity"]).abs()
        return Losses({MODEL: draw.distortion.mean() + context.hyper["gamma"] * gap}, detached({"capacity_gap": gap}))
