"""What can be trained: refusals before anything is written, and what a training needs beside its model."""

from __future__ import annotations

import math

from torch import nn

from vaekit.config import flags
from vaekit.data.images import Splits
from vaekit.errors import InputError
from vaekit.models.table import PROVIDES, Model
from vaekit.noise import seeded
from vaekit.objectives.table import OBJECTIVES, trains_prior
from vaekit.settings import Config, Training
from vaekit.training.growing import check_growth
from vaekit.training.processes import Processes

_UNLEARNED = {"prior": "standard", "code_prior": "uniform"}  # of each table of priors the entry that learns nothing


def steps_of(training: Training, num_images: int) -> int:
    """Steps of a whole training on so many images."""
    return max(1, math.floor(training.epochs * num_images / training.batch_size))


def check_trainable(config: Config, model: Model, splits: Splits, processes: Processes) -> None:
    """Refuse what cannot be trained, before anything is written.

    Raises:
        InputError: for a batch that the data or the processes cannot fill, an objective that needs of the model what
            it does not provide, or patience with nothing to be patient about.
    """
    size, num_images = config.training.batch_size, len(splits.train)
    if size > num_images:
        raise InputError(f"--batch-size: {size} is more than the {num_images} training images; lower it")
    if config.training.patience is not None and splits.val is None:
        raise InputError(
            f"--patience {config.training.patience}: no images are held out to judge by; add --validation 5000"
        )
    if config.training.patience is not None and (config.objective.selects is None or "rate" not in model.provides):
        raise InputError(
            f"--patience {config.training.patience}: there is no bound to judge by with this model and objective "
            f"{OBJECTIVES.name_of(config.objective)!r}; leave it out and set --epochs"
        )
    if size % processes.count:
        raise InputError(f"--batch-size: {size} cannot be shared by {processes.count} processes; use a multiple")
    learned = any(weight.requires_grad for weight in model.prior_parameters())
    if learned and not trains_prior(config.objective, model.provides):
        chosen = next(flag for flag in flags(config.model) if flag.name in _UNLEARNED)
        raise InputError(
            f"{chosen.option} {chosen.value}: nothing trains it under objective {OBJECTIVES.name_of(config.objective)!r}; "
            f"choose {chosen.option} {_UNLEARNED[chosen.name]}"
        )
    check_growth(config, model, splits.info, steps_of(config.training, num_images))
    missing = sorted(config.objective.needs - model.provides)
    if missing:
        name = OBJECTIVES.name_of(config.objective)
        words = "; and ".join(PROVIDES.get(need, need) for need in missing)
        raise InputError(
            f"--objective {name}: needs {words}, which this model does not have; choose another of the two"
        )


def seeded_players(config: Config, splits: Splits) -> dict[str, nn.Module]:
    """The objective's own modules, initialized from the run's seed without touching torch's global generator.

    Raises:
        InputError: for images that they are not made for.
    """
    with seeded(config.training.seed, "players"):
        return config.objective.players(config.model.num_latents(splits.info), splits.info.shape)
