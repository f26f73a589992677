"""Finite scalar quantization: each number of a vector is rounded to one of a few levels; nothing is learned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.errors import InputError
from vaekit.quantizers.table import QUANTIZERS, Quantized, Quantizer

MOST_CODES = 65536


class ScalarLevels(Quantizer):
    """Numbers bound by tanh and rounded, with the gradient of what was rounded; there is no penalty.

    Args:
        levels: of each number of a vector.
    """

    def __init__(self, levels: tuple[int, ...]):
        super().__init__()
        from vector_quantize_pytorch import FSQ

        # two levels have no middle to round to: the library then needs the rounding that keeps signs
        self.scalars = FSQ(list(levels), return_indices=False, preserve_symmetry=min(levels) == 2)
        self.code_dim, self.num_codes = len(levels), math.prod(levels)

    def forward(self, vectors: Tensor) -> Quantized:
        rounded = self.scalars.quantize(vectors)
        return Quantized(self.scalars.codes_to_indices(rounded).long()[..., None], rounded)

    def lookup(self, indices: Tensor) -> Tensor:
        return self.scalars._indices_to_codes(indices[..., 0]).to(torch.float32)


@QUANTIZERS.register("fsq")
@dataclass(frozen=True)
class Fsq:
    """Finite scalar quantization: each number rounded to a few levels (Mentzer et al. 2024, arXiv:2309.15505)."""

    scalar_levels: tuple[int, ...] = leaf(
        (8, 6, 5), "levels of each number in a vector; codes are all combinations", ge=2, le=256
    )

    @property
    def code_dim(self) -> int:
        return len(self.scalar_levels)

    @property
    def num_codes(self) -> int:
        return math.prod(self.scalar_levels)

    @property
    def num_books(self) -> int:
        return 1

    def build(self) -> Quantizer:
        """The module.

        Raises:
            InputError: for more combinations than 65,536.
        """
        if self.num_codes > MOST_CODES:
            given = ",".join(map(str, self.scalar_levels))
            raise InputError(
                f"--scalar-levels {given}: make {self.num_codes:,} codes, more than {MOST_CODES:,}; lower or leave out some"
            )
        return ScalarLevels(self.scalar_levels)
