"""How the weight `beta` of an objective changes over training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vaekit.config import leaf
from vaekit.tables import Table

BETA_SCHEDULES = Table("beta schedule", "vaekit.objectives")


class BetaSchedule(Protocol):
    """An entry; one that never settles at 1 says so by an attribute ``repeats`` that is true."""

    def __call__(self, epochs: float) -> float:
        """The factor of beta after so many epochs."""
        ...


@BETA_SCHEDULES.register("constant")
@dataclass(frozen=True)
class Constant:
    """beta from the first step to the last."""

    def __call__(self, epochs: float) -> float:
        return 1.0


@BETA_SCHEDULES.register("linear")
@dataclass(frozen=True)
class Linear:
    """From 0 to beta over the first epochs (Bowman et al. 2016)."""

    beta_warmup_epochs: float = leaf(5.0, "epochs over which beta grows from 0", gt=0, le=1e6)

    def __call__(self, epochs: float) -> float:
        return min(1.0, epochs / self.beta_warmup_epochs)


@BETA_SCHEDULES.register("cyclical")
@dataclass(frozen=True)
class Cyclical:
    """Again and again from 0 to beta, holding there for the second half of each cycle (Fu et al. 2019)."""

    beta_cycle_epochs: float = leaf(5.0, "epochs of one cycle", gt=0, le=1e6)
    repeats = True

    def __call__(self, epochs: float) -> float:
        return min(1.0, 2.0 * (epochs % self.beta_cycle_epochs) / self.beta_cycle_epochs)
