"""Bounds on log p(x) by importance sampling, in memory that does not grow with the number of samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.data.batches import Data
from vaekit.data.images import Images
from vaekit.models.draw import Draw
from vaekit.models.table import Model
from vaekit.noise import Noise, seed_key
from vaekit.probability.distributions import mean_of

ACTIVE_VARIANCE = 0.01  # Burda, Grosse and Salakhutdinov 2016, section 5


@dataclass(frozen=True)
class Estimate:
    """Per-image results, float64 on the CPU, in the order of the images.

    Attributes:
        distortion: -E log p(target | z), nats, (n,).
        rate: E_q[log q - log p], nats, (n,); None without a bound.
        levels: its parts by group of latents, from the one that is drawn first, nats, (n, groups); None without a bound.
        num_samples: importance samples an image; 1 where the draws of an image do not differ.
        log_p: the importance-weighted bound on log p(x), nats, (n,); None without a bound.
        effective_samples: (sum w)^2 / sum w^2, between 1 and the number of samples, (n,); None without a bound.
        codes: posterior means, centers of posteriors that have no mean in closed form, or deterministic codes, (n, latent).
        stochastic: whether the codes are means of a posterior.
    """

    distortion: Tensor
    rate: Tensor | None
    levels: Tensor | None
    log_p: Tensor | None
    effective_samples: Tensor | None
    codes: Tensor
    stochastic: bool
    num_samples: int

    def active_units(self) -> int | None:
        """Number of latents whose posterior mean varies by more than 0.01 over the images."""
        if not self.stochastic or len(self.codes) < 2:
            return None
        return int((self.codes.var(0) > ACTIVE_VARIANCE).sum())


class _Weights:
    """Running log-sum-exp of log-weights and of their doubles, (batch,)."""

    def __init__(self) -> None:
        self.sum: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, log_w: Tensor) -> None:
        first, second = torch.logsumexp(log_w, 0), torch.logsumexp(2.0 * log_w, 0)
        self.sum = first if self.sum is None else torch.logaddexp(self.sum, first)
        self.squares = second if self.squares is None else torch.logaddexp(self.squares, second)


@torch.no_grad()
def estimate(
    model: Model,
    data: Data,
    images: Images,
    num_samples: int,
    seed: int = 0,
    decodes_at_once: int = 1000,
    progress: Callable[[float], None] = lambda fraction: None,
    index: Tensor | None = None,
) -> Estimate:
    """Estimate bounds for every image.

    The noise of image i and sample k follows from (seed, i, k): neither `decodes_at_once` nor the device changes it.

    Args:
        model: in evaluation mode.
        data: how batches are made.
        images: n images on the model's device.
        num_samples: importance samples an image, from 1 up.
        seed: of the noise.
        decodes_at_once: images times samples held in memory at once.
        progress: called with the fraction done.
        index: int64 (n,), the number i of each image as its noise knows it; None: its position.
    """
    device = images.pixels.device
    key = torch.tensor(seed_key(seed, "evaluate"), device=device)
    num_samples = num_samples if model.draws_vary else 1
    chunk = min(num_samples, decodes_at_once)
    per_batch = max(1, decodes_at_once // chunk)
    parts: list[tuple[Tensor | None, ...]] = []
    stochastic = True
    for rows in torch.arange(len(images), device=device).split(per_batch):
        numbers = rows if index is None else index[rows]
        batch = data.batch(images, rows, Noise(key, numbers))
        distortion = torch.zeros(len(rows), dtype=torch.float64, device=device)
        levels: Tensor | None = None
        weights, codes = _Weights(), None
        for first in range(0, num_samples, chunk):
            count = min(chunk, num_samples - first)
            draw = model.draw(batch, (count,), Noise(key, numbers, first))
            distortion = distortion + draw.distortion.double().sum(0)
            if draw.log_w is not None:
                weights.add(draw.log_w.double())
                parts_of_rate = [
                    part.rate.double().expand(count, -1).sum(0) for part in draw.latents if part.rate is not None
                ]
                found = torch.stack(parts_of_rate, -1)
                levels = found if levels is None else levels + found
            if codes is None:
                codes = _codes(draw)
                means = all(mean_of(latent.posterior) is not None for latent in draw.latents)
                stochastic = means and model.draws_vary
        log_p = effective = None
        if weights.sum is not None and weights.squares is not None:
            log_p = weights.sum - math.log(num_samples)
            effective = (2.0 * weights.sum - weights.squares).exp()
        mean_levels = None if levels is None else levels / num_samples
        parts.append((distortion / num_samples, mean_levels, log_p, effective, codes))
        progress((int(rows[-1]) + 1) / len(images))
    columns = [_join(column) for column in zip(*parts, strict=True)]
    distortions, all_levels, log_ps, effectives, all_codes = columns
    assert distortions is not None
    assert all_codes is not None
    rates = None if all_levels is None else all_levels.sum(-1)
    return Estimate(distortions, rates, all_levels, log_ps, effectives, all_codes, stochastic, num_samples)


def _join(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Batches of one quantity joined, float64 on the CPU; None where the model does not have it."""
    there = [part.double().cpu() for part in parts if part is not None]
    return torch.cat(there) if there else None


def _codes(draw: Draw) -> Tensor:
    """All groups' codes side by side, (batch, latent); of a group that depends on samples, the first sample's."""
    columns = []
    for latent in draw.latents:
        has_samples = latent.code.dim() == latent.value.dim()
        code = latent.code[0] if has_samples else latent.code
        columns.append(code.flatten(1))
    return torch.cat(columns, -1)
