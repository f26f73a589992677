"""A covariance of codes that is held at the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached
from vaekit.probability.distributions import DiagonalGaussian


@OBJECTIVES.register("dip-vae")
@dataclass(frozen=True)
class DipVAE(SinglePlayer):
    """Distortion + beta * rate + a penalty on the covariance C of the codes (Kumar, Sattigeri and Balakrishnan 2018).

    "Variational inference of disentangled latent concepts from unlabeled observations" (arXiv:1711.00848), equations 6
    and 7. The penalty is

        lambda_od * sum over i != j of C_ij^2 + lambda_d * sum over i of (C_ii - 1)^2,

    where C is the covariance over images of the posterior means (DIP-VAE-I), or that and the mean of the posterior
    variances, which by the law of total covariance is the covariance of q(z) (DIP-VAE-II). Each pair of latents counts
    twice, as i, j and as j, i. C is the unbiased estimate from the images of a batch, of all processes together; a batch of
    one image has none, and no penalty. The square of a noisy covariance is not unbiased: with M images, each C_ij^2 is too
    large by about C_ii C_jj / (M - 1). Published: lambda_od from 1 to 500, lambda_d = 10 lambda_od for I and
    lambda_od for II.
    """

    beta: float = leaf(1.0, "weight of the rate; 1 is the bound itself", ge=0, le=1e6)
    dip: Literal["i", "ii"] = leaf("ii", "covariance of the posterior means (i), or of the aggregate posterior (ii)")
    lambda_od: float = leaf(10.0, "weight of the squared covariances between latents", ge=0, le=1e6)
    lambda_d: float = leaf(10.0, "weight of the squared distances of variances from 1", ge=0, le=1e6)
    scope = "batch"
    needs = frozenset({"rate", "vectors", "diagonal"})

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        (latent,) = draw.latents
        assert isinstance(latent.posterior, DiagonalGaussian)
        assert draw.rate is not None
        loc, scale = context.gather(latent.posterior.loc), context.gather(latent.posterior.scale)
        off_diagonal, diagonal = penalties(loc, scale if self.dip == "ii" else None)
        bound = draw.distortion.mean() + context.hyper["beta"] * draw.rate.mean()
        loss = bound + context.hyper["lambda_od"] * off_diagonal + context.hyper["lambda_d"] * diagonal
        return Losses({MODEL: loss}, detached({"dip_off_diagonal": off_diagonal, "dip_diagonal": diagonal}))


def penalties(loc: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums of squares of the covariances between latents, and of the distances of their variances from 1.

    Args:
        loc: (batch, latent), posterior means.
        scale: (batch, latent), standard deviations, where they count.
    """
    if len(loc) == 1:
        return loc.new_zeros(()), loc.new_zeros(())
    centered = loc - loc.mean(0)
    covariance = centered.T @ centered / (len(loc) - 1)
    if scale is not None:
        covariance = covariance + torch.diag(scale.square().mean(0))
    squares = (covariance - torch.eye(len(covariance), dtype=loc.dtype, device=loc.device)).square()
    diagonal = squares.diagonal().sum()
    return squares.sum() - diagonal, diagonal
