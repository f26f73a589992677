"""The importance-weighted bound with a choice of estimators of its gradient; what objectives of several samples share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.models.draw import Draw
from vaekit.objectives.bounds import importance_weighted
from vaekit.objectives.table import SinglePlayer

Gradient = Literal["standard", "dreg", "stl"]
GRADIENT_HELP = "estimator of the posterior's gradient: standard, doubly reparameterized, sticking the landing (biased)"


@dataclass(frozen=True)
class Sampled(SinglePlayer):
    """An objective over K importance weights of each image."""

    num_samples: int = leaf(5, "samples drawn for each image", ge=1, le=100000)
    selects = "iw_elbo_nats"

    @property
    def needs(self) -> frozenset[str]:
        return needs_of("standard")

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.num_samples,)


@dataclass(frozen=True)
class Grouped(SinglePlayer):
    """An objective over M groups of K importance weights of each image."""

    num_bounds: int = leaf(4, "bounds that are averaged for each image, M", ge=1, le=100000)
    num_samples: int = leaf(4, "samples in each bound, K", ge=1, le=100000)
    gradient: Gradient = leaf("standard", GRADIENT_HELP)
    selects = "iw_elbo_nats"

    @property
    def needs(self) -> frozenset[str]:
        return needs_of(self.gradient)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.num_bounds, self.num_samples)


def needs_of(gradient: Gradient) -> frozenset[str]:
    """What a model must provide; the two path gradients are right for one group of latents."""
    return frozenset({"log_w"} if gradient == "standard" else {"log_w", "path", "vectors"})


def weighted_bound(draw: Draw, gradient: Gradient, dim: int = 0) -> Tensor:
    """log 1/K sum_k w_k over the K samples of the axis `dim`, in nats, (*other sample axes, batch).

    The value is the bound whatever the gradient. All but the parameters of q(z | x) always have its standard gradient
    sum_k v_k dlog w_k, where v_k = w_k / sum_j w_j. Those of q(z | x) have, by `gradient`:

    ``standard``: sum_k v_k dlog w_k too (Burda, Grosse and Salakhutdinov 2016, arXiv:1509.00519).

    ``dreg``: sum_k v_k^2 (dlog w_k / dz_k) (dz_k / dphi), doubly reparameterized (Tucker, Lawson, Gu and Maddison 2019,
    arXiv:1810.04152, equation 8). It has the same mean and less variance, and its signal-to-noise ratio grows with K.

    ``stl``: sum_k v_k (dlog w_k / dz_k) (dz_k / dphi), sticking the landing (Roeder, Wu and Duvenaud 2017,
    arXiv:1703.09194). For K = 1 it is ``dreg``, and unbiased; for K > 1 it is biased, as Tucker et al. show.

    Where the weights are all equal, as under an exact posterior, both path gradients are 0 without any variance.

    Where no gradient is asked for, only the value is computed.
    """
    assert draw.log_w is not None
    if gradient == "standard" or not torch.is_grad_enabled():
        return importance_weighted(draw.log_w, dim)
    (latent,) = draw.rescore(path_only=True).latents
    assert latent.log_ratio is not None
    log_w = draw.log_p_x + latent.log_ratio
    bound = importance_weighted(log_w, dim)
    if gradient == "stl":
        return bound
    # Of the latents' gradient v dlog w / dz, the fraction 1 - v is taken off again by a term whose value is 0. A hook on
    # the latents would spare this pass through the decoder, but would also scale whatever else depends on them.
    (slope,) = torch.autograd.grad(bound.sum(), latent.value, retain_graph=True)
    excess = 1.0 - log_w.detach().softmax(dim)
    moved = (latent.value * slope).flatten(log_w.dim()).sum(-1) * excess
    return bound - (moved - moved.detach()).sum(dim)
