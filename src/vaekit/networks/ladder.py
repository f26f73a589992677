"""The parts of a top-down hierarchy of latents: a deterministic way up, and the levels of the way down.

In the spirit of ladder networks (Sonderby et al. 2016, arXiv:1602.02282), NVAE (Vahdat and Kautz 2020, arXiv:2007.03898)
and the very deep VAE (Child 2021, arXiv:2011.10650).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.networks.conv import extra, halved
from vaekit.networks.convolution import Conv2d, ConvTranspose2d
from vaekit.networks.layers import Activation, initialize, join, linear
from vaekit.networks.normalization import Normalization
from vaekit.networks.residual import ResidualBlock, activated
from vaekit.networks.table import Shape
from vaekit.probability.distributions import DiagonalGaussian, Distribution, StandardNormal

_HEAD = 0.1  # of the usual size: at the start each prior is near N(0, I), and each posterior near its prior
_WIDEST = 5.0  # nats: limit of what a head adds to the logarithm of a standard deviation


@dataclass(frozen=True)
class Style:
    """What all blocks of a hierarchy share; `scale` is that of `ResidualBlock`."""

    activation: Activation
    normalization: Normalization
    scale: float

    def block(self, num_in: int, num_out: int, **more: Any) -> ResidualBlock:
        return ResidualBlock(num_in, num_out, self.activation, self.normalization, self.scale, **more)

    def before(self, channels: int, shared: bool = True) -> list[nn.Module]:
        """What comes before a convolution: normalization and activation; see `residual.activated`."""
        return activated(channels, self.activation, self.normalization, shared)

    def head(self, num_in: int, num_out: int) -> nn.Module:
        """From features to twice `num_out` channels of moments."""
        return nn.Sequential(*self.before(num_in, shared=False), convolution(num_in, 2 * num_out, 1, _HEAD))


def convolution(num_in: int, num_out: int, side: int, factor: float = 1.0) -> Conv2d:
    """A convolution that keeps the size of maps, its initial weights multiplied by a factor."""
    layer = initialize(Conv2d(num_in, num_out, side, 1, side // 2))
    with torch.no_grad():
        layer.weight.mul_(factor)
    return layer


def moments(head: Tensor) -> tuple[Tensor, Tensor]:
    """Means and logarithms of scales, float32 (n, latent) each, of a head's output (n, 2 * channels[, height, width]).

    The logarithms are kept within 5 of 0 by 5 tanh(x / 5), as in NVAE's code, so that no exp overflows.
    """
    loc, log_scale = head.float().chunk(2, 1)
    return loc.flatten(1), (_WIDEST * torch.tanh(log_scale / _WIDEST)).flatten(1)


class Ascent(nn.Module):
    """Residual blocks that halve the image: images to features at each resolution, from the largest maps down."""

    def __init__(self, shape: Shape, widths: tuple[int, ...], blocks: int, style: Style):
        super().__init__()
        self.resolutions = nn.ModuleList(
            nn.Sequential(
                style.block(num_in, num_out, halve=True, raw=place == 0),
                *(style.block(num_out, num_out) for _ in range(blocks - 1)),
            )
            for place, (num_in, num_out) in enumerate(pairwise((shape[0], *widths)))
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        found = []
        for resolution in self.resolutions:
            images = resolution(images)
            found.append(images)
        return found


class Group(nn.Module):
    """One group of latents on the way down; images come as the encoder's features at one resolution.

    A path (n, width, height, width) is what is known so far of n images, or (1, ...) where that is the same for all.

    Attributes:
        shape: (channels, height, width) of a map of latents; () for a vector.
        num_latents: how many there are in all.
        resolution: place of the features that it reads, from the largest maps down.
    """

    shape: tuple[int, ...]
    num_latents: int
    resolution: int

    def prior(self, path: Tensor) -> Distribution:
        """p(z | path) over (n, num_latents)."""
        raise NotImplementedError

    def seen(self, features: Tensor, code: Tensor | None) -> Tensor:
        """What the posterior reads of images (batch, ...) and of their condition's code (batch, k), whatever the path."""
        raise NotImplementedError

    def posterior(self, path: Tensor, seen: Tensor, prior: Distribution) -> DiagonalGaussian:
        """q(z | path, image) over (n, num_latents); n is a multiple of the batch, or the path the same for all."""
        raise NotImplementedError

    def merge(self, path: Tensor, latents: Tensor) -> Tensor:
        """The path that goes on from latents (n, num_latents)."""
        raise NotImplementedError


class Summit(Group):
    """The vector of latents that is drawn first: its prior is N(0, I), and it fills the smallest maps.

    Args:
        width: channels of the smallest maps.
        size: (height, width) of them.
        num_latents: numbers in the vector.
        num_condition: size of the condition's code.
        dense: units between the encoder's features and the posterior.
        resolution: see `Group`.
        style: of all blocks.
    """

    def __init__(
        self,
        width: int,
        size: tuple[int, int],
        num_latents: int,
        num_condition: int,
        dense: int,
        resolution: int,
        style: Style,
    ):
        super().__init__()
        self.shape, self.num_latents, self.resolution = (), num_latents, resolution
        self.smallest = (*size, width)
        self.read = nn.Sequential(*style.before(width))
        self.dense = linear(math.prod(self.smallest) + num_condition, dense)
        self.head = nn.Sequential(*activated(dense, style.activation, "none"), linear(dense, 2 * num_latents))
        self.write = linear(num_latents, math.prod(self.smallest))

    def prior(self, path: Tensor) -> Distribution:
        return StandardNormal(self.num_latents)

    def seen(self, features: Tensor, code: Tensor | None) -> Tensor:
        flat = self.read(features).permute(0, 2, 3, 1).flatten(1)  # in the order of channels_last memory
        hidden = self.dense(join(flat, code))
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head(hidden.float())

    def posterior(self, path: Tensor, seen: Tensor, prior: Distribution) -> DiagonalGaussian:
        return DiagonalGaussian(*moments(seen))

    def merge(self, path: Tensor, latents: Tensor) -> Tensor:
        return path + self.write(latents).view(-1, *self.smallest).permute(0, 3, 1, 2)


class Level(Group):
    """A map of latents: one step of the way down, and residual blocks behind it.

    The posterior is told relative to the prior (Vahdat and Kautz 2020, section 3.2): its mean is the prior's plus a
    shift, and so is the logarithm of its scale. Where the prior moves, the posterior moves along, and the rate stays.

    Args:
        width: channels of the path, and of the encoder's features of the same size.
        size: (height, width) of both.
        channels: of the map of latents.
        blocks: residual blocks that follow.
        first: whether it is drawn first: then its prior is N(0, I).
        resolution: see `Group`.
        style: of all blocks.
    """

    def __init__(
        self,
        width: int,
        size: tuple[int, int],
        channels: int,
        blocks: int,
        first: bool,
        resolution: int,
        style: Style,
    ):
        super().__init__()
        self.shape, self.num_latents, self.resolution = (channels, *size), channels * math.prod(size), resolution
        hidden = max(width // 2, 1)
        self.first = first
        self.guess = None if first else _read(width, hidden, style)
        self.prior_head = None if first else style.head(hidden, channels)
        self.look = _read(width, hidden, style)
        self.aim = _read(width, hidden, style)
        self.posterior_head = style.head(hidden, channels)
        self.write = convolution(channels, width, 1)
        self.blocks = nn.Sequential(*(style.block(width, width) for _ in range(blocks)))

    def prior(self, path: Tensor) -> Distribution:
        if self.guess is None or self.prior_head is None:
            return StandardNormal(self.num_latents)
        return DiagonalGaussian(*moments(self.prior_head(self.guess(path))))

    def seen(self, features: Tensor, code: Tensor | None) -> Tensor:
        return self.look(features)

    def posterior(self, path: Tensor, seen: Tensor, prior: Distribution) -> DiagonalGaussian:
        aimed = self.aim(path)
        # of samples, each is a whole batch: an image is looked at once for all of them
        both = aimed + seen if self.first else (aimed.unflatten(0, (-1, seen.shape[0])) + seen).flatten(0, 1)
        loc, log_scale = moments(self.posterior_head(both))
        if isinstance(prior, DiagonalGaussian):
            loc, log_scale = prior.loc + loc, prior.log_scale + log_scale
        return DiagonalGaussian(loc, log_scale)

    def merge(self, path: Tensor, latents: Tensor) -> Tensor:
        return self.blocks(path + self.write(latents.view(-1, *self.shape)))


def _read(width: int, hidden: int, style: Style) -> nn.Module:
    """One linear map in each place: the blocks before have looked around."""
    return nn.Sequential(*style.before(width), convolution(width, hidden, 1))


Choose = Callable[[int, Group, Tensor], Tensor]


class Descent(nn.Module):
    """The way down: a learned start, the condition, groups of latents, blocks that double the maps, an output convolution.

    Args:
        shape: (channels, height, width) of the output.
        widths: channels at each resolution, from half the size of the output down.
        levels: maps of latents at each.
        channels: of these maps.
        blocks: residual blocks behind each.
        latent_dim: numbers in the vector that is drawn first; None for none.
        dense: units before its posterior.
        num_condition: size of the condition's code.
        style: of all blocks.
    """

    def __init__(
        self,
        shape: Shape,
        widths: tuple[int, ...],
        levels: tuple[int, ...],
        channels: tuple[int, ...],
        blocks: int,
        latent_dim: int | None,
        dense: int,
        num_condition: int,
        style: Style,
    ):
        super().__init__()
        sizes, last = halved(shape[1:], len(widths)), len(widths) - 1
        smallest = (*sizes[-1], widths[-1])
        self.start = nn.Parameter(0.1 * torch.randn(smallest))
        self.condition = linear(num_condition, math.prod(smallest)) if num_condition else None
        steps: list[nn.Module] = []
        if latent_dim is not None:
            steps.append(Summit(widths[-1], sizes[-1], latent_dim, num_condition, dense, last, style))
        for place in reversed(range(len(widths))):
            width, size, begun = widths[place], sizes[place + 1], any(isinstance(step, Group) for step in steps)
            steps += [
                Level(width, size, channels[place], blocks, not begun and number == 0, place, style)
                for number in range(levels[place])
            ]
            if place > 0:
                steps.append(style.block(width, widths[place - 1], double=(size, sizes[place])))
        self.steps = nn.ModuleList(steps)
        grow = ConvTranspose2d(widths[0], widths[0], 3, 2, 1, output_padding=extra(sizes[1], sizes[0]))
        self.output = nn.Sequential(
            *style.before(widths[0]),
            initialize(grow),
            *style.before(widths[0], shared=False),
            convolution(widths[0], shape[0], 3),
        )

    @property
    def groups(self) -> list[Group]:
        """Groups of latents, from the one that is drawn first."""
        return [step for step in self.steps if isinstance(step, Group)]

    def forward(self, code: Tensor | None, choose: Choose) -> Tensor:
        """The output (n, channels, height, width).

        Args:
            code: of the condition, (batch, k).
            choose: latents (n, num_latents) of group 0, 1, ... given the group and the path down to it, where n is the
                batch times samples, the batch being the inner axis.
        """
        path = self.start[None]
        if self.condition is not None and code is not None:
            path = path + self.condition(code).view(-1, *self.start.shape)
        path = path.permute(0, 3, 1, 2)
        number = 0
        for step in self.steps:
            if isinstance(step, Group):
                latents = choose(number, step, path)
                if number == 0 and code is not None:
                    path = path.repeat(latents.shape[0] // path.shape[0], 1, 1, 1)
                path = step.merge(path, latents)
                number += 1
            else:
                path = step(path)
        return self.output(path)
