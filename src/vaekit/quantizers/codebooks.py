"""Learned codebooks: moving averages of the vectors that chose each code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.noise import Noise
from vaekit.quantizers.table import (
    COMMITMENT,
    COMMITMENT_HELP,
    QUANTIZERS,
    Quantized,
    Quantizer,
    commitment,
    straight_through,
)

DEAD = 0.05  # of an equal share of the vectors: a code that is chosen less often has died


class Codebooks(Quantizer):
    """The nearest code of a book; of several books, each quantizes what the ones before it left over.

    A code moves to the mean of the vectors that chose it, as moving averages have it (van den Oord et al. 2017, appendix
    A.1): N <- decay N + (1 - decay) n, m <- decay m + (1 - decay) sum of vectors, e = m / N, with N smoothed so that none
    is 0. Books begin as vectors of the first batch (the second book of the second, and so on). With `reset_dead_codes`, a
    code whose N falls below 0.05 of an equal share begins anew as a vector of the batch, with N of an equal share. Which
    vector follows from the number of steps taken, so that resumed runs, and any number of processes, choose the same.

    Args:
        code_dim: numbers in a vector.
        num_codes: codes of each book.
        num_books: books, one after the other.
        decay: of the moving averages.
        commitment_weight: of the commitment penalty, which is summed over books.
        reset_dead_codes: see above.
    """

    steps: Tensor

    def __init__(
        self,
        code_dim: int,
        num_codes: int,
        num_books: int = 1,
        decay: float = 0.9,
        commitment_weight: float = 1.0,
        reset_dead_codes: bool = True,
    ):
        super().__init__()
        # imported late: it takes a second, and most models need it not
        from vector_quantize_pytorch import VectorQuantize

        self.code_dim, self.num_codes, self.num_books = code_dim, num_codes, num_books
        self.commitment_weight, self.reset_dead_codes = commitment_weight, reset_dead_codes
        # what it would do beyond the averages, it would do in forward and with torch's own generator
        options = {"threshold_ema_dead_code": 0, "sync_codebook": False, "rotation_trick": False}
        made = (VectorQuantize(code_dim, num_codes, decay=decay, **options) for _ in range(num_books))
        self.books: Any = nn.ModuleList(made)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, vectors: Tensor) -> Quantized:
        rest, whole = vectors, torch.zeros_like(vectors)
        indices, inputs, distance = [], [], vectors.new_zeros(vectors.shape[0])
        for book in self.books:
            chosen = nearest(rest.detach(), book.codebook)
            found = book.get_codes_from_indices(chosen)
            indices.append(chosen)
            inputs.append(rest.detach())
            distance = distance + commitment(rest, found)
            rest, whole = rest - found, whole + found
        return Quantized(
            torch.stack(indices, -1),
            straight_through(whole, vectors),
            torch.stack(inputs, -2),
            {COMMITMENT: self.commitment_weight * distance},
        )

    def lookup(self, indices: Tensor) -> Tensor:
        whole = torch.zeros(*indices.shape[:-1], self.code_dim, device=indices.device)
        for number, book in enumerate(self.books):  # in the order of forward: the same bits
            whole = whole + book.get_codes_from_indices(indices[..., number])
        return whole

    @property
    def codebooks(self) -> Tensor:
        return torch.stack([book.codebook for book in self.books])

    @torch.no_grad()
    def after_step(self, quantized: Quantized, gather: Callable[[Tensor], Tensor]) -> None:
        assert quantized.inputs is not None
        inputs, indices = gather(quantized.inputs).flatten(0, 1), gather(quantized.indices).flatten(0, 1)
        for number, book in enumerate(self.books):
            book.update_indices(inputs[:, number][None], indices[:, number][None])
            self._begin_anew(book, number, inputs[:, number], indices[:, number])
        self.steps.add_(1)

    def _begin_anew(self, book: Any, number: int, vectors: Tensor, chosen: Tensor) -> None:
        """Make codes that died vectors of the batch (n, code_dim), for which the codes (n,) were `chosen`.

        They are drawn in proportion to their squared distance to their codes (Arthur and Vassilvitskii 2007), since most of
        an image may be background; in equal steps, so that none is drawn twice that has not a large part of the whole.
        """
        averages, share = book._codebook, len(vectors) / self.num_codes
        errors = (vectors - averages.embed[0][chosen]).square().sum(-1).double().cumsum(0)
        dead = averages.cluster_size[0] < DEAD * share
        dead = (dead & self.reset_dead_codes) | (self.steps == number)
        codes = torch.arange(self.num_codes, device=vectors.device)
        place = (codes + Noise(self.steps, codes).uniform(f"dead codes {number}", ()).double()) / self.num_codes
        fresh = vectors[torch.searchsorted(errors, place * errors[-1]).clamp(max=len(vectors) - 1)]
        averages.embed.copy_(torch.where(dead[:, None], fresh, averages.embed[0])[None])
        averages.embed_avg.copy_(torch.where(dead[:, None], fresh * share, averages.embed_avg[0])[None])
        averages.cluster_size.copy_(torch.where(dead, share, averages.cluster_size[0])[None])


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """The code of least Euclidean distance, the first of equals: int64 (...), of vectors (..., d) and a book (codes, d)."""
    distances = codebook.square().sum(-1) - 2.0 * (vectors @ codebook.T)  # less the vector's own square
    return distances.argmin(-1)


@dataclass(frozen=True)
class _Learned:
    code_dim: int = leaf(16, "numbers in a code's vector", ge=1, le=4096)
    commitment: float = leaf(1.0, COMMITMENT_HELP, ge=0, le=1e6)
    codebook_decay: float = leaf(0.9, "decay of the moving averages that are the codes", gt=0, lt=1)
    reset_dead_codes: bool = leaf(True, "let codes that are hardly chosen begin anew as vectors of the batch")


@QUANTIZERS.register("ema")
@dataclass(frozen=True)
class Ema(_Learned):
    """The nearest of learned codes, moving averages of what chose them (van den Oord et al. 2017, arXiv:1711.00937)."""

    num_codes: int = leaf(256, "codes in the book", ge=2, le=65536)

    @property
    def num_books(self) -> int:
        return 1

    def build(self) -> Quantizer:
        return _built(self)


@QUANTIZERS.register("residual")
@dataclass(frozen=True)
class ResidualEma(_Learned):
    """Several books of learned codes, each for what those before left over (Zeghidour et al. 2021, arXiv:2107.03312)."""

    num_codes: int = leaf(64, "codes in each book", ge=2, le=65536)
    num_codebooks: int = leaf(2, "books, one after the other", ge=1, le=64)

    @property
    def num_books(self) -> int:
        return self.num_codebooks

    def build(self) -> Quantizer:
        return _built(self)


def _built(entry: Ema | ResidualEma) -> Quantizer:
    books = (entry.code_dim, entry.num_codes, entry.num_books)
    return Codebooks(*books, entry.codebook_decay, entry.commitment, entry.reset_dead_codes)
