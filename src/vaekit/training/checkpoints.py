"""The checkpoint: one file that is replaced by a rename and holds all that training continues from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.errors import InputError
from vaekit.storage import read_tensors, write_tensors
from vaekit.training.optimization import Optimizers


@dataclass
class Progress:
    """Where a training stands. Randomness is no part of it: that follows from the seed and the step.

    Attributes:
        step: steps taken.
        epoch: epochs finished and recorded.
        seconds: time spent in training steps.
        best_elbo: highest validation ELBO so far, nats.
        best_epoch: its epoch.
        finished: whether the last step, or early stopping, was reached.
        summed: steps taken in the present epoch.
        sums: float64 sums over those steps, by name.
        tallies: float64 counts over those steps, by name; see `vaekit.models.draw.Draw`.
        records: the lines of `metrics.jsonl`.
    """

    step: int = 0
    epoch: int = 0
    seconds: float = 0.0
    best_elbo: float | None = None
    best_epoch: int | None = None
    finished: bool = False
    summed: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    tallies: dict[str, Tensor] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    path: Path,
    progress: Progress,
    players: Mapping[str, nn.Module],
    optimizers: Optimizers,
    best: Mapping[str, Tensor] | None,
    averages: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights, optimizer state, counters, records, the best weights so far and averages of weights."""
    tensors = {f"optimizer/{key}": value for key, value in optimizers.state().items()}
    for name, module in players.items():
        tensors |= {f"player/{name}/{key}": value for key, value in module.state_dict().items()}
    tensors |= {f"best/{key}": value for key, value in (best or {}).items()}
    tensors |= {f"average/{key}": value for key, value in (averages or {}).items()}
    tensors |= {f"sum/{key}": value for key, value in progress.sums.items()}
    tensors |= {f"tally/{key}": value for key, value in progress.tallies.items()}
    held = {"sums", "tallies"}
    plain = {item.name: getattr(progress, item.name) for item in fields(progress) if item.name not in held}
    write_tensors(path, tensors, {"progress": plain})


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def restore(tensors: Mapping[str, Tensor], players: Mapping[str, nn.Module], optimizers: Optimizers) -> None:
    """Copy a checkpoint's weights and moments into players and optimizers.

    They are copied into tensors that exist, so that they keep the strides they are trained with.
    """
    for name, module in players.items():
        module.load_state_dict(_below(tensors, f"player/{name}/"))
    optimizers.load(_below(tensors, "optimizer/"))


def load_checkpoint(
    path: Path,
    players: Mapping[str, nn.Module],
    optimizers: Optimizers,
    device: torch.device,
    averages: Mapping[str, Tensor] | None = None,
) -> tuple[Progress, dict[str, Tensor] | None]:
    """Restore players, optimizers and averages in place (see `restore`); returns progress and the best weights so far."""
    tensors, about = read_tensors(path, "checkpoint")
    try:
        restore(tensors, players, optimizers)
        for name, average in (averages or {}).items():
            average.copy_(tensors[f"average/{name}"])
        sums, tallies = (
            {name: value.to(device) for name, value in _below(tensors, prefix).items()} for prefix in ("sum/", "tally/")
        )
        return Progress(**about["progress"], sums=sums, tallies=tallies), _below(tensors, "best/") or None
    except (KeyError, TypeError, RuntimeError):
        raise InputError(
            f"{path}: the checkpoint does not fit the run's config.json; restore both or train anew"
        ) from None
