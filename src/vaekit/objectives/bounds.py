"""The bounds on log p(x) that are reported and selected by, whatever a model was trained with. In nats, per image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaekit.models.draw import Draw


def over_samples(values: Tensor) -> Tensor:
    """Mean over all sample axes of (*sample_shape, batch): (batch,)."""
    return values if values.dim() <= 1 else values.flatten(0, -2).mean(0)


def distortion(draw: Draw) -> Tensor:
    """-E log p(target | z), (batch,)."""
    return over_samples(draw.distortion)


def rate(draw: Draw) -> Tensor | None:
    """E_q[log q - log p], (batch,), in closed form where there is one; None for a deterministic code."""
    return None if draw.rate is None else over_samples(draw.rate)


def rate_by_level(draw: Draw) -> list[Tensor]:
    """The parts of `rate`, (batch,) each, in the order in which the groups of latents are drawn; it must exist."""
    return [over_samples(latent.rate) for latent in draw.latents if latent.rate is not None]


def elbo(draw: Draw) -> Tensor | None:
    """E log p(target | z) - rate, (batch,); None where there is no bound."""
    return None if draw.elbo is None else over_samples(draw.elbo)


def importance_weighted(log_w: Tensor, dim: int | tuple[int, ...] = 0) -> Tensor:
    """log mean exp of the log-weights over the sample axes `dim`: a lower bound on log p(x), tighter with more samples.

    Burda, Grosse and Salakhutdinov 2016 (arXiv:1509.00519), equation 8.

    >>> importance_weighted(torch.zeros(3, 2)).tolist()
    [0.0, 0.0]
    """
    dims = (dim,) if isinstance(dim, int) else dim
    count = math.prod(log_w.shape[d] for d in dims)
    return torch.logsumexp(log_w, dims) - math.log(count)
