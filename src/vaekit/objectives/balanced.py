"""Rates of levels that are balanced early in training, so that no level is given up."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached

_LEAST = 1e-6  # nats; divided by where there is no rate at all


@OBJECTIVES.register("balanced")
@dataclass(frozen=True)
class Balanced(SinglePlayer):
    """Distortion + beta * sum over L levels of w_l rate_l, with w_l from the level's share of the rate to 1 (NVAE).

    "NVAE: a deep hierarchical variational autoencoder" (Vahdat and Kautz 2020, arXiv:2007.03898) balances its levels
    by w_l = L rate_l / sum of all rates, a constant to the gradient, while beta warms up: a level of little rate pays little
    for more, so that none is given up before it is of use. Rates are means over the images of a batch, of all processes
    together. There levels are weighted by their sizes too, and the balance ends at once; here
    w_l = e + (1 - e) L rate_l / sum of all rates, where the evenness e grows in a line over the first epochs, and beta with
    it. With both grown this is the bound itself. The best validation ELBO is looked for from then on.
    """

    beta: float = leaf(1.0, "weight of the rate; 1 is the bound itself", ge=0, le=1e6)
    evenness: float = leaf(
        1.0, "how evenly levels weigh in the end: 1 all alike (the bound), 0 each by its share of the rate", ge=0, le=1
    )
    even_epochs: float = leaf(2.0, "epochs over which evenness and beta grow from 0", gt=0, le=1e6)
    scope = "batch"

    def factors(self, epochs: float) -> dict[str, float]:
        return dict.fromkeys(("evenness", "beta"), min(1.0, epochs / self.even_epochs))

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        local = torch.stack([latent.rate.mean() for latent in draw.latents if latent.rate is not None])
        rates = context.gather(local[None]).mean(0)
        shares = rates.detach().clamp_min(0.0)
        shares = shares / shares.sum().clamp_min(_LEAST)
        weights = torch.lerp(len(shares) * shares, torch.ones_like(shares), context.hyper["evenness"])
        return Losses({MODEL: draw.distortion.mean() + context.hyper["beta"] * (weights * rates).sum()}, detached({}))
