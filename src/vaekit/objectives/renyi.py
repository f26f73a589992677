"""The variational Renyi bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses
from vaekit.objectives.weighted import Sampled

_NEAR = 0.01  # |1 - alpha| * range of the log-weights, in nats, below which the bound is its series around the mean


@OBJECTIVES.register("renyi")
@dataclass(frozen=True)
class Renyi(Sampled):
    """Minus the variational Renyi bound of K samples, log(1/K sum_k w_k^(1 - alpha)) / (alpha - 1) (Li and Turner 2016).

    "Renyi divergence variational inference" (arXiv:1602.02311). Alpha 0 is IWAE, alpha 1 the ELBO with its rate sampled; the
    smaller alpha, the more the posterior is drawn to cover all of the mass, and the larger, to seek one mode. Below 0 the
    value may exceed log p(x). What is reported and selected by stays the importance-weighted bound.
    """

    alpha: float = leaf(0.5, "order of the divergence; 0 is IWAE, 1 the ELBO", ge=-1000, le=1000)

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        assert draw.log_w is not None
        return Losses({MODEL: -renyi_bound(draw.log_w, context.hyper["alpha"]).mean()}, {})


def renyi_bound(log_w: Tensor, alpha: Tensor) -> Tensor:
    """log(mean of w^(1 - alpha)) / (1 - alpha) over the first axis, in nats, (batch,); at alpha 1 its limit, mean log w.

    Args:
        log_w: (samples, batch) log-weights.
        alpha: a scalar, any number.

    >>> log_w = torch.tensor([[-3.0], [-1.0]])
    >>> [round(renyi_bound(log_w, torch.tensor(alpha)).item(), 3) for alpha in (-1000.0, 0.0, 1.0, 1000.0)]
    [-1.001, -1.566, -2.0, -2.999]
    """
    power, mean = 1.0 - alpha, log_w.mean(0)
    away = log_w - mean
    near = power.abs() * (away.amax(0) - away.amin(0)).detach() < _NEAR
    # each branch is fed harmless numbers where the other one is taken, for the sake of its gradient
    close = torch.where(near, away, 0.0)
    series = 0.5 * (power * close * close).mean(0)
    divisor = torch.where(near, 1.0, power)
    full = (torch.logsumexp(divisor * away, 0) - math.log(len(log_w))) / divisor
    return mean + torch.where(near, series, full)
