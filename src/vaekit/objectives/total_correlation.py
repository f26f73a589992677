"""The rate taken apart into mutual information, total correlation and dimension-wise divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached
from vaekit.probability.distributions import LOG_2PI, DiagonalGaussian

Estimator = Literal["stratified", "weighted"]


class Parts(NamedTuple):
    """The parts of a sampled rate, (batch, samples) nats; their sum is log q(z | x) - log p(z) whatever the estimate."""

    mutual_information: Tensor
    total_correlation: Tensor
    dimension_wise_kl: Tensor


@OBJECTIVES.register("beta-tcvae")
@dataclass(frozen=True)
class BetaTCVAE(SinglePlayer):
    """Distortion + alpha * mutual information + beta * total correlation + gamma * dimension-wise KL (Chen et al. 2018).

    "Isolating sources of disentanglement in VAEs" (arXiv:1802.04942), equation 4. With q(z) the mean of the N posteriors
    of the training images, the mean rate is the sum of

        mutual information    E[log q(z | x) - log q(z)],
        total correlation     E[log q(z) - sum_j log q(z_j)],
        dimension-wise KL     E[sum_j log q(z_j) - log p(z)],

    here at the sampled z. The flags call alpha, beta and gamma `mi_weight`, `tc_weight` and `dimension_weight`: with all
    three 1 this is minus the bound with a sampled rate, whatever the estimate of q(z).

    q(z) is estimated from the M posteriors of a batch, of all processes together. For a z that image n gave,

        stratified:  1/N q(z | n) + (N - 1)/N * mean over the other images m of the batch of q(z | m).

    The first term is n's own share of q(z); the M - 1 others are drawn without replacement from the other N - 1 images, so
    that the mean of q(z | m) over batches that hold n is 1/(N - 1) * sum over m != n of q(z | m), and the mean of the whole
    is q(z): no bias before the logarithm, and q(z) itself with M = N. The paper (appendix C.2) gives one of the others the
    weight (N - M + 1) / (N (M - 1)) and the rest 1 / (M - 1). Which one is arbitrary; the mean over that choice is the
    formula above, and so has no more variance.

        weighted:    mean over all images m of the batch, n among them, of q(z | m).

    The paper (appendix C.1) divides by N once more: a constant log N in each logarithm, without a gradient, that moves the
    logged parts by (latents - 1) * log N and is left out here. n counts 1/M rather than 1/N: the mutual information cannot
    be seen beyond log M. A batch of one image tells nothing of q(z): there q(z) = q(z | n). A batch larger than the
    training set, as validation may have, counts as the data set.
    """

    tc_weight: float = leaf(6.0, "weight of the total correlation (the paper's beta)", ge=0, le=1e6)
    mi_weight: float = leaf(1.0, "weight of the mutual information of image and code (alpha)", ge=0, le=1e6)
    dimension_weight: float = leaf(1.0, "weight of the dimension-wise KL (gamma)", ge=0, le=1e6)
    tc_estimator: Estimator = leaf("stratified", "how a batch estimates q(z): stratified, or weighted")
    scope = "batch"
    needs = frozenset({"rate", "vectors", "diagonal"})

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        (latent,) = draw.latents
        q, p = latent.posterior, latent.prior
        assert isinstance(q, DiagonalGaussian)
        assert p is not None
        z = latent.value.movedim(-2, 0)
        log_prior = p.log_prob(latent.value).movedim(-1, 0).reshape(len(z), -1)
        local = (z.reshape(*log_prior.shape, -1), q.loc, q.log_scale, log_prior)
        z, loc, log_scale, log_prior = map(context.gather, local)
        parts = rate_parts(z, loc, log_scale, log_prior, context.num_train, self.tc_estimator)
        means = Parts(*(part.mean() for part in parts))
        rate = (
            context.hyper["mi_weight"] * means.mutual_information
            + context.hyper["tc_weight"] * means.total_correlation
            + context.hyper["dimension_weight"] * means.dimension_wise_kl
        )
        terms = {f"{name}_nats": mean for name, mean in means._asdict().items()}
        return Losses({MODEL: draw.distortion.mean() + rate}, detached(terms))


def rate_parts(
    z: Tensor, loc: Tensor, log_scale: Tensor, log_prior: Tensor, num_train: int, estimator: Estimator
) -> Parts:
    """The parts of log q(z | x) - log p(z), each (batch, samples) nats.

    Memory grows with batch * batch * samples * latent.

    Args:
        z: (batch, samples, latent), z[n] drawn from the posterior of image n.
        loc: (batch, latent), means of the posteriors.
        log_scale: (batch, latent).
        log_prior: (batch, samples), log p(z).
        num_train: number of images whose posteriors make up q(z).
        estimator: how q(z) is estimated; see `BetaTCVAE`.
    """
    standard = (z[:, None] - loc[:, None]) * (-log_scale[:, None]).exp()
    pairs = -0.5 * (standard.square() + LOG_2PI) - log_scale[:, None]
    joint = pairs.sum(-1)
    log_q_given_x = joint.diagonal().T
    log_q = log_aggregate(joint, num_train, estimator)
    log_marginals = log_aggregate(pairs, num_train, estimator).sum(-1)
    return Parts(log_q_given_x - log_q, log_q - log_marginals, log_marginals - log_prior)


def log_aggregate(pairs: Tensor, num_train: int, estimator: Estimator) -> Tensor:
    """log q(z) (batch, ...) from pairs[n, m] = log q(z_n | x_m), (batch, batch, ...); see `BetaTCVAE`.

    >>> same = torch.zeros(3, 3)  # all posteriors alike: q(z) = q(z | x)
    >>> log_aggregate(same, 1000, "stratified").abs().max() < 1e-6
    tensor(True)
    """
    batch = len(pairs)
    own = other = -math.log(batch)
    if estimator == "stratified" and batch > 1:
        images = max(num_train, batch)
        own, other = -math.log(images), math.log((images - 1) / (images * (batch - 1)))
    weights = other + (own - other) * torch.eye(batch, dtype=pairs.dtype, device=pairs.device)
    return torch.logsumexp(pairs + weights.view(batch, batch, *[1] * (pairs.dim() - 2)), 1)
