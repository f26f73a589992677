"""The continuous Bernoulli likelihood (Loaiza-Ganem and Cunningham 2019, arXiv:1907.06845)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.noise import Noise
from vaekit.probability.likelihoods import LIKELIHOODS, Measure, sum_event, uniform_like

# Below it series, above it closed forms: in float32 both are then exact to rounding, in value and in gradient.
_SWITCH = 1.0


def _near_and_rest(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where logits are near 0; the logits there, else 0; and their size elsewhere, else 1. So no gradient is NaN."""
    size = logits.abs()
    near = size < _SWITCH
    return near, torch.where(near, logits, 0.0), torch.where(near, 1.0, size)


def mean_of_logits(logits: Tensor) -> Tensor:
    """The mean A'(l) = 1 / (1 - e^-l) - 1 / l, in [0, 1]; near 0, 1/2 + l/12 - l^3/720 + l^5/30240 - ..."""
    near, small, size = _near_and_rest(logits)
    square = small.square()
    series = small * (1 / 12 + square * (-1 / 720 + square * (1 / 30240 - square / 1209600)))
    closed = 0.5 / (0.5 * size).tanh() - 1.0 / size
    return 0.5 + torch.where(near, series, closed * logits.sign())


class _LogPartition(torch.autograd.Function):
    """A(l), with A'(l) by its own formula: more exact than differentiating the branches, and faster."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor) -> Tensor:
        near, small, size = _near_and_rest(logits)
        square = small.square()
        series = square * (1 / 24 + square * (-1 / 2880 + square * (1 / 181440 - square / 9676800)))
        closed = (-(-size).exp()).log1p() - size.log()
        return torch.where(near, 0.5 * small + series, logits.relu() + closed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  # torch types it for any number of them
        (logits,) = ctx.saved_tensors
        return gradient * mean_of_logits(logits)


def log_partition(logits: Tensor) -> Tensor:
    """A(l) = log of the integral of exp(l x) over x from 0 to 1 = log((e^l - 1) / l), for any logits.

    The paper's normalizer is log C(l) = log(l / tanh(l / 2)) = softplus(l) - A(l). Near 0,
    A(l) = l/2 + l^2/24 - l^4/2880 + l^6/181440 - l^8/9676800 + ..., from the Bernoulli numbers.

    >>> log_partition(torch.tensor([0.0, 1e4])).tolist()  # log((e^l - 1) / l) itself would overflow
    [0.0, 9990.7900390625]
    """
    return _LogPartition.apply(logits)


@dataclass(frozen=True)
class ContinuousBernoulliImage:
    """Independent pixels with density exp(l x) / exp(A(l)) on [0, 1].

    `logits` l: (*sample_shape, batch, channels, height, width). The mean is not sigmoid(l): it is nearer to a half.
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return mean_of_logits(self.logits)

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Nats, (*sample_shape, batch), of targets in [0, 1]."""
        return sum_event(self.logits * target - log_partition(self.logits), mask)

    def sample_from(self, noise: Noise, purpose: str) -> Tensor:
        """By the inverse of F(x) = (e^(l x) - 1) / (e^l - 1), written for |l| and mirrored."""
        size = self.logits.abs().clamp(min=1e-6)
        left = 1.0 - uniform_like(self.logits, noise, purpose)
        falls = self.logits < 0
        from_one = -(torch.where(falls, 1.0 - left, left) * (-size).expm1()).log1p() / size
        return torch.where(falls, from_one, 1.0 - from_one).clamp(0.0, 1.0)


class _ContinuousBernoulliHead(nn.Module):
    def forward(self, output: Tensor) -> ContinuousBernoulliImage:
        return ContinuousBernoulliImage(output)


@LIKELIHOODS.register("continuous-bernoulli")
@dataclass(frozen=True)
class ContinuousBernoulli:
    """Continuous Bernoulli pixels on logits: the cross-entropy made a density (Loaiza-Ganem and Cunningham 2019)."""

    def num_outputs(self, channels: int) -> int:
        return channels

    def build(self, channels: int = 1) -> nn.Module:
        return _ContinuousBernoulliHead()

    def measure(self, binary: bool) -> Measure:
        return "density"
