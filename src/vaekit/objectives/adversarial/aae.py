"""Adversarial autoencoders, which are also Wasserstein autoencoders with a discriminator of codes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.adversarial.discriminators import (
    DISCRIMINATOR,
    HIDDEN_HELP,
    RATE_HELP,
    accuracy,
    code_discriminator,
    discriminator_loss,
    generator_loss,
    smoothed,
)
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached
from vaekit.probability.distributions import draw as sample


@OBJECTIVES.register("aae")
@dataclass(frozen=True)
class AdversarialAutoencoder(SinglePlayer):
    """Distortion - weight * E log D(code): adversarial autoencoder (Makhzani et al. 2015), also WAE-GAN.

    "Adversarial autoencoders" (arXiv:1511.05644), and "Wasserstein auto-encoders" (Tolstikhin et al. 2018,
    arXiv:1711.01558), algorithm 1. A discriminator tells codes from samples of the prior, and the encoder is moved so that
    codes are taken for samples: so the codes of all images together come to follow the prior.

    The two papers minimize the same two terms; Tolstikhin et al. say so for a squared error (section 3). They differ in the
    weight, 10 for a sum of squared errors in the second, and in that the first moves the encoder by each term in a step of
    its own. Here one step moves it by their sum. Squared errors are those of ``--likelihood gaussian --sigma 0.7071
    --no-learn-sigma``, to a constant.

    The discriminator's loss holds a penalty of its squared slope at samples of the prior (Mescheder et al. 2018,
    arXiv:1801.04406), which neither paper has. Without it the codes of 8x8 digits wandered about, with a variance below a
    half of the prior's, in all of six trials of weights and learning rates, one seed, 1000 steps. With it each entry of
    their covariance came within 0.15 of the prior's, at learning rates of 2e-3, 4e-3 and 8e-3.

    Nothing in it is a bound. With a posterior that has a density the ELBO is reported, and is no measure of what was
    minimized; so the last weights are kept, not those of the best ELBO.
    """

    adversarial_weight: float = leaf(10.0, "weight of the adversarial loss of the codes", ge=0, le=1e6)
    discriminator_hidden: tuple[int, ...] = leaf((256, 256, 256), HIDDEN_HELP, ge=1, le=65536)
    gradient_penalty: float = leaf(
        1.0, "weight of the squared slope of the discriminator at samples of the prior (published: 0)", ge=0, le=1e6
    )
    discriminator_rate: float = leaf(0.5, RATE_HELP, gt=0, le=1e3)
    needs = frozenset({"vectors"})
    fits_prior = False
    selects = None

    def players(self, num_latents: int, shape: tuple[int, int, int]) -> dict[str, nn.Module]:
        return {DISCRIMINATOR: code_discriminator(num_latents, self.discriminator_hidden)}

    def rates(self) -> dict[str, float]:
        return {DISCRIMINATOR: self.discriminator_rate}

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        (latent,) = draw.latents
        discriminator = context.players[DISCRIMINATOR]
        # one pass for both losses: each is differentiated by the weights of its own player alone
        codes = discriminator(latent.value)
        prior, penalty = smoothed(discriminator, sample(latent.prior, context.noise, "prior"))
        adversarial = generator_loss(codes)
        return Losses(
            {
                MODEL: draw.distortion.mean() + context.hyper["adversarial_weight"] * adversarial,
                DISCRIMINATOR: discriminator_loss(prior, codes) + context.hyper["gradient_penalty"] * penalty,
            },
            detached({"adversarial": adversarial, "discriminator_accuracy": accuracy(prior, codes)}),
        )
