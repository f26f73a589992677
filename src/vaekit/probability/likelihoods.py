"""Likelihoods p(target | z): how a decoder's output scores an image. The table, its contract, Bernoulli and Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.native.eager import plain
from vaekit.native.likelihood import bernoulli_log_prob
from vaekit.noise import Noise
from vaekit.probability.distributions import LOG_2PI
from vaekit.tables import Table

LIKELIHOODS = Table("likelihood", "vaekit.probability")
Measure = Literal["discrete", "density", "surrogate"]


class ImageDistribution(Protocol):
    """p(target | z) for decoded images (*sample_shape, batch, channels, height, width)."""

    @property
    def mean(self) -> Tensor: ...

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor: ...

    def sample_from(self, noise: Noise, purpose: str) -> Tensor: ...


class Likelihood(Protocol):
    """An entry of the table: builds the module that turns a decoder's output into a distribution.

    The module's `forward` takes (*sample_shape, batch, num_outputs, height, width), float32, and returns an
    `ImageDistribution`. A module with state that is no gradient parameter defines `after_step(scored, gather)`, which is
    called after each training step; `scored` has the step's `likelihood`, `target` and `mask`, and `gather` joins tensors
    of all processes along their first axis. One whose state belongs to the weights defines `measured(scored)` and
    `freeze(*sums)` too, by which it is made anew, from training images, before weights are validated or kept.

    Attributes:
        unbounded: whether it scores any real number, and not pixels from 0 to 1 alone; one that does not say so does not.
        whole_levels: whether it scores whole grey levels alone; one that does not say so does not.
    """

    def num_outputs(self, channels: int) -> int:
        """Channels that the decoder makes for images of so many."""
        ...

    def build(self, channels: int = 1) -> nn.Module:
        """The module for images of so many channels."""
        ...

    def measure(self, binary: bool) -> Measure:
        """What its log-probabilities are, on targets that are 0 or 1 only or are not."""
        ...


def sum_event(per_pixel: Tensor, mask: Tensor | None) -> Tensor:
    """Sum over (channels, height, width), of observed pixels only where there is a mask."""
    return (per_pixel if mask is None else per_pixel * mask).sum((-3, -2, -1))


def uniform_like(pixels: Tensor, noise: Noise, purpose: str) -> Tensor:
    """Uniform float32 of the shape of `pixels` (*sample_shape, batch, channels, height, width), never 0 nor 1."""
    event, samples = tuple(pixels.shape[-3:]), tuple(pixels.shape[:-4])
    return noise.uniform(purpose, event, samples) + 2.0**-17  # the middle of its steps of 2^-16


def log_number(value: float, learned: bool, shape: tuple[int, ...] = ()) -> Tensor:
    """The logarithm of a scale as a module holds it: a parameter where it is learned, else a buffer."""
    logarithm = torch.full(shape, math.log(value))
    return nn.Parameter(logarithm) if learned else nn.Buffer(logarithm)


@dataclass(frozen=True)
class BernoulliImage:
    """Independent Bernoulli pixels. `logits`: (*sample_shape, batch, channels, height, width)."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Nats, (*sample_shape, batch); the cross-entropy when `target` is grey."""
        if mask is None and plain() and (found := bernoulli_log_prob(self.logits, target)) is not None:
            return found
        target = target.expand_as(self.logits)
        return -sum_event(F.binary_cross_entropy_with_logits(self.logits, target, reduction="none"), mask)

    def sample_from(self, noise: Noise, purpose: str) -> Tensor:
        event, samples = tuple(self.logits.shape[-3:]), tuple(self.logits.shape[:-4])
        return (noise.uniform(purpose, event, samples) < self.mean).to(self.logits.dtype)


@dataclass(frozen=True)
class GaussianImage:
    """Independent normal pixels. `loc`: (*sample_shape, batch, channels, height, width); `log_sigma`: no axes."""

    loc: Tensor
    log_sigma: Tensor

    @property
    def mean(self) -> Tensor:
        return self.loc

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Nats, (*sample_shape, batch), with every constant."""
        standard = (target - self.loc) * (-self.log_sigma).exp()
        return -sum_event(0.5 * standard.square() + self.log_sigma + 0.5 * LOG_2PI, mask)

    def sample_from(self, noise: Noise, purpose: str) -> Tensor:
        event, samples = tuple(self.loc.shape[-3:]), tuple(self.loc.shape[:-4])
        return self.loc + self.log_sigma.exp() * noise.normal(purpose, event, samples)


class _BernoulliHead(nn.Module):
    def forward(self, output: Tensor) -> BernoulliImage:
        return BernoulliImage(output)


class _GaussianHead(nn.Module):
    def __init__(self, sigma: float, learned: bool):
        super().__init__()
        self.log_sigma = log_number(sigma, learned)

    def forward(self, output: Tensor) -> GaussianImage:
        return GaussianImage(output, self.log_sigma)


@LIKELIHOODS.register("bernoulli")
@dataclass(frozen=True)
class Bernoulli:
    """Bernoulli pixels on logits: a probability on binary images, a surrogate (cross-entropy) on grey ones."""

    def num_outputs(self, channels: int) -> int:
        return channels

    def build(self, channels: int = 1) -> nn.Module:
        return _BernoulliHead()

    def measure(self, binary: bool) -> Measure:
        return "discrete" if binary else "surrogate"


@LIKELIHOODS.register("gaussian")
@dataclass(frozen=True)
class Gaussian:
    """Normal pixels with one standard deviation for the whole data set, given or learned.

    A learned one may take long to arrive, and latents may collapse meanwhile: from 0.1, one of three seeds of the `conv`
    preset did on 10,000 images of Fashion-MNIST. The likelihood `optimal-gaussian` has nothing to learn.
    """

    sigma: float = leaf(0.5, "standard deviation of a pixel, in grey values from 0 to 1", gt=0, le=10)
    learn_sigma: bool = leaf(True, "learn the standard deviation, starting from --sigma")
    unbounded = True

    def num_outputs(self, channels: int) -> int:
        return channels

    def build(self, channels: int = 1) -> nn.Module:
        return _GaussianHead(self.sigma, self.learn_sigma)

    def measure(self, binary: bool) -> Measure:
        return "density"
