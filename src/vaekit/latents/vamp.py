"""The variational mixture of posteriors prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.errors import InputError
from vaekit.latents.table import POSTERIORS, PRIORS, SPACES, Posterior, Shape, Space
from vaekit.noise import seeded
from vaekit.probability.distributions import DiagonalGaussian, Distribution
from vaekit.probability.mixtures import GaussianMixture, RowMixture

Encode = Callable[[Tensor, Tensor | None], Distribution]


class VampPrior(nn.Module):
    """p(z) = 1/K sum_k q(z | u_k) over K learned pseudo-inputs u_k (Tomczak and Welling 2018, arXiv:1705.07120, eq. 9).

    Pseudo-inputs are the sigmoid of learned logits, so that they lie in [0, 1] and a gradient reaches them everywhere; the
    published hardtanh is flat outside, where a pseudo-input would stay for ever. A conditional model learns a code beside
    each: the prior is then the same for every condition.
    """

    reads_encoder = True

    def __init__(self, num_pseudo_inputs: int, shape: Shape, num_condition: int):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(num_pseudo_inputs, *shape))
        self.codes = nn.Parameter(torch.randn(num_pseudo_inputs, num_condition)) if num_condition else None

    def pseudo_inputs(self) -> Tensor:
        """(K, channels, height, width) in [0, 1]."""
        return self.logits.sigmoid()

    def forward(self, code: Tensor | None, encode: Encode) -> Distribution:
        rows, count = encode(self.pseudo_inputs(), self.codes), len(self.logits)
        if isinstance(rows, DiagonalGaussian):
            weights = torch.full((count,), -math.log(count), device=rows.loc.device)
            return GaussianMixture(weights, rows.loc, rows.log_scale)

        def at(chosen: Tensor) -> Distribution:
            return encode(self.pseudo_inputs()[chosen], None if self.codes is None else self.codes[chosen])

        return RowMixture(rows, count, at)


@PRIORS.register("vamp")
@dataclass(frozen=True)
class Vamp:
    """VampPrior: the posteriors at learned pseudo-inputs, equally weighted (Tomczak and Welling 2018, arXiv:1705.07120).

    Each step encodes all pseudo-inputs, beside the images of the batch. The rate is that of one sample.
    """

    pseudo_inputs: int = leaf(500, "pseudo-inputs that the prior is made of", ge=1, le=65536)
    spaces: ClassVar[frozenset[Space]] = SPACES

    def build(self, num_latents: int, num_condition: int, shape: Shape, posterior: Posterior) -> nn.Module:
        with seeded(0, "vamp"):  # only to look at; the generator stays as it was
            head = posterior.build(1, num_latents)
        if getattr(head, "deterministic", False) or not getattr(head, "rescored", True):
            raise InputError(
                f"--prior vamp: mixes posteriors, and posterior {POSTERIORS.name_of(posterior)!r} has no density at "
                "other values than its own; choose --posterior gaussian, or another prior"
            )
        return VampPrior(self.pseudo_inputs, shape, num_condition)
