"""A learned mixture of Gaussians as the prior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.latents.table import PRIORS, Posterior, Shape, Space
from vaekit.probability.mixtures import GaussianMixture


class MixturePrior(nn.Module):
    """log p(z) = log sum_k w_k N(z; loc_k, scale_k^2), with learned weights, means and scales.

    It starts with the mean and variance of N(0, I) in every latent, half of the variance between the components (exactly
    so for many of them), so that no two coincide. A single component starts as N(0, I).
    """

    def __init__(self, num_latents: int, num_components: int):
        super().__init__()
        between = 0.5 if num_components > 1 else 0.0
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(math.sqrt(between) * torch.randn(num_components, num_latents))
        self.log_scale = nn.Parameter(torch.full((num_components, num_latents), 0.5 * math.log(1.0 - between)))

    def forward(self, condition: Tensor | None) -> GaussianMixture:
        return GaussianMixture(self.logits.log_softmax(0), self.loc, self.log_scale)


@PRIORS.register("mixture")
@dataclass(frozen=True)
class MixtureOfGaussians:
    """Learned mixture of diagonal Gaussians, as priors of Dilokthanakul et al. 2016 (arXiv:1611.02648) and VaDE have it.

    Weights, means and scales are trained with the model by its own bound; the rate has no closed form and is that of one
    sample (VaDE: Jiang et al. 2017, arXiv:1611.05148; as a baseline: Tomczak and Welling 2018, arXiv:1705.07120). A
    conditional model has the same mixture for every condition.
    """

    components: int = leaf(10, "components of the mixture", ge=1, le=65536)
    spaces: ClassVar[frozenset[Space]] = frozenset({"euclidean"})

    def build(self, num_latents: int, num_condition: int, shape: Shape, posterior: Posterior) -> nn.Module:
        return MixturePrior(num_latents, self.components)
