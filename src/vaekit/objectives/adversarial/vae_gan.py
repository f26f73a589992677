"""VAE-GAN: images are compared by the features of a discriminator that learns to tell them from decoded ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.models.table import Model
from vaekit.objectives.adversarial.discriminators import (
    DISCRIMINATOR,
    RATE_HELP,
    ImageDiscriminator,
    accuracy,
    discriminator_loss,
    generator_loss,
)
from vaekit.objectives.table import INFERENCE, MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached
from vaekit.probability.distributions import draw as sample


@OBJECTIVES.register("vae-gan")
@dataclass(frozen=True)
class VaeGan(SinglePlayer):
    """Rate + distance of learned features, with a discriminator of images (Larsen et al. 2016).

    "Autoencoding beyond pixels using a learned similarity metric" (arXiv:1512.09300), algorithm 1. With f the features of
    the discriminator's last convolution, and distance = 1/2 |f(image) - f(reconstruction)|^2, which is -log N(f(image);
    f(reconstruction), I) in nats to a constant:

    - encoder: beta * rate + distance
    - decoder: gamma * distance - E log D(decoded), of reconstructions and of samples of the prior in equal parts
    - discriminator: -1/2 E log D(image) - 1/2 E log(1 - D(decoded))

    The paper writes the decoder's part as E log(1 - D); its non-saturating form is used here. What is decoded is seen as
    the mean of its likelihood, and a conditional model decodes samples under the images' own conditions, which the
    discriminator does not read. The decoder's loss holds the rate too, which moves nothing but a prior that learns.

    The bound that is reported is the model's plain ELBO, with the distortion of pixels. VAE-GAN does not optimize it: it
    says how good a density model came about, not how good the images look, and the last weights are kept, not those of the
    best ELBO. A scale that the likelihood would learn stays what it starts at.
    """

    beta: float = leaf(1.0, "weight of the rate against the distance of features", ge=0, le=1e6)
    gamma: float = leaf(1.0, "weight of the distance of features against the decoder's adversarial loss", ge=0, le=1e6)
    discriminator_channels: tuple[int, ...] = leaf(
        (32, 64, 128), "channels of the discriminator's convolutions, one for each halving", ge=1, le=4096
    )
    discriminator_rate: float = leaf(0.05, RATE_HELP, gt=0, le=1e3)
    needs = frozenset({"rate", "vectors", "inference"})
    selects = None
    reads_images = True

    def players(self, num_latents: int, shape: tuple[int, int, int]) -> dict[str, nn.Module]:
        return {DISCRIMINATOR: ImageDiscriminator(shape, self.discriminator_channels)}

    def rates(self) -> dict[str, float]:
        return {DISCRIMINATOR: self.discriminator_rate}

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        assert draw.rate is not None
        (latent,) = draw.latents
        model, discriminator = cast(Model, context.model), context.players[DISCRIMINATOR]
        codes = sample(latent.prior, context.noise, "prior").detach()
        samples = model.decode(codes, model.shown(batch.condition, context.noise)).mean

        # one pass for all losses: each is differentiated by the weights of its own player alone
        features, real = discriminator(draw.target)
        rebuilt_features, rebuilt = discriminator(draw.likelihood.mean)
        _, sampled = discriminator(samples)
        distance = 0.5 * (rebuilt_features - features.detach()).square().sum(-1).mean()
        adversarial = generator_loss(rebuilt, sampled)
        rate = context.hyper["beta"] * draw.rate.mean()
        return Losses(
            {
                MODEL: context.hyper["gamma"] * distance + adversarial + rate,
                INFERENCE: distance + rate,
                DISCRIMINATOR: discriminator_loss(real, rebuilt, sampled),
            },
            detached(
                {
                    "feature_distance": distance,
                    "adversarial": adversarial,
                    "discriminator_accuracy": accuracy(real, rebuilt, sampled),
                }
            ),
        )
