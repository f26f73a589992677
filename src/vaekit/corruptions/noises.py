"""Corruptions by noise: of the sensor, of the light itself, of broken pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.corruptions.table import CORRUPTIONS, SameSize, like
from vaekit.noise import Noise


def normal_like(images: Tensor, noise: Noise, purpose: str) -> Tensor:
    """Standard normal noise of the shape of `images` (batch, channels, height, width), channels last in memory."""
    channels, height, width = images.shape[1:]
    return noise.normal(purpose, (height, width, channels)).permute(0, 3, 1, 2)


_LOW_RATE = 10.0


def poisson_counts(rate: Tensor, normal: Tensor, most: float) -> Tensor:
    """Poisson counts, as floats, by inversion: the quantile of `rate`'s distribution at the probability of `normal`.

    Up to a rate of 10 the distribution is summed term by term, which is exact to the rounding of float32. Above, its
    quantile is the normal asymptotic expansion of Giles (2016, "Algorithm 955: approximation of the inverse Poisson
    cumulative distribution function"), whose distribution differs from the true one by less than 2e-4 in total variation,
    the less the higher the rate. The cost does not depend on the values.

    Args:
        rate: expected counts, from 0 up; float32.
        normal: standard normal draws of the same shape.
        most: an upper bound of the rates, known beforehand: it saves what is not needed.
    """
    limit = min(most, _LOW_RATE)
    low, uniform = rate.clamp(max=limit), torch.special.ndtr(normal)
    power = (-low).exp()
    below, counts = power.clone(), torch.zeros_like(low)
    for count in range(1, math.ceil(limit + 5.5 * math.sqrt(limit) + 5.0)):
        counts += uniform > below
        below.add_(power.mul_(low), alpha=1.0 / math.factorial(count))
    if most <= _LOW_RATE:
        return counts
    high, square = rate.clamp(min=_LOW_RATE), normal.square()
    root = high.sqrt()
    quantile = high + root * normal + (1 / 3 + square / 6) - (normal / 36 + normal * square / 72) / root
    quantile += (-8 / 405 + 7 / 810 * square + square.square() / 270) / high
    return torch.where(rate > _LOW_RATE, quantile.floor().clamp(min=0.0), counts)


@CORRUPTIONS.register("gaussian-noise")
@dataclass(frozen=True)
class GaussianNoise(SameSize):
    """The same normal noise on every pixel, clipped to black and white."""

    noise_sigma: float = leaf(0.2, "standard deviation of the noise; white is 1", ge=0, le=10)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        return like(images + self.noise_sigma * normal_like(images, noise, "gaussian-noise"), images)


@CORRUPTIONS.register("poisson-noise")
@dataclass(frozen=True)
class PoissonNoise(SameSize):
    """Light that comes in photons: each pixel counts a Poisson number of them; more than white is clipped."""

    photons: float = leaf(20.0, "photons that a white pixel counts on average; fewer are noisier", gt=0, le=1e6)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        counts = poisson_counts(self.photons * images.float(), normal_like(images, noise, "photons"), self.photons)
        return like(counts / self.photons, images)


@CORRUPTIONS.register("speckle")
@dataclass(frozen=True)
class Speckle(SameSize):
    """Noise in proportion to the brightness, as of radar and ultrasound: x + sigma * x * normal, clipped."""

    speckle_sigma: float = leaf(0.4, "standard deviation of the noise as a part of the brightness", ge=0, le=10)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        return like(images + self.speckle_sigma * images * normal_like(images, noise, "speckle"), images)


@CORRUPTIONS.register("salt-and-pepper")
@dataclass(frozen=True)
class SaltAndPepper(SameSize):
    """Broken pixels: a part of them, drawn at random, white or black with equal chance, in all channels alike."""

    salt_fraction: float = leaf(0.1, "expected fraction of broken pixels", ge=0, le=1)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        place = noise.uniform("salt-and-pepper", tuple(images.shape[-2:]))[:, None]
        white = place < self.salt_fraction / 2
        black = place >= 1.0 - self.salt_fraction / 2
        return like(images.masked_fill(white, 1.0).masked_fill(black, 0.0), images)


@CORRUPTIONS.register("low-light")
@dataclass(frozen=True)
class LowLight(SameSize):
    """Too little light: a darker image light * x^gamma, with the noise of few photons and of the sensor; not brightened."""

    light: float = leaf(0.25, "fraction of the light that is left", gt=0, le=1)
    light_gamma: float = leaf(1.0, "exponent of the brightness; above 1 the dark parts suffer more", gt=0, le=10)
    light_photons: float = leaf(100.0, "photons that a white pixel would count in full light", gt=0, le=1e6)
    light_noise: float = leaf(0.01, "standard deviation of the sensor's own noise; white is 1", ge=0, le=1)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        dark = self.light * images.float().pow(self.light_gamma)
        photons = normal_like(images, noise, "low-light-photons")
        counts = poisson_counts(self.light_photons * dark, photons, self.light_photons * self.light)
        sensor = self.light_noise * normal_like(images, noise, "low-light-sensor")
        return like(counts / self.light_photons + sensor, images)
