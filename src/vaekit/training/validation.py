"""The bound on held-out images during training: one latent sample an image, the same noise each time."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vaekit.data.images import Images
from vaekit.noise import seed_key
from vaekit.training.processes import Processes
from vaekit.training.step import TrainingStep, usage

_BATCH = 500
_NUMBERS = _BATCH * 3 * 64 * 64  # pixels times channels: of larger images 500 at once would take gigabytes


def at_once(images: Images, copies: int = 1) -> int:
    """How many images, each decoded so many times, are gone over together: 500 decoded ones, or fewer large ones."""
    return max(1, min(_BATCH, _NUMBERS // math.prod(images.shape)) // copies)


@torch.no_grad()
def validate(
    step: TrainingStep, images: Images, seed: int, at: int, hyper: Mapping[str, float], processes: Processes
) -> dict[str, float]:
    """Means over all `images` of what a step logs, and ``elbo_nats`` where there is a bound.

    Objectives that need players' gradients are evaluated without them. Batches are of nearly one size, and each counts by
    its size. Where images of a batch interact, every process works on all of them, as one process would.
    """
    device = images.pixels.device
    step.eval()
    low_precision, step.low_precision = step.low_precision, False
    key = torch.tensor(seed_key(seed, "validation"), device=device)
    now = torch.tensor(at, device=device)
    scalars = {name: torch.tensor(value, device=device) for name, value in hyper.items()}
    index = torch.arange(len(images), device=device)
    totals: Tensor | None = None
    tallies: dict[str, Tensor] = {}
    names: list[str] = []
    shared = step.objective.scope == "image" and len(images) >= processes.count
    mine = index.tensor_split(processes.count)[processes.rank] if shared else index
    gather, step.gather = step.gather, lambda tensor: tensor
    size = at_once(images, math.prod(step.objective.sample_shape)) if step.objective.scope == "image" else _BATCH
    for part in mine.tensor_split(math.ceil(len(mine) / size)):
        found = step(images, part, key, now, scalars)
        logged = found.logged
        for name, counts in found.draw.tallies.items():
            tallies[name] = counts.double() + tallies.get(name, 0.0)
        names = list(logged)
        values = torch.stack([value.double() for value in logged.values()]) * len(part)
        totals = values if totals is None else totals + values
    step.low_precision, step.gather = low_precision, gather
    step.train()
    assert totals is not None
    means = (processes.sum(totals) if shared else totals) / len(images)
    whole = {name: processes.sum(counts) if shared else counts for name, counts in tallies.items()}
    return with_bound(dict(zip(names, means.tolist(), strict=True))) | usage(whole)


def with_bound(means: dict[str, float]) -> dict[str, float]:
    """Logged means with ``elbo_nats`` = -(distortion + rate) added where there is a rate."""
    if "rate_nats" in means:
        means["elbo_nats"] = -(means["distortion_nats"] + means["rate_nats"])
    return means
