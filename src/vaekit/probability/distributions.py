"""Distributions over latents, and the two operations that the rest of the library asks of any distribution.

`draw` and `closed_form_kl` work for the classes here, for torch's distributions and for zuko's flows, so that a
posterior or a prior can be any of them. Shapes are (*sample_shape, batch, event).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vaekit.noise import Noise

LOG_2PI = math.log(2.0 * math.pi)


class Distribution(Protocol):
    """What a posterior or a prior must offer: the log-density in nats, event dimensions summed."""

    def log_prob(self, value: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normals.

    Attributes:
        loc: (*sample_shape, batch, latent) means; without sample axes, the same for every sample.
        log_scale: the same shape, logarithms of the standard deviations.
    """

    loc: Tensor
    log_scale: Tensor

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    def sample_from(self, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
        standard = noise.normal(purpose, (self.loc.shape[-1],), sample_shape)
        return self.loc + self.scale * standard.to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        standard = (value - self.loc) * (-self.log_scale).exp()
        return -(0.5 * standard.square() + self.log_scale + 0.5 * LOG_2PI).sum(-1)


@dataclass(frozen=True)
class StandardNormal:
    """N(0, I) over `num_latents` dimensions, the same for every image."""

    num_latents: int

    def sample_from(self, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return noise.normal(purpose, (self.num_latents,), sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return -0.5 * (value.square() + LOG_2PI).sum(-1)


@dataclass(frozen=True)
class Point:
    """All mass on one point, which has no density. `mean`: (batch, latent)."""

    mean: Tensor

    def sample_from(self, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return self.mean.expand(*sample_shape, *self.mean.shape)


def draw(distribution: Any, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
    """A reparameterized sample (*sample_shape, batch, event) whose randomness is all from `noise`.

    Takes a distribution with a `sample_from(noise, purpose, sample_shape)` of its own, a flow with `base` and `transform`
    (zuko's NormalizingFlow), or torch's Independent(Normal).
    """
    if hasattr(distribution, "sample_from"):
        return distribution.sample_from(noise, purpose, sample_shape)
    if hasattr(distribution, "transform") and hasattr(distribution, "base"):
        base = draw(distribution.base, noise, purpose, sample_shape)
        return distribution.transform.inv(base)
    if hasattr(distribution, "base_dist"):
        return draw(distribution.base_dist, noise, purpose, sample_shape)
    if isinstance(distribution, torch.distributions.Normal):
        standard = noise.normal(purpose, (distribution.loc.shape[-1],), sample_shape)
        return distribution.loc + distribution.scale * standard.to(distribution.loc.dtype)
    raise TypeError(f"{type(distribution).__name__} has no reparameterized sample from given noise")


def mean_of(distribution: Any) -> Tensor | None:
    """The mean, (*sample_shape, batch, event); None where it has no closed form, as for a flow."""
    try:
        return getattr(distribution, "mean", None)
    except NotImplementedError:  # torch's base class has a `mean` that raises
        return None


def center_of(distribution: Any) -> Tensor | None:
    """A point that stands for the distribution: its mean, or where a flow takes the mean of its base; else None."""
    mean = mean_of(distribution)
    if mean is None and hasattr(distribution, "transform") and hasattr(distribution, "base"):
        base = mean_of(distribution.base)
        return None if base is None else distribution.transform.inv(base)
    return mean


def closed_form_kl(posterior: Any, prior: Any) -> Tensor | None:
    """KL(posterior || prior) in nats, (batch,), or None where there is no closed form.

    A posterior with a method `kl_to(prior)` says it itself.

    >>> q = DiagonalGaussian(torch.zeros(1, 2), torch.zeros(1, 2))
    >>> closed_form_kl(q, StandardNormal(2)).item()
    0.0
    """
    if (by_dimension := kl_by_dimension(posterior, prior)) is not None:
        return by_dimension.sum(-1)
    if hasattr(posterior, "kl_to"):
        return posterior.kl_to(prior)
    if isinstance(posterior, torch.distributions.Distribution):
        try:
            return torch.distributions.kl_divergence(posterior, prior)
        except (NotImplementedError, AttributeError):
            return None
    return None


def kl_by_dimension(posterior: Any, prior: Any) -> Tensor | None:
    """The parts (batch, latent), in nats, of a KL that is a sum over latents; None where it is not one.

    >>> q = DiagonalGaussian(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
    >>> kl_by_dimension(q, StandardNormal(2)).tolist()
    [[0.0, 2.0]]
    """
    if isinstance(posterior, DiagonalGaussian) and isinstance(prior, StandardNormal):
        variance = (2.0 * posterior.log_scale).exp()
        return 0.5 * (posterior.loc.square() + variance - 1.0) - posterior.log_scale
    if isinstance(posterior, DiagonalGaussian) and isinstance(prior, DiagonalGaussian):
        log_ratio = posterior.log_scale - prior.log_scale
        shift = (posterior.loc - prior.loc) * (-prior.log_scale).exp()
        return 0.5 * (shift.square() + (2.0 * log_ratio).exp() - 1.0) - log_ratio
    return None
