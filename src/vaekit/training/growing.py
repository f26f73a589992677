"""Progressive training: small images first, the size doubled stage by stage, each new level faded in.

Karras, Aila, Laine and Lehtinen 2018 (arXiv:1710.10196), section 2, for an autoencoder. A stage's images are the whole ones
(after binarization and corruption, which happen at the full size) averaged over 2x2 pixels as often as needed. Their
distortion is that of fewer pixels, and is logged as it is; in the loss it is multiplied by the number of pixels that the
full size has for each of them, so that rate and distortion are traded as at the end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaekit.config import flags
from vaekit.data.batches import Batch, Picked
from vaekit.data.binarization import Dequantize
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.models.draw import Draw
from vaekit.models.table import Model
from vaekit.models.vae import VAEModel
from vaekit.networks.conv import halved
from vaekit.networks.layers import on_device
from vaekit.networks.progressive import Pyramid, has_levels, pooled
from vaekit.noise import Noise, seeded
from vaekit.objectives.table import OBJECTIVES
from vaekit.probability.likelihoods import ImageDistribution
from vaekit.settings import Config, Training

_LEVELS_OF_GREY = 255.0


class Phase(NamedTuple):
    """Steps that are all of one kind: `steps` of them from step `first` on, of a stage counted from 0."""

    stage: int
    fading: bool
    first: int
    steps: int


def phases(training: Training, total_steps: int) -> list[Phase]:
    """All phases of a training: each stage but the first begins with one in which its level is faded in.

    The last stage has the fraction `last_stage` of all steps, the others share the rest equally; of a stage's steps the
    fraction `fade`, rounded down, fades. The list ends with whole images and whole networks.

    >>> [tuple(phase) for phase in phases(Training(progressive=3, fade=0.5, last_stage=0.5), 100)]
    [(0, False, 0, 25), (1, True, 25, 12), (1, False, 37, 13), (2, True, 50, 25), (2, False, 75, 25)]
    """
    stages = training.progressive or 1
    before = (1.0 - training.last_stage) * total_steps if stages > 1 else 0.0
    edges = [*(round(before * stage / max(stages - 1, 1)) for stage in range(stages)), total_steps]
    found = []
    for stage, (first, end) in enumerate(pairwise(edges)):
        faded = math.floor(training.fade * (end - first)) if stage else 0
        found.append(Phase(stage, True, first, faded))
        found.append(Phase(stage, False, first + faded, end - first - faded))
    return [phase for phase in found if phase.steps or not phase.fading]


def alpha_at(phase: Phase, step: int) -> float:
    """Weight of a new level: it grows by equal amounts from step to step, and is 1 after the fading.

    It is never 0, under which a step would teach the level nothing.

    >>> [alpha_at(Phase(1, True, 10, 3), step) for step in (10, 11, 12)]
    [0.25, 0.5, 0.75]
    """
    return (step - phase.first + 1) / (phase.steps + 1) if phase.fading else 1.0


def check_growth(config: Config, model: Model, info: DataInfo, total_steps: int) -> None:
    """Refuse a progressive training that is none.

    Raises:
        InputError: for a model or a network without levels, more stages than levels or than the image can be halved to, an
            objective that looks at images itself, weights that were trained otherwise, or fewer steps than stages.
    """
    stages = config.training.progressive
    if stages is None:
        return
    option = f"--progressive {stages}:"
    encoder, decoder = getattr(model, "encoder", None), getattr(model, "decoder", None)
    if type(model) is not VAEModel or not has_levels(encoder) or not has_levels(decoder):  # type: ignore[arg-type]
        chosen = " and ".join(
            f"{flag.name} {flag.value!r}" for flag in flags(config) if flag.name in ("model", "network")
        )
        raise InputError(
            f"{option} it is --model vae with --network conv or residual that can grow, and this is {chosen}; choose these, "
            "or leave it out"
        )
    halvings = len(model.encoder.levels.cuts) - 1  # type: ignore[union-attr, arg-type]
    if stages > halvings + 1:
        raise InputError(
            f"{option} a network that halves images {halvings} times has at most {halvings + 1} sizes of them; "
            "lower it, or give the network more levels"
        )
    height, width = info.shape[1:]
    if any(min(size) < 2 for size in (*halved((height, width), stages - 2), *halved(info.seen_shape[1:], stages - 2))):
        raise InputError(f"{option} images of {height}x{width} pixels cannot be halved {stages - 1} times; lower it")
    if config.objective.reads_images:
        raise InputError(
            f"{option} objective {OBJECTIVES.name_of(config.objective)!r} compares images of the full size by means of "
            "its own; choose another objective"
        )
    if config.training.start_from is not None:
        raise InputError(f"{option} begins with the inner levels, and --start-from has trained all; leave one out")
    if any(not phase.steps for phase in phases(config.training, total_steps)):
        raise InputError(f"{option} a training of {total_steps} steps has none for some stage; raise --epochs")


@dataclass(frozen=True)
class Weighted:
    """An image distribution whose log-probability counts `weight` times."""

    plain: ImageDistribution
    weight: float

    @property
    def mean(self) -> Tensor:
        return self.plain.mean

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.weight * self.plain.log_prob(target, mask)

    def sample_from(self, noise: Noise, purpose: str) -> Tensor:
        return self.plain.sample_from(noise, purpose)


class Growth:
    """Where a progressive training stands, and what a step needs of it.

    Args:
        model: to grow; it is always the whole one, but within `applied`.
        config: checked by `check_growth`.
        info: of the data.
        total_steps: of the training.
        device: of the model.

    Attributes:
        pyramid: the adapters, which are trained and stored beside the model.
        phases: of the whole training.
    """

    def __init__(self, model: Model, config: Config, info: DataInfo, total_steps: int, device: torch.device):
        assert isinstance(model, VAEModel)
        assert config.training.progressive is not None
        self.model, self.data, self.stages = model, config.data, config.training.progressive
        self.sizes = halved(info.shape[1:], self.stages - 1)
        self.levels_of_grey = info.whole and not isinstance(config.data.binarization, Dequantize)
        with seeded(config.training.seed, "growth"):
            pyramid = Pyramid(model.encoder, model.decoder, self.stages, info.seen_shape[1:])
        self.pyramid = on_device(pyramid, device)
        self.phases = phases(config.training, total_steps)
        self.phase: Phase | None = None
        self.alpha = 1.0

    def begin(self, step: int) -> bool:
        """Prepare for a step; whether it is of another phase than the step before, or the first of this process."""
        phase = next(phase for phase in reversed(self.phases) if phase.first <= step)
        self.alpha = alpha_at(phase, step)
        self.pyramid.alpha.fill_(self.alpha)
        if phase == self.phase:
            return False
        self.phase = phase
        self.networks = self.pyramid.at(self.model.encoder, self.model.decoder, self.level, phase.fading)
        return True

    def begins_stage(self, step: int) -> bool:
        """Whether images have another size from this step on."""
        return any(step == phase.first and phase.stage > before.stage for before, phase in pairwise(self.phases))

    @property
    def level(self) -> int:
        """How often the images of the present stage are halved."""
        assert self.phase is not None
        return self.stages - 1 - self.phase.stage

    @property
    def growing(self) -> bool:
        """Whether something else than the whole networks on whole images is trained at present."""
        return self.phase != self.phases[-1]

    @property
    def whole_from(self) -> int:
        """The step from which on there is nothing left to grow."""
        return self.phases[-1].first

    def record(self) -> dict[str, Any]:
        """What an epoch's record says: stage, of how many, (height, width) of the images, weight of the newest level."""
        assert self.phase is not None
        size = list(self.sizes[self.level])
        return {"stage": self.phase.stage + 1, "stages": self.stages, "resolution": size, "alpha": self.alpha}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the networks of the present phase; they share its weights."""
        if not self.growing:
            yield
            return
        whole = self.model.encoder, self.model.decoder
        self.model.encoder, self.model.decoder = self.networks
        try:
            yield
        finally:
            self.model.encoder, self.model.decoder = whole

    def batch(self, images: Picked, index: Tensor, noise: Noise) -> Batch:
        """The data's batch at the size of the present stage; whole grey levels stay whole, by rounding.

        Of a masked target those pixels are observed of which all parts are.
        """
        batch = self.data.batch(images, index, noise)
        if not self.level:
            return batch
        target = pooled(batch.target, self.level)
        if self.levels_of_grey:
            target = target.mul_(_LEVELS_OF_GREY).round_().mul_(1.0 / _LEVELS_OF_GREY)
        seen = target if batch.input is batch.target else pooled(batch.input, self.level)
        mask = None if batch.mask is None else pooled(batch.mask, self.level).floor()
        return batch._replace(input=seen, target=target, mask=mask)

    def weighed(self, draw: Draw) -> Draw:
        """The draw as the loss sees it: its distortion is that of as many pixels as whole images have."""
        if not self.level:
            return draw
        weight = math.prod(self.sizes[0]) / math.prod(self.sizes[self.level])
        return dataclasses.replace(draw, likelihood=Weighted(draw.likelihood, weight))


def growth(model: Model, config: Config, info: DataInfo, total_steps: int, device: torch.device) -> Growth | None:
    """The growth of a training; None where it trains whole images from the start."""
    return None if config.training.progressive is None else Growth(model, config, info, total_steps, device)
