"""Free bits: a rate that latents may have for nothing, so that none are given up early in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw, Latent
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached

Group = Literal["latent", "channel", "level"]


@OBJECTIVES.register("free-bits")
@dataclass(frozen=True)
class FreeBits(SinglePlayer):
    """Distortion + beta * sum over groups of latents of max(free bits, mean rate of that group) (Kingma et al. 2016).

    "Improved variational inference with inverse autoregressive flow" (arXiv:1606.04934), appendix C.8. The mean is over the
    images of a batch, of all processes together. A group whose mean rate lies below its free bits feels no pull towards
    the prior. What is reported stays the bound itself, with the rate as it is.

    A group is a single latent; or of the maps of latents of a hierarchical model a channel, as in that paper, since one
    place of a map may well be empty in most images; or a whole level. In a vector each latent is a channel.
    """

    beta: float = leaf(1.0, "weight of the rate; 1 is the bound itself", ge=0, le=1e6)
    free_bits: float = leaf(0.1, "rate in nats that each group has for nothing; 0 is the bound itself", ge=0, le=1e6)
    free_group: Group = leaf("latent", "what has free bits of its own: latent, channel (of a map) or level")
    scope = "batch"
    needs = frozenset({"rate_by_dimension"})

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        local = torch.cat([_mean_rates(latent, self.free_group) for latent in draw.latents])
        rates = context.gather(local[None]).mean(0)
        free = context.hyper["free_bits"]
        loss = draw.distortion.mean() + context.hyper["beta"] * torch.maximum(rates, free).sum()
        return Losses({MODEL: loss}, detached({f"{self.free_group}s_at_free_bits": (rates <= free).sum()}))


def _mean_rates(latent: Latent, group: Group) -> Tensor:
    """Mean rate of each group of latents over images and samples, (groups,) nats."""
    assert latent.rate_by_dimension is not None
    rates = latent.rate_by_dimension.flatten(0, -2).mean(0)
    if group == "level":
        return rates.sum()[None]
    return rates.view(latent.shape[0], -1).sum(-1) if group == "channel" and latent.shape else rates
