"""The tables of posteriors q(z | x) and priors p(z), and the contracts of their entries."""

from __future__ import annotations

import typing
from typing import Literal, Protocol

from torch import nn

from vaekit.tables import Table

POSTERIORS = Table("posterior", "vaekit.latents")
PRIORS = Table("prior", "vaekit.latents")

Space = Literal["euclidean", "sphere", "ball"]
SPACES: frozenset[Space] = frozenset(typing.get_args(Space))
Shape = tuple[int, int, int]


class Posterior(Protocol):
    """An entry: builds a module from features (batch, num_features) to a distribution.

    The module says of itself, where it is so: `diagonal` (a diagonal Gaussian), `deterministic` (a `Point`, no density),
    `rescored = False` (the density is known only where it drew, so no gradient can leave its parameters out), `geometry`
    (a `Geometry`, of a space that is not Euclidean).

    Attributes:
        space: where the latents live; a prior must live there too.
    """

    space: Space

    def build(self, num_features: int, num_latents: int) -> nn.Module: ...

    def standard(self, num_latents: int) -> nn.Module:
        """The standard prior of its space, such as N(0, I): a module as `Prior.build` makes."""
        ...


class Prior(Protocol):
    """An entry: builds a module from the condition's code (batch, num_condition), or None, to a distribution.

    A module with `reads_encoder = True` is called with a second argument, the function from images (n, channels, height,
    width) in [0, 1] and their codes (n, num_condition), or None, to their posterior. One with `diagonal = True` returns a
    Gaussian whose latents are independent. `law` is "normal" where it is N(0, I) in the chart of its space (`Geometry`),
    "uniform" where all of the space is alike.

    Attributes:
        spaces: where it can live.
    """

    spaces: frozenset[Space]

    def build(self, num_latents: int, num_condition: int, shape: Shape, posterior: Posterior) -> nn.Module:
        """The module; `shape` is that of the images that the encoder reads, `posterior` the entry it goes with.

        Raises:
            InputError: when it cannot do with that, such as without a condition.
        """
        ...
