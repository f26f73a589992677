"""The table of objectives and their contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.noise import Noise
from vaekit.tables import Table

OBJECTIVES = Table("objective", "vaekit.objectives")
MODEL = "model"
INFERENCE = "inference"


@dataclass
class Context:
    """What an objective may know besides the draw; numbers are device tensors, so that captured graphs see them change.

    Attributes:
        step: int64 without axes, steps taken before this one.
        hyper: float32 scalars by name: the objective's numeric fields, schedules applied.
        num_train: number of training images.
        model: the model that drew.
        noise: all that is random in an objective, such as samples of a prior; for the images of this process's batch.
        players: modules of the objective's own, such as a discriminator, by name.
        gather: joins a tensor (batch, ...) of all processes along its first axis, with gradients.
    """

    step: Tensor
    hyper: Mapping[str, Tensor]
    num_train: int
    model: nn.Module
    noise: Noise
    players: Mapping[str, nn.Module] = field(default_factory=dict)
    gather: Callable[[Tensor], Tensor] = lambda tensor: tensor


class Losses(NamedTuple):
    """Losses without axes by player, and named terms without axes for the log.

    ``model`` is the model itself. Where ``inference`` stands beside it, that is the loss of the parameters of q(z | x), and
    ``model`` that of all others.
    """

    players: dict[str, Tensor]
    terms: dict[str, Tensor]


class Objective(Protocol):
    """An entry: a frozen dataclass, called with a draw.

    Attributes:
        sample_shape: shape of the samples it wants drawn for each image.
        needs: what the model must provide (see `vaekit.models.table.Model`).
        uses: what it takes of the model where that is provided, and does without elsewhere.
        scope: ``image`` when the loss is a mean over images; ``batch`` when images of a batch interact.
        fits_prior: whether its loss moves a prior that has parameters, where it reads one.
        selects: the bound by which the best weights are chosen: ``elbo_nats``, or ``iw_elbo_nats`` with its samples; None
            where no bound says what was minimized, so that the last weights are kept.
        reads_images: whether it compares images itself, by means that are made for their full size.
    """

    uses: frozenset[str]
    fits_prior: bool
    selects: Literal["elbo_nats", "iw_elbo_nats"] | None
    reads_images: bool

    @property
    def scope(self) -> Literal["image", "batch"]: ...

    @property
    def needs(self) -> frozenset[str]: ...

    @property
    def sample_shape(self) -> tuple[int, ...]: ...

    def players(self, num_latents: int, shape: tuple[int, int, int]) -> dict[str, nn.Module]:
        """Modules of its own, trained beside the model, for latents and images (channels, height, width) of such sizes."""
        ...

    def rates(self) -> dict[str, float]:
        """The learning rate of a player over that of the model, by name; 1 where nothing is said."""
        ...

    def factors(self, epochs: float) -> dict[str, float]:
        """What its numbers are multiplied by after so many epochs, by name; 1 where nothing is said."""
        ...

    def after_step(self, model: nn.Module, hyper: Mapping[str, Tensor]) -> None:
        """Constraints that the model's weights are brought back to, in place, after each step; `hyper` as in `Context`."""
        ...

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses: ...


class SinglePlayer:
    """Defaults of an objective over images that trains the model alone on one sample."""

    scope: Literal["image", "batch"] = "image"
    uses: frozenset[str] = frozenset()
    fits_prior: bool = True
    selects: Literal["elbo_nats", "iw_elbo_nats"] | None = "elbo_nats"
    reads_images: bool = False

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"rate"})

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return ()

    def players(self, num_latents: int, shape: tuple[int, int, int]) -> dict[str, nn.Module]:
        return {}

    def rates(self) -> dict[str, float]:
        return {}

    def factors(self, epochs: float) -> dict[str, float]:
        return {}

    def after_step(self, model: nn.Module, hyper: Mapping[str, Tensor]) -> None:
        return


def trains_prior(objective: Objective, provides: frozenset[str]) -> bool:
    """Whether a prior with parameters would learn: it enters a bound, or is drawn from to compare codes with."""
    enters = (objective.needs | objective.uses & provides) - {"deterministic", "inference"}
    return objective.fits_prior and bool(enters)


def detached(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Means of the terms, cut from the graph."""
    return {name: torch.mean(value.detach().float()) for name, value in terms.items()}
