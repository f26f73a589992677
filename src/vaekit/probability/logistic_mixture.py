"""Mixtures of discretized logistics for each pixel: a probability of its grey levels in all channels together.

Salimans, Karpathy, Chen and Kingma 2017, "PixelCNN++" (arXiv:1701.05517), sections 2.1 and 2.2; the likelihood of the
hierarchical models of Vahdat and Kautz 2020 and of Child 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.noise import Noise
from vaekit.probability.likelihoods import LIKELIHOODS, Measure, uniform_like
from vaekit.probability.logistic import level_at, log_mass, mean_level

# logarithms of scales, in grey values from 0 to 1: a twelfth of a level, and seven times the range
_NARROWEST, _WIDEST = -8.0, 2.0
_FIRST = 0.6  # of the way between them: a scale of 0.14
_MIDDLE = 0.5


@dataclass(frozen=True)
class LogisticMixtureImage:
    """Independent pixels, each a mixture of K components over its channels.

    Within a component each channel is a discretized logistic whose place moves with the levels of the channels before it:
    loc_c + sum over j < c of coupling_cj (x_j - 1/2). The axes behind the components' are those of the image.

    Attributes:
        logits: of the components, (*sample_shape, batch, K, 1, height, width).
        loc: (*sample_shape, batch, K, channels, height, width), in grey values from 0 to 1 but not bound to them.
        log_scale: of the same shape.
        coupling: (*sample_shape, batch, K, channels (channels - 1) / 2, height, width), in the order 10, 20, 21, 30, ...
    """

    logits: Tensor
    loc: Tensor
    log_scale: Tensor
    coupling: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean over the levels, in [0, 1], of the shape of images.

        It is that of the first channel; of a later one as far as those before it, which are put at their component's mean,
        are not cut at black or white.
        """
        found: list[Tensor] = []
        for channel in range(self.loc.shape[-3]):
            before = torch.cat(found, -3) if found else self.loc[..., :0, :, :]
            found.append(mean_level(self._place(channel, before), self.log_scale[..., channel, None, :, :]))
        return (self.logits.softmax(-4) * torch.cat(found, -3)).sum(-4)

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Nats, (*sample_shape, batch), of targets that are whole levels k / 255.

        A pixel of which a channel is hidden counts as hidden.
        """
        levels = target[..., None, :, :, :]
        loc = torch.cat([self._place(channel, levels) for channel in range(self.loc.shape[-3])], -3)
        of_components = log_mass(levels, loc, self.log_scale).sum(-3) + self.logits.squeeze(-3).log_softmax(-3)
        pixels = of_components.logsumexp(-3)
        return (pixels if mask is None else pixels * mask.amin(-3)).sum((-2, -1))

    def sample_from(self, noise: Noise, purpose: str) -> Tensor:
        """A component for each pixel, then channel after channel by the inverse of its distribution function."""
        uniform = uniform_like(self.logits[..., 0, :, :, :], noise, f"{purpose} component")
        reached = self.logits.softmax(-4).cumsum(-4) < uniform[..., None, :, :, :]
        chosen = reached.sum(-4, keepdim=True).clamp_max(self.logits.shape[-4] - 1)
        own = LogisticMixtureImage(
            *(_only(part, chosen) for part in (self.logits, self.loc, self.log_scale, self.coupling))
        )
        numbers = uniform_like(own.loc[..., 0, :, :, :], noise, purpose)[..., None, :, :, :]
        found = own.loc[..., :0, :, :]
        for channel in range(self.loc.shape[-3]):
            place, scale = own._place(channel, found), own.log_scale[..., channel, None, :, :]
            found = torch.cat([found, level_at(numbers[..., channel, None, :, :], place, scale)], -3)
        return found[..., 0, :, :, :]

    def _place(self, channel: int, levels: Tensor) -> Tensor:
        """Where a channel lies given the levels (..., channels, height, width) of those before, with one channel."""
        first = channel * (channel - 1) // 2
        coupling = self.coupling[..., first : first + channel, :, :]
        moved = (coupling * (levels[..., :channel, :, :] - _MIDDLE)).sum(-3, keepdim=True)
        return self.loc[..., channel, None, :, :] + moved


def _only(part: Tensor, chosen: Tensor) -> Tensor:
    """Of each pixel the component that was chosen, its axis kept."""
    return part.gather(-4, chosen.expand(*chosen.shape[:-3], *part.shape[-3:]))


class _LogisticMixtureHead(nn.Module):
    """At outputs of 0 the components stand side by side over the range, in scales that overlap."""

    start: Tensor

    def __init__(self, components: int, channels: int):
        super().__init__()
        self.components, self.channels = components, channels
        places = (torch.arange(components) + 0.5) / components
        self.register_buffer("start", places.view(-1, 1, 1, 1), persistent=False)

    def forward(self, output: Tensor) -> LogisticMixtureImage:
        pairs = self.channels * (self.channels - 1) // 2
        parts = output.unflatten(-3, (self.components, -1)).split((1, self.channels, self.channels, pairs), -3)
        logits, loc, log_scale, coupling = parts
        width, rise = _WIDEST - _NARROWEST, math.log(_FIRST / (1.0 - _FIRST))
        slope = width * _FIRST * (1.0 - _FIRST)  # divided by, so that it is 1 at outputs of 0
        log_scale = _NARROWEST + width * (log_scale / slope + rise).sigmoid()
        return LogisticMixtureImage(logits, loc + self.start, log_scale, coupling.tanh())


@LIKELIHOODS.register("logistic-mixture")
@dataclass(frozen=True)
class LogisticMixture:
    """Whole grey levels, each pixel a mixture of logistics with scales of its own, over all channels together."""

    pixel_components: int = leaf(5, "logistics for each pixel (published: 10)", ge=1, le=64)
    whole_levels = True

    def num_outputs(self, channels: int) -> int:
        return self.pixel_components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def build(self, channels: int = 1) -> nn.Module:
        return _LogisticMixtureHead(self.pixel_components, channels)

    def measure(self, binary: bool) -> Measure:
        return "discrete"
