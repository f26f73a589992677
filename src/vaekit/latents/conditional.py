"""A Gaussian prior whose mean and scale follow the condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaekit.latents.table import PRIORS, Posterior, Shape, Space
from vaekit.probability.distributions import DiagonalGaussian


class ConditionalGaussianPrior(nn.Module):
    """p(z | code) = N(loc(code), scale(code)^2): a linear map of the code, or without a code learned constants.

    All weights start at zero, so that it starts as N(0, I).
    """

    diagonal = True

    def __init__(self, num_latents: int, num_condition: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2 * num_latents))
        self.weight = nn.Parameter(torch.zeros(num_condition, 2 * num_latents)) if num_condition else None

    def forward(self, code: Tensor | None) -> DiagonalGaussian:
        found = self.bias if code is None or self.weight is None else self.bias + code.to(self.bias.dtype) @ self.weight
        loc, log_variance = found.chunk(2, -1)
        return DiagonalGaussian(loc, 0.5 * log_variance)


@PRIORS.register("conditional")
@dataclass(frozen=True)
class ConditionalGaussian:
    """Gaussian with a learned mean and scale for each condition, or one pair where the model reads none.

    The conditional prior of Sohn, Lee and Yan 2015 ("Learning structured output representation using deep conditional
    generative models"), with a linear map; the rate is in closed form.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"euclidean"})

    def build(self, num_latents: int, num_condition: int, shape: Shape, posterior: Posterior) -> nn.Module:
        return ConditionalGaussianPrior(num_latents, num_condition)
