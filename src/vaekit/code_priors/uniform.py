"""The uniform prior over codes: all are alike, and nothing is learned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.code_priors.table import CODE_PRIORS, CodePrior, Grid


class UniformCodes(CodePrior):
    """-positions * books * log num_codes nats for every grid."""

    def __init__(self, grid: Grid):
        super().__init__()
        self.grid = grid

    def log_prob(self, indices: Tensor, code: Tensor | None) -> Tensor:
        nats = self.grid.positions * self.grid.books * math.log(self.grid.num_codes)
        return indices.new_full(indices.shape[:1], -nats, dtype=torch.float32)

    def sample(
        self,
        uniform: Tensor,
        code: Tensor | None,
        temperature: float = 1.0,
        free: Tensor | None = None,
        guidance: float = 1.0,
    ) -> Tensor:
        return (uniform.double() * self.grid.num_codes).long()


@CODE_PRIORS.register("uniform")
@dataclass(frozen=True)
class Uniform:
    """Every code is as probable as every other: what codes cost that nothing predicts."""

    reads_condition = False

    def build(self, grid: Grid, num_condition: int) -> CodePrior:
        return UniformCodes(grid)
