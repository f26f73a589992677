"""Free bits: a rate that each latent may have for nothing, so that none is given up early in training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw, Latent
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached


@OBJECTIVES.register("free-bits")
@dataclass(frozen=True)
class FreeBits(SinglePlayer):
    """Distortion + beta * sum over latents of max(free bits, mean rate of that latent) (Kingma et al. 2016).

    "Improved variational inference with inverse autoregressive flow" (arXiv:1606.04934), appendix C.8, with a group for
    each latent. The mean is over the images of a batch, of all processes together. A latent whose mean rate lies below its
    free bits feels no pull towards the prior. What is reported stays the bound itself, with the rate as it is.
    """

    beta: float = leaf(1.0, "weight of the rate; 1 is the bound itself", ge=0, le=1e6)
    free_bits: float = leaf(0.1, "rate in nats that each latent has for nothing; 0 is the bound itself", ge=0, le=1e6)
    scope = "batch"
    needs = frozenset({"rate_by_dimension"})

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        local = torch.cat([_mean_rates(latent) for latent in draw.latents])
        rates = context.gather(local[None]).mean(0)
        free = context.hyper["free_bits"]
        loss = draw.distortion.mean() + context.hyper["beta"] * torch.maximum(rates, free).sum()
        return Losses({MODEL: loss}, detached({"latents_at_free_bits": (rates <= free).sum()}))


def _mean_rates(latent: Latent) -> Tensor:
    """Mean rate of each latent over images and samples, (latent,) nats."""
    assert latent.rate_by_dimension is not None
    return latent.rate_by_dimension.flatten(0, -2).mean(0)
