"""Lookup-free quantization: the signs of a vector's numbers are its code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.networks.normalization import mean_over_processes
from vaekit.quantizers.table import (
    COMMITMENT,
    COMMITMENT_HELP,
    QUANTIZERS,
    Quantized,
    Quantizer,
    commitment,
    straight_through,
)

ENTROPY = "entropy"


class Signs(Quantizer):
    """A code for each combination of signs: sign(z), with the gradient of z.

    In training two penalties stand beside the distortion. ``commitment`` is as of codebooks. ``entropy`` is, summed over
    positions, weight * (E H(code | vector) - H(code)), where a vector chooses codes softly, p(c) ~ exp(2 z.c / temperature):
    each vector should be sure of its code, and all codes be in use. H(code) is of the mean over the batch, of all processes
    together: the one term in which images of a batch interact. In evaluation, where a batch means nothing, it is left out.

    Args:
        bits: numbers in a vector; there are 2^bits codes.
        commitment_weight: of the commitment penalty.
        entropy_weight: of the entropy penalty.
        temperature: of the soft choice.
    """

    def __init__(self, bits: int, commitment_weight: float, entropy_weight: float, temperature: float):
        super().__init__()
        from vector_quantize_pytorch import LFQ

        self.signs = LFQ(dim=bits)
        self.code_dim, self.num_codes = bits, 2**bits
        self.commitment_weight, self.entropy_weight, self.temperature = commitment_weight, entropy_weight, temperature

    def forward(self, vectors: Tensor) -> Quantized:
        positive = vectors.detach() > 0
        codes = (positive.long() * self.signs.mask).sum(-1)[..., None]
        found = self.signs.bits_to_codes(positive.to(vectors.dtype))
        penalties = {COMMITMENT: self.commitment_weight * commitment(vectors, found)}
        if self.training:
            penalties[ENTROPY] = self.entropy_weight * self.entropy(vectors)
        return Quantized(codes, straight_through(found, vectors), None, penalties)

    def entropy(self, vectors: Tensor) -> Tensor:
        """H(code | vector) of each vector (batch, positions, bits) less H(code), summed over positions, nats, (batch,).

        The library's own is not used: it divides by the number of processes and does not add up over them (1.32.0).
        """
        log_p = (2.0 / self.temperature * (vectors @ self.signs.codebook.T)).log_softmax(-1)
        p = log_p.exp()
        mean = mean_over_processes(p.mean((0, 1))).clamp(min=1e-30)
        return -(p * log_p).sum((1, 2)) + vectors.shape[1] * (mean * mean.log()).sum()

    def lookup(self, indices: Tensor) -> Tensor:
        return self.signs.bits_to_codes((indices & self.signs.mask != 0).to(torch.float32))


@QUANTIZERS.register("lfq")
@dataclass(frozen=True)
class Lfq:
    """Lookup-free quantization: the signs of a vector's numbers (Yu et al. 2024, arXiv:2310.05737)."""

    bits: int = leaf(8, "numbers in a vector; there are 2 to this power codes", ge=1, le=14)
    commitment: float = leaf(0.05, COMMITMENT_HELP, ge=0, le=1e6)
    entropy_weight: float = leaf(1.0, "weight of the entropy penalty, in nats summed over positions", ge=0, le=1e6)
    entropy_temperature: float = leaf(
        1.0, "temperature of the soft choice of codes in the entropy penalty", gt=0, le=1e3
    )

    @property
    def code_dim(self) -> int:
        return self.bits

    @property
    def num_codes(self) -> int:
        return 2**self.bits

    @property
    def num_books(self) -> int:
        return 1

    def build(self) -> Quantizer:
        return Signs(self.bits, self.commitment, self.entropy_weight, self.entropy_temperature)
