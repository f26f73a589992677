"""What a trained model shows when it is measured on a few of its own images; never on test images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.config import flags
from vaekit.data.batches import Batch, Data
from vaekit.data.images import DataInfo, Images, Splits
from vaekit.doctor.units import Layer, watched
from vaekit.errors import InputError
from vaekit.evaluation.restoration import as_target, psnr
from vaekit.generation import reconstruct
from vaekit.models.draw import Draw, Latent
from vaekit.models.table import Model
from vaekit.noise import Noise, seed_key, seeded
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal
from vaekit.probability.distributions import draw as sample_of
from vaekit.settings import Config

NUM_CODES, NUM_IMAGES, NUM_PRIOR = 2000, 500, 500
SPARE_RATE = 0.02  # nats
SPARE_VARIANCE = 0.01  # of the posterior's mean over images (Burda, Grosse and Salakhutdinov 2016, section 5)
_BATCH = 250


@dataclass(frozen=True)
class Codes:
    """The latents of held-out images, or of training images where none were held out.

    Attributes:
        count: number of images.
        rate: nats, mean; None without a bound.
        rates: nats by latent (latent,); None where the rate is no sum over latents.
        variances: of the codes over images, (latent,); 1 for grids of codes, of which no number is spare.
        sizes: how many latents each level has, from the one that is drawn first.
    """

    count: int
    rate: float | None
    rates: Tensor | None
    variances: Tensor
    sizes: tuple[int, ...]

    @property
    def by_level(self) -> list[float]:
        """Nats of each level; empty where there is one level, or no rates."""
        if self.rates is None or len(self.sizes) < 2:
            return []
        return [part.sum().item() for part in self.rates.split(self.sizes)]

    @property
    def spare(self) -> Tensor:
        """Which latents carry nothing, bool (latent,)."""
        return self.variances < SPARE_VARIANCE if self.rates is None else self.rates < SPARE_RATE


@dataclass(frozen=True)
class Prior:
    """How the prior and the aggregate posterior of training images lie.

    Attributes:
        count: number of training images.
        active: number of latents that carry something.
        kl: a lower bound of KL(aggregate posterior || prior), nats; see `gaussian_bound`.
        nearest: of prior samples, the distance to the nearest posterior, in its standard deviations, root mean square over
            active latents, median; None where posteriors are no diagonal Gaussians.
        scales: smallest and largest standard deviation of the aggregate posterior in an active latent.
    """

    count: int
    active: int
    kl: float
    nearest: float | None
    scales: tuple[float, float]


@dataclass(frozen=True)
class Pixels:
    """Targets, and what the decoder makes of them, given one posterior sample an image.

    Attributes:
        grey: share of values between 0.1 and 0.9 in the targets.
        entropy: sum over pixels of the entropy of a coin that falls as the pixel's value says, nats, mean over images.
        size: values in an image.
        rmse: root of the mean squared error of the decoder's means.
        mae: mean absolute error of them.
        sigma: standard deviation of a pixel in the likelihood; None where there is no single one.
        beyond: share of the decoder's means below -0.1 or above 1.1.
    """

    grey: float
    entropy: float
    size: int
    rmse: float
    mae: float
    sigma: float | None
    beyond: float


@dataclass(frozen=True)
class Evidence:
    """All that was measured; None where the model does not have it."""

    config: Config
    info: DataInfo
    split: str
    num_images: int
    codes: Codes
    prior: Prior | None
    pixels: Pixels
    layers: tuple[Layer, ...]
    moved: float | None
    restored: tuple[float, float] | None


@torch.no_grad()
def measure(model: Model, config: Config, info: DataInfo, splits: Splits) -> Evidence:
    """Measure a model in evaluation mode, in about the time of 3,000 encodings and 1,000 decodings."""
    images, split = (
        (splits.train, "training") if splits.val is None or len(splits.val) < 20 else (splits.val, "validation")
    )
    draws = _draws(model, config.data, images)
    return Evidence(
        config,
        info,
        split,
        min(NUM_IMAGES, len(images)),
        codes([draw for _, draw in draws]),
        prior(model, config.data, splits.train),
        _pixels(draws),
        tuple(watched(model, _batch(config.data, images, 0, NUM_IMAGES))),
        moved(model, config, info),
        _restored(model, config.data, images),
    )


def _batch(data: Data, images: Images, first: int, count: int) -> Batch:
    index = torch.arange(first, min(first + count, len(images)))
    return data.batch(images, index, Noise(torch.tensor(seed_key(0, "doctor")), index))


def _noise(batch: Batch) -> Noise:
    return Noise(torch.tensor(seed_key(1, "doctor")), batch.index)


def _draws(model: Model, data: Data, images: Images) -> list[tuple[Batch, Draw]]:
    batches = [_batch(data, images, first, _BATCH) for first in range(0, min(NUM_IMAGES, len(images)), _BATCH)]
    return [(batch, model.draw(batch, (), _noise(batch))) for batch in batches]


def _latents(model: Model, data: Data, images: Images) -> Iterator[tuple[Batch, tuple[Latent, ...]]]:
    """Latents of up to `NUM_CODES` images; what a plain model decodes them to is not computed."""
    plain: Latent | None = None
    for first in range(0, min(NUM_CODES, len(images)), _BATCH):
        batch = _batch(data, images, first, _BATCH)
        if plain is not None:
            posterior = model.encode(batch.input, batch.condition if model.conditional else None)  # type: ignore[operator]
            yield batch, (Latent(sample_of(posterior, _noise(batch), "latent"), posterior, plain.prior),)
            continue
        latents = model.draw(batch, (), _noise(batch)).latents
        if len(latents) == 1 and isinstance(latents[0].prior, StandardNormal) and hasattr(model, "encode"):
            plain = latents[0]
        yield batch, latents


def _beside(parts: list[Tensor]) -> Tensor:
    """(batch, latent) of all groups, side by side."""
    return torch.cat([part.reshape(len(part), -1) for part in parts], -1)


def codes(draws: list[Draw]) -> Codes:
    """Rates and codes of drawn images."""
    points = torch.cat([_beside([latent.code for latent in draw.latents]) for draw in draws]).double()
    rate = rates = None
    if all(draw.rate is not None for draw in draws):
        rate = torch.cat([draw.rate for draw in draws if draw.rate is not None]).double().mean().item()
        if all(latent.rate_by_dimension is not None for draw in draws for latent in draw.latents):
            by_image = [_beside([rate_of(latent) for latent in draw.latents]) for draw in draws]
            rates = torch.cat(by_image).double().mean(0)
    discrete = any(not latent.value.is_floating_point() for draw in draws for latent in draw.latents)
    variances = points.var(0) if len(points) > 1 and not discrete else torch.ones_like(points[0])
    sizes = tuple(latent.code[0].numel() for latent in draws[0].latents)
    return Codes(len(points), rate, rates, variances, sizes)


def rate_of(latent: Latent) -> Tensor:
    """The rate by dimension, (batch, latent), of a group that has one."""
    assert latent.rate_by_dimension is not None
    return latent.rate_by_dimension


def gaussian_bound(samples: Tensor, log_prior: Tensor) -> float:
    """A lower bound of KL(q || p), nats, from samples (n, latent) of q and their log p (n,).

    KL(q || p) = -H(q) - E log p, and no density with q's covariance has more entropy than the Gaussian; so
    KL(q || p) >= -H(N(m, S)) - E log p, whatever q is. The logarithm of the determinant of S is estimated without bias (it
    is that of a Wishart variable), so that few samples in many dimensions do not feign a distance.

    >>> z = torch.randn(40000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> round(gaussian_bound(2 * z, StandardNormal(3).log_prob(2 * z)), 1)   # 3 (4 - 1 - log 4) / 2
    2.4
    """
    n, d = samples.shape
    covariance = torch.cov(samples.double().T).reshape(d, d)
    halves = (n - torch.arange(1, d + 1, dtype=torch.float64)) / 2.0
    excess = (torch.special.digamma(halves) - math.log((n - 1) / 2.0)).sum()
    entropy = 0.5 * (d * math.log(2.0 * math.pi * math.e) + torch.linalg.slogdet(covariance).logabsdet - excess)
    return (-entropy - log_prior.double().mean()).item()


def prior(model: Model, data: Data, images: Images) -> Prior | None:
    """How prior samples lie among the posteriors of up to `NUM_CODES` training images; None without a density."""
    if "vectors" not in model.provides:
        return None
    drawn = list(_latents(model, data, images))
    groups = [latents for _, latents in drawn]
    if not all(latent.stochastic for latents in groups for latent in latents):
        return None
    values = torch.cat([_beside([latent.value for latent in latents]) for latents in groups]).double()
    if len(values) < 3 * values.shape[1] or len(values) < 20:
        return None
    log_prior = torch.cat([log_prior_of(latents) for latents in groups])
    centers = torch.cat([_beside([latent.code for latent in latents]) for latents in groups])
    active = centers.var(0) > SPARE_VARIANCE
    nearest = None
    if (
        all(len(latents) == 1 and isinstance(latents[0].posterior, DiagonalGaussian) for latents in groups)
        and active.any()
    ):
        found = [latents[0].posterior for latents in groups]
        locs = torch.cat([q.loc for q in found if isinstance(q, DiagonalGaussian)])[:, active]
        scales = torch.cat([q.scale for q in found if isinstance(q, DiagonalGaussian)])[:, active]
        count = min(NUM_PRIOR, len(values))
        conditions = [batch.condition for batch, _ in drawn]
        given = torch.cat([part for part in conditions if part is not None]) if conditions[0] is not None else None
        noise = Noise.from_seed(2, count, "doctor")
        try:
            points = model.sample_prior(
                count, given[:count] if model.conditional and given is not None else None, noise
            )
        except InputError:  # no prior to sample from
            return None
        nearest = distances(points[:, active], locs, scales).median().item()
    width = values.std(0)[active] if active.any() else values.std(0)
    return Prior(
        len(values),
        int(active.sum()),
        gaussian_bound(values, log_prior),
        nearest,
        (width.min().item(), width.max().item()),
    )


def log_prior_of(latents: tuple[Latent, ...]) -> Tensor:
    """log p of all groups, (batch,)."""
    return torch.stack([latent.prior.log_prob(latent.value) for latent in latents if latent.prior is not None]).sum(0)


def distances(points: Tensor, locs: Tensor, scales: Tensor) -> Tensor:
    """From each point (m, latent) to the nearest of n Gaussians, in its standard deviations, (m,): the root of their mean
    square over latents."""
    precisions = scales.double().pow(-2)
    squares = (
        points.double().square() @ precisions.T
        - 2.0 * points.double() @ (locs * precisions).T
        + (locs.double().square() * precisions).sum(-1)
    )
    return (squares.clamp(min=0.0) / points.shape[1]).min(1).values.sqrt()


def _pixels(draws: list[tuple[Batch, Draw]]) -> Pixels:
    squares, absolutes, greys, beyond, entropies = [], [], [], [], []
    sigma: float | None = None
    size = 0
    for batch, draw in draws:
        target, mean = batch.target, draw.likelihood.mean
        size = target[0].numel()
        error = target - mean
        squares.append(error.square().mean((1, 2, 3)))
        absolutes.append(error.abs().mean((1, 2, 3)))
        greys.append(((target > 0.1) & (target < 0.9)).float().mean((1, 2, 3)))
        beyond.append(((mean < -0.1) | (mean > 1.1)).float().mean((1, 2, 3)))
        entropies.append((torch.special.entr(target) + torch.special.entr(1.0 - target)).sum((1, 2, 3)))
        log_sigma = getattr(draw.likelihood, "log_sigma", None)
        if isinstance(log_sigma, Tensor):
            sigma = log_sigma.exp().mean().item()
    mse, mae, grey, over, entropy = (
        torch.cat(part).double().mean().item() for part in (squares, absolutes, greys, beyond, entropies)
    )
    return Pixels(grey, entropy, size, math.sqrt(mse), mae, sigma, over)


def moved(model: Model, config: Config, info: DataInfo) -> float | None:
    """How far training moved the weights: |weights - initial| / |initial|, the median over layers.

    The initial weights are made anew from the run's seed. Made by another version they may differ, which shows as a large
    distance, never as a small one.
    """
    with seeded(config.training.seed, "weights"):
        before = dict(config.model.build(info).named_parameters())
    ratios = [
        ((weight.cpu() - before[name]).norm() / before[name].norm()).item()
        for name, weight in model.named_parameters()
        if weight.dim() > 1 and name in before and before[name].shape == weight.shape and before[name].norm() > 0
    ]
    return sorted(ratios)[len(ratios) // 2] if ratios else None


def _restored(model: Model, data: Data, images: Images) -> tuple[float, float] | None:
    """PSNR in dB, against the clean targets, of restored images and of inputs (enlarged if need be); else None."""
    if not data.restores or not hasattr(model, "encode"):
        return None
    batch = _batch(data, images, 0, NUM_IMAGES)
    after = psnr(reconstruct(model, batch.input, batch.condition if model.conditional else None), batch.target)
    return after.mean().item(), psnr(as_target(batch.input, batch.target.shape), batch.target).mean().item()


def learned_sigma(config: Config) -> bool:
    """Whether the standard deviation of pixels is no fixed setting."""
    return not any(flag.name == "learn_sigma" and flag.value is False for flag in flags(config))
