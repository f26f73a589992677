"""The table of quantizers, and the contract of an entry and of the module it builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from vaekit.tables import Table

QUANTIZERS = Table("quantizer", "vaekit.quantizers")
COMMITMENT = "commitment"
COMMITMENT_HELP = "weight of the squared distance of encoder's outputs to their codes, beside the distortion in nats"


@dataclass(frozen=True)
class Quantized:
    """What became of the vectors of a batch.

    Attributes:
        indices: int64 (batch, positions, books), which code of each book.
        vectors: (batch, positions, code_dim), what the codes stand for; gradients pass to the encoder as the quantizer has
            it, values are those of `Quantizer.lookup` of the indices.
        inputs: (batch, positions, books, code_dim), what each book was to stand for, without a graph; None where nothing
            is learned from them after the step.
        penalties: further terms of the loss by name, (batch,), weighted.
    """

    indices: Tensor
    vectors: Tensor
    inputs: Tensor | None = None
    penalties: Mapping[str, Tensor] = field(default_factory=dict)


class Quantizer(nn.Module):
    """Base of what entries build: vectors (batch, positions, code_dim), float32, to `Quantized`.

    Nothing changes in `forward`, and nothing in it or in `after_step` waits for the device.

    Attributes:
        code_dim: numbers in a vector.
        num_codes: codes of each book.
        num_books: books, each with a code for every vector.
    """

    code_dim: int
    num_codes: int
    num_books: int = 1

    def lookup(self, indices: Tensor) -> Tensor:
        """Vectors (..., code_dim) of codes (..., books)."""
        raise NotImplementedError

    @property
    def codebooks(self) -> Tensor:
        """All vectors of all books, (books, codes, code_dim); the vector of several codes is the sum of theirs."""
        here = next((tensor.device for tensor in (*self.buffers(), *self.parameters())), None)
        codes = torch.arange(self.num_codes, device=here)
        return self.lookup(codes[:, None])[None]

    def after_step(self, quantized: Quantized, gather: Callable[[Tensor], Tensor]) -> None:
        """Changes of state after a training step that made `quantized`; `gather` joins the images of all processes."""


class QuantizerConfig(Protocol):
    """An entry.

    Attributes:
        code_dim: numbers in a vector of the grid.
        num_codes: codes of each book.
        num_books: books.
    """

    @property
    def code_dim(self) -> int: ...

    @property
    def num_codes(self) -> int: ...

    @property
    def num_books(self) -> int: ...

    def build(self) -> Quantizer: ...


def straight_through(quantized: Tensor, vectors: Tensor) -> Tensor:
    """`quantized`, to the last bit, with the gradient of `vectors` (Bengio, Leonard and Courville 2013, arXiv:1308.3432)."""
    return quantized.detach() + (vectors - vectors.detach())


def commitment(vectors: Tensor, quantized: Tensor) -> Tensor:
    """||z_e(x) - sg(e)||^2 summed over positions and dimensions, (batch,).

    The third term of van den Oord, Vinyals and Kavukcuoglu 2017 (arXiv:1711.00937), equation 3, less its weight.

    Args:
        vectors: z_e(x), (batch, positions, code_dim).
        quantized: e, the same shape.
    """
    return (vectors - quantized.detach()).square().sum((1, 2))
