"""The Gaussian likelihood whose variance is always the best one for the decoder (sigma-VAE)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vaekit.probability.likelihoods import LIKELIHOODS, GaussianImage, Measure, sum_event

LEAST_SIGMA = 1.0 / (255.0 * math.sqrt(12.0))  # the error of rounding to 256 levels: nothing below it can be known
_FIRST_SIGMA = 0.5  # until the first step
_PART, _LEAST_SHARE = 4.0, 0.02  # the average is over about the last quarter of the steps so far, at most the last 50


class Scored(Protocol):
    """What a training step scored."""

    @property
    def likelihood(self) -> Any: ...

    @property
    def target(self) -> Tensor: ...

    @property
    def mask(self) -> Tensor | None: ...


class OptimalGaussianHead(nn.Module):
    """A decoder's output as means, with the maximum-likelihood variance as state.

    The variance that maximizes the likelihood of n pixels is their mean squared error, v = |x - loc|^2 / n. Put in, the
    loss is n/2 (log 2 pi v + 1), whose gradient n/2 grad(v) / v equals that of |x - loc|^2 / (2 v) with v held fixed: at
    the optimum the derivative by v is zero, so v's own dependence on the decoder adds nothing (envelope theorem). So the
    variance needs no gradient. It is kept as a moving average of the training steps' squared errors, in which step t has
    the share max(0.02, 4 / (t + 3)): nothing remains of its start, and it follows a decoder that learns. An image's score
    never depends on the batch it came in. The weights that are kept get the variance of training images that is theirs
    exactly, by `freeze`.

    With several posterior samples, the error is their plain mean. `sigma` is never below 1 / (255 sqrt(12)), the error
    of rounding to grey levels.
    """

    square_error: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("square_error", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    @property
    def log_sigma(self) -> Tensor:
        """Logarithm of the standard deviation of a pixel, without axes."""
        known = 0.5 * self.square_error.clamp(min=LEAST_SIGMA**2).log()
        return torch.where(self.steps > 0, known, math.log(_FIRST_SIGMA))

    def forward(self, output: Tensor) -> GaussianImage:
        return GaussianImage(output, self.log_sigma)

    @torch.no_grad()
    def measured(self, scored: Scored) -> tuple[Tensor, Tensor]:
        """Squared errors and number of observed pixels of each image, both summed over samples, (batch,)."""
        error = (scored.target - scored.likelihood.loc).square()
        mask = None if scored.mask is None else scored.mask.expand_as(error)
        seen = torch.ones_like(error) if mask is None else mask
        return _per_image(sum_event(error, mask)), _per_image(sum_event(seen, None))

    @torch.no_grad()
    def freeze(self, squares: Tensor, pixels: Tensor) -> None:
        """Set the variance to the mean squared error of many images, from sums without axes of what `measured` gives."""
        self.square_error.copy_(squares / pixels.clamp(min=1.0))
        self.steps.clamp_(min=1.0)

    @torch.no_grad()
    def after_step(self, scored: Scored, gather: Callable[[Tensor], Tensor]) -> None:
        """Take the step's squared error into the average; `gather` joins the images of all processes."""
        squares, pixels = (gather(part) for part in self.measured(scored))
        count = pixels.sum()
        found = count > 0  # a batch with nothing observed says nothing
        self.steps.add_(found)
        share = (_PART / (self.steps + _PART - 1.0)).clamp(_LEAST_SHARE, 1.0) * found
        self.square_error.lerp_(squares.sum() / count.clamp(min=1.0), share)


def _per_image(values: Tensor) -> Tensor:
    """(*sample_shape, batch) summed over samples, (batch,)."""
    return values.reshape(-1, values.shape[-1]).sum(0)


@LIKELIHOODS.register("optimal-gaussian")
@dataclass(frozen=True)
class OptimalGaussian:
    """Normal pixels whose one variance is the training images' mean squared error (Rybkin et al. 2021, arXiv:2006.13202)."""

    unbounded = True

    def num_outputs(self, channels: int) -> int:
        return channels

    def build(self, channels: int = 1) -> nn.Module:
        return OptimalGaussianHead()

    def measure(self, binary: bool) -> Measure:
        return "density"
