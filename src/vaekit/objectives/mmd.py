"""Codes that are matched to the prior as a whole, by a maximum mean discrepancy."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.kernels import Kernel, mmd
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached
from vaekit.probability import distributions


@dataclass(frozen=True)
class Matching(SinglePlayer):
    """What the objectives here share: the discrepancy of the aggregate posterior q(z) from the prior."""

    mmd_weight: float = leaf(
        100.0, "weight of the squared maximum mean discrepancy of q(z) from the prior", ge=0, le=1e6
    )
    mmd_kernel: Kernel = leaf("imq", "inverse multiquadratics of seven scales (imq), or one Gaussian (rbf)")
    mmd_bandwidth: float = leaf(
        1.0, "standard deviation of the prior that the kernel's width is made for", ge=1e-3, le=1e6
    )
    scope = "batch"
    needs = frozenset({"vectors"})
    selects = None  # no bound is minimized

    def discrepancy(self, draw: Draw, context: Context) -> Tensor:
        """Squared discrepancy of the codes from as many draws of their prior; without unit, no axes.

        Codes and draws are those of all processes together. With samples for each image the discrepancy is that of one
        sample of each, averaged: two codes of one image are no independent draws of q(z).
        """
        (latent,) = draw.latents
        codes = latent.value
        prior = distributions.draw(latent.prior, context.noise, "mmd prior", codes.shape[:-2])
        codes, prior = (context.gather(each.movedim(-2, 0)).movedim(0, -2) for each in (codes, prior.to(codes.dtype)))
        return mmd(codes, prior, self.mmd_kernel, context.hyper["mmd_bandwidth"]).mean()


@OBJECTIVES.register("wae-mmd")
@dataclass(frozen=True)
class WaeMmd(Matching):
    """Distortion + lambda * MMD^2 of codes and prior: a Wasserstein autoencoder (Tolstikhin et al. 2018).

    "Wasserstein auto-encoders" (arXiv:1711.01558), algorithm 2, with lambda = `mmd_weight` and the unbiased estimate of
    the discrepancy. The reconstruction cost is the distortion of the likelihood in nats, so that lambda is in nats too:
    with a Gaussian decoder of variance v it is the published cost |x - y|^2 over 2 v, and lambda is the published one over
    2 v. No rate is in the loss: codes may be deterministic (--posterior deterministic) or drawn, where nothing but the
    distortion holds their spread. A batch of one image has no discrepancy.
    """

    fits_prior = False  # a prior that moved to the codes would match anything

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        discrepancy = self.discrepancy(draw, context)
        loss = draw.distortion.mean() + context.hyper["mmd_weight"] * discrepancy
        return Losses({MODEL: loss}, detached({"mmd": discrepancy}))


@OBJECTIVES.register("info-vae")
@dataclass(frozen=True)
class InfoVAE(Matching):
    """Distortion + (1 - alpha) * rate + weight * MMD^2 of codes and prior (Zhao, Song and Ermon 2019).

    "InfoVAE: balancing learning and inference in variational autoencoders" (arXiv:1706.02262), equation 6 with the
    divergence of q(z) from the prior replaced by the discrepancy. There the loss is

        distortion + (1 - alpha) * rate + (alpha + lambda - 1) * D(q(z), p(z)),

    where alpha prefers mutual information of image and code. Here `info_alpha` is alpha, and `mmd_weight` the whole
    alpha + lambda - 1. So info_alpha 0 with mmd_weight 0 is minus the bound; info_alpha 1 is the MMD-VAE, and the same as
    wae-mmd with drawn codes. A batch of one image has no discrepancy.
    """

    info_alpha: float = leaf(0.5, "preference for mutual information; the rate has the weight 1 - alpha", ge=-1e6, le=1)
    needs = frozenset({"rate", "vectors"})

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        assert draw.rate is not None
        discrepancy = self.discrepancy(draw, context)
        bound = draw.distortion.mean() + (1.0 - context.hyper["info_alpha"]) * draw.rate.mean()
        loss = bound + context.hyper["mmd_weight"] * discrepancy
        return Losses({MODEL: loss}, detached({"mmd": discrepancy}))
