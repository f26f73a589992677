"""The discretized logistic likelihood: a probability of each of the 256 grey levels, and what its mixtures share.

Salimans, Karpathy, Chen and Kingma 2017 (arXiv:1701.05517), section 2.1, with one logistic a pixel (Kingma et al. 2016,
arXiv:1606.04934, section 5.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.noise import Noise
from vaekit.probability.likelihoods import LIKELIHOODS, Measure, log_number, sum_event, uniform_like

_STEP = 1.0 / 255.0  # between grey levels
_HALF = 0.5 * _STEP


@dataclass(frozen=True)
class DiscretizedLogisticImage:
    """Independent grey levels: each has the mass of a logistic distribution within half a level of it.

    The lowest level takes all that lies below it, the highest all above, so that the 256 probabilities sum to one.
    `loc`: (*sample_shape, batch, channels, height, width), in grey values from 0 to 1 but not bound to them; `log_scale`:
    no axes, or (channels, 1, 1).
    """

    loc: Tensor
    log_scale: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean over the levels, in [0, 1]; see `mean_level`."""
        return mean_level(self.loc, self.log_scale)

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Nats, (*sample_shape, batch), of targets that are whole levels k / 255."""
        return sum_event(log_mass(target, self.loc, self.log_scale), mask)

    def sample_from(self, noise: Noise, purpose: str) -> Tensor:
        return level_at(uniform_like(self.loc, noise, purpose), self.loc, self.log_scale)


def log_mass(level: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    """Nats of levels k / 255 under a logistic of that place and scale, element by element.

    With a and b the ends of a level's interval, less loc, over the scale:
    log(sigmoid(b) - sigmoid(a)) = logsigmoid(b) + logsigmoid(-a) + log(1 - e^(a - b)), which cannot cancel.
    """
    inverse = (-log_scale).exp()
    lowest, highest = level < _HALF, level > 1.0 - _HALF
    shift = level - loc
    upper = torch.where(highest, 0.0, F.logsigmoid((shift + _HALF) * inverse))
    lower = torch.where(lowest, 0.0, F.logsigmoid((_HALF - shift) * inverse))
    width = (-(-_STEP * inverse).expm1()).log()
    return upper + lower + torch.where(lowest | highest, 0.0, width)


def mean_level(loc: Tensor, log_scale: Tensor) -> Tensor:
    """The mean over the levels, in [0, 1], with the sum over 255 steps taken as an integral.

    The mean is 1/255 sum_k sigmoid((loc - (k - 1/2) / 255) / s), k = 1 to 255: the midpoint rule for
    s softplus(loc / s) - s softplus((loc - 1) / s), which is returned. They differ by less than a hundredth of a level
    for scales s of a level or more, and never by more than half a level.
    """
    scale = log_scale.exp()

    def excess(size: Tensor) -> Tensor:
        return scale * (-size.abs() / scale).exp().log1p()

    return (loc.clamp(0.0, 1.0) + excess(loc) - excess(loc - 1.0)).clamp(0.0, 1.0)


def level_at(uniform: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    """The level at which the distribution function reaches a number between 0 and 1: draws, of uniform ones."""
    return ((loc + log_scale.exp() * uniform.logit()) / _STEP).round().clamp(0.0, 255.0) * _STEP


class _DiscretizedLogisticHead(nn.Module):
    def __init__(self, scale: float, shape: tuple[int, ...]):
        super().__init__()
        self.log_scale = log_number(scale, True, shape)

    def forward(self, output: Tensor) -> DiscretizedLogisticImage:
        return DiscretizedLogisticImage(output, self.log_scale)


@LIKELIHOODS.register("discretized-logistic")
@dataclass(frozen=True)
class DiscretizedLogistic:
    """Whole grey levels, each a slice of a logistic with a learned scale: a probability, in bits per dimension too."""

    logistic_scale: float = leaf(0.1, "scale that learning starts from, in grey values from 0 to 1", gt=0, le=10)
    scale_per_channel: bool = leaf(False, "learn a scale for each channel in place of one for all")
    whole_levels = True

    def num_outputs(self, channels: int) -> int:
        return channels

    def build(self, channels: int = 1) -> nn.Module:
        return _DiscretizedLogisticHead(self.logistic_scale, (channels, 1, 1) if self.scale_per_channel else ())

    def measure(self, binary: bool) -> Measure:
        return "discrete"
