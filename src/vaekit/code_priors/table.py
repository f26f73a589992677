"""The table of priors over codes, and the contract of an entry and of the module it builds."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor, nn

from vaekit.tables import Table

CODE_PRIORS = Table("code prior", "vaekit.code_priors")


class Grid(NamedTuple):
    """The codes of an image: `books` at each of `positions`, row by row from the top, each one of `num_codes`."""

    positions: int
    books: int
    num_codes: int


class CodePrior(nn.Module):
    """Base of what entries build: p(codes | condition) over int64 grids (n, positions, books).

    `code` is the vector (n, k) that stands for each condition; None for a model without one.
    """

    def log_prob(self, indices: Tensor, code: Tensor | None) -> Tensor:
        """Nats, (n,), summed over positions and books."""
        raise NotImplementedError

    def sample(
        self,
        uniform: Tensor,
        code: Tensor | None,
        temperature: float = 1.0,
        free: Tensor | None = None,
        guidance: float = 1.0,
    ) -> Tensor:
        """Codes (n, positions, books).

        Args:
            uniform: (n, positions, books) numbers in [0, 1), all that is random.
            code: see above.
            temperature: divides the logits; at 0 the most probable code is taken each time.
            free: the vectors of unknown conditions (n, k), where `guidance` is not 1.
            guidance: logits become l_free + guidance * (l_given - l_free).
        """
        raise NotImplementedError


class CodePriorConfig(Protocol):
    """An entry; one with `reads_condition = False` makes nothing of conditions."""

    def build(self, grid: Grid, num_condition: int) -> CodePrior: ...
