"""FactorVAE: a discriminator estimates how far the latents are from independent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.noise import Noise
from vaekit.objectives.adversarial.discriminators import (
    DISCRIMINATOR,
    HIDDEN_HELP,
    RATE_HELP,
    accuracy,
    code_discriminator,
    discriminator_loss,
)
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached


@OBJECTIVES.register("factor")
@dataclass(frozen=True)
class FactorVAE(SinglePlayer):
    """Distortion + beta * rate + gamma * total correlation, by a discriminator (Kim and Mnih 2018).

    "Disentangling by factorising" (arXiv:1802.05983), equation 2 and algorithm 1. The total correlation KL(q(z) || product
    of q(z_j)), in nats, is the mean logit of a discriminator between codes and shuffled codes (equation 3).

    One batch serves for all: the model's losses, the codes, and the shuffled codes. The paper shuffles those of a second
    batch, which would cost another pass through the encoder; with the same batch, codes and shuffled codes agree in each
    latent exactly, so that less chance is left for the discriminator to learn. The paper's discriminator has six layers of
    1000 units; three of 256 are the default, for speed.
    """

    beta: float = leaf(1.0, "weight of the rate; 1 is the bound itself", ge=0, le=1e6)
    gamma: float = leaf(10.0, "weight of the total correlation (published for dSprites: 35)", ge=0, le=1e6)
    discriminator_hidden: tuple[int, ...] = leaf((256, 256, 256), HIDDEN_HELP, ge=1, le=65536)
    discriminator_rate: float = leaf(0.25, RATE_HELP, gt=0, le=1e3)
    scope = "batch"
    needs = frozenset({"rate", "vectors"})

    def players(self, num_latents: int, shape: tuple[int, int, int]) -> dict[str, nn.Module]:
        return {DISCRIMINATOR: code_discriminator(num_latents, self.discriminator_hidden)}

    def rates(self) -> dict[str, float]:
        return {DISCRIMINATOR: self.discriminator_rate}

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        assert draw.rate is not None
        codes, discriminator = draw.latents[0].value, context.players[DISCRIMINATOR]
        # one pass for both losses: each is differentiated by the weights of its own player alone
        logits = discriminator(codes)
        shuffled = discriminator(shuffle(codes.detach(), context))
        total_correlation = logits.mean()
        bound = draw.distortion.mean() + context.hyper["beta"] * draw.rate.mean()
        return Losses(
            {
                MODEL: bound + context.hyper["gamma"] * total_correlation,
                DISCRIMINATOR: discriminator_loss(logits, shuffled),
            },
            detached({"total_correlation": total_correlation, "discriminator_accuracy": accuracy(logits, shuffled)}),
        )


def shuffle(codes: Tensor, context: Context) -> Tensor:
    """Codes (batch, latent) of all processes, each latent in an order of its own.

    The images are put into a random order, and latent j is taken from the image j places further on. So the latents of a
    shuffled code come from as many images where the batch holds so many, while of orders drawn apart for each latent
    (algorithm 2 of Kim and Mnih 2018) a share of 1/batch of every pair of latents would stay together.
    """
    own: Noise = context.noise
    order = context.gather(own.normal("shuffle", ())).argsort()
    joined = context.gather(codes)
    count, num_latents = joined.shape
    images = torch.arange(count, device=codes.device)[:, None]
    latents = torch.arange(num_latents, device=codes.device)
    return joined.gather(0, order[(images + latents) % count])
