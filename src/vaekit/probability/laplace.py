"""The Laplace likelihood: absolute error, so a few pixels that are far off cost less than under a Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.noise import Noise
from vaekit.probability.likelihoods import LIKELIHOODS, Measure, log_number, sum_event, uniform_like


@dataclass(frozen=True)
class LaplaceImage:
    """Independent Laplace pixels. `loc`: (*sample_shape, batch, channels, height, width); `log_scale`: no axes."""

    loc: Tensor
    log_scale: Tensor

    @property
    def mean(self) -> Tensor:
        return self.loc

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Nats, (*sample_shape, batch): -|x - loc| / scale - log(2 scale), summed."""
        distance = (target - self.loc).abs() * (-self.log_scale).exp()
        return -sum_event(distance + self.log_scale + math.log(2.0), mask)

    def sample_from(self, noise: Noise, purpose: str) -> Tensor:
        """By the inverse of the distribution function."""
        centred = uniform_like(self.loc, noise, purpose) - 0.5
        return self.loc - self.log_scale.exp() * centred.sign() * (-2.0 * centred.abs()).log1p()


class _LaplaceHead(nn.Module):
    def __init__(self, scale: float, learned: bool):
        super().__init__()
        self.log_scale = log_number(scale, learned)

    def forward(self, output: Tensor) -> LaplaceImage:
        return LaplaceImage(output, self.log_scale)


@LIKELIHOODS.register("laplace")
@dataclass(frozen=True)
class Laplace:
    """Laplace pixels (absolute error) with one scale for the whole data set, given or learned."""

    laplace_scale: float = leaf(0.1, "mean absolute deviation of a pixel, in grey values from 0 to 1", gt=0, le=10)
    learn_laplace_scale: bool = leaf(True, "learn the Laplace scale, starting from --laplace-scale")
    unbounded = True

    def num_outputs(self, channels: int) -> int:
        return channels

    def build(self, channels: int = 1) -> nn.Module:
        return _LaplaceHead(self.laplace_scale, self.learn_laplace_scale)

    def measure(self, binary: bool) -> Measure:
        return "density"
