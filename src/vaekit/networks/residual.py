"""Residual networks: blocks that halve the image in the encoder, and double it in the decoder, for any image size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.networks.conv import extra, halved
from vaekit.networks.convolution import Conv2d, ConvTranspose2d
from vaekit.networks.layers import ACTIVATION_HELP, ACTIVATIONS, Activation, initialize, join, linear
from vaekit.networks.normalization import NORMALIZATION_HELP, Normalization, normalized
from vaekit.networks.table import NETWORKS, Levels, Shape

_COPYING: dict[Activation, Callable[[], nn.Module]] = {"relu": nn.ReLU, "elu": nn.ELU, "leaky-relu": nn.LeakyReLU}

Size = tuple[int, int]


class ResidualBlock(nn.Module):
    """skip(x) + branch(x), where the branch is twice a normalization, an activation and a 3x3 convolution.

    After He et al. 2016 (arXiv:1603.05027). A block that halves or doubles the image does so in the branch's first
    convolution, and beside it by the mean of 2x2 pixels or by repeating them, with a 1x1 convolution to the new channels.

    Args:
        num_in: channels of the input, (batch, num_in, height, width).
        num_out: channels of the output.
        activation: name of the activation.
        normalization: before each activation.
        scale: factor of the last convolution's initial weights. With N blocks on a path, 1/sqrt(N) keeps the variance at
            its end from growing with N, and every weight has a gradient from the first step on (Child 2021,
            arXiv:2011.10650), which one of zero denies to all but the last convolution of a branch.
        halve: whether the output is half as high and wide.
        double: (height, width) before and after, where it is twice as high and wide; an odd size is one less.
        raw: whether the input is an image, of which the branch reads the values as they are.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        activation: Activation,
        normalization: Normalization,
        scale: float,
        halve: bool = False,
        double: tuple[Size, Size] | None = None,
        raw: bool = False,
    ):
        super().__init__()
        plain = normalization == "none"
        options: dict[str, Any] = {"bias": plain, "relu": plain and activation == "relu"}
        self.skip: nn.Module = nn.Identity()
        first: Conv2d | ConvTranspose2d
        if double is None:
            first = Conv2d(num_in, num_out, 3, 2 if halve else 1, 1, **options)
        else:
            first = ConvTranspose2d(num_in, num_out, 3, 2, 1, output_padding=extra(*double), **options)
            self.skip = nn.Sequential(_pointwise(num_in, num_out), nn.Upsample(double[1]))
        if halve:
            self.skip = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), _pointwise(num_in, num_out))
        # whatever reads the sum takes the batch's mean away first, and a bias with it
        last = initialize(Conv2d(num_out, num_out, 3, 1, 1, bias=normalization != "batch"))
        with torch.no_grad():
            last.weight.mul_(scale)
        self.branch = nn.Sequential(
            *([] if raw else activated(num_in, activation, normalization, shared=True)),
            initialize(first),
            *([] if options["relu"] else activated(num_out, activation, normalization)),
            last,
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.skip(features) + self.branch(features)


def _pointwise(num_in: int, num_out: int) -> nn.Module:
    return initialize(Conv2d(num_in, num_out, 1, bias=False))


def activated(
    channels: int, activation: Activation, normalization: Normalization, shared: bool = False
) -> list[nn.Module]:
    """Normalization and activation, which writes over no features that are `shared` with a skip connection."""
    norm = normalized(normalization, channels)
    kinds = {**ACTIVATIONS, **_COPYING} if shared and not norm else ACTIVATIONS
    return [*norm, kinds[activation]()]


def descent(
    num_in: int, widths: tuple[int, ...], blocks: int, activation: Activation, normalization: Normalization
) -> list[nn.Module]:
    """From images (batch, num_in, height, width) to activated maps of widths[-1] channels: at each level a block that halves
    the image, and further blocks."""
    style = (activation, normalization, 1.0 / math.sqrt(len(widths) * blocks))
    layers: list[nn.Module] = []
    for level, (before, after) in enumerate(pairwise((num_in, *widths))):
        layers.append(ResidualBlock(before, after, *style, halve=True, raw=level == 0))
        layers += [ResidualBlock(after, after, *style) for _ in range(blocks - 1)]
    return [*layers, *activated(widths[-1], activation, normalization)]


def ascent(
    shape: Shape, widths: tuple[int, ...], blocks: int, activation: Activation, normalization: Normalization
) -> list[nn.Module]:
    """The mirror of `descent`, from maps of widths[-1] channels: at each level blocks, the last of which doubles the image,
    and at the end an output convolution to (batch, *shape)."""
    style = (activation, normalization, 1.0 / math.sqrt(len(widths) * blocks))
    sizes = halved(shape[1:], len(widths))[::-1]
    layers: list[nn.Module] = []
    for level, (before, after) in enumerate(pairwise((*widths[::-1], widths[0]))):
        layers += [ResidualBlock(before, before, *style) for _ in range(blocks - 1)]
        layers.append(ResidualBlock(before, after, *style, double=(sizes[level], sizes[level + 1])))
    output = initialize(Conv2d(widths[0], shape[0], 3, 1, 1))
    return [*layers, *activated(widths[0], activation, normalization), output]


class ResidualEncoder(nn.Module):
    """At each level a block that halves the image and further blocks; then a dense layer that also reads the condition."""

    def __init__(
        self,
        shape: Shape,
        num_condition: int,
        widths: tuple[int, ...],
        blocks: int,
        dense: int,
        activation: Activation,
        normalization: Normalization,
    ):
        super().__init__()
        self.num_features = dense
        self.layers = nn.Sequential(*descent(shape[0], widths, blocks, activation, normalization))
        smallest = halved(shape[1:], len(widths))[-1]
        self.dense = linear(widths[-1] * math.prod(smallest) + num_condition, dense)
        self.activation = ACTIVATIONS[activation]()
        self._of_levels = (tuple(blocks * level for level in range(len(widths) + 1)), (shape[0], *widths), activation)

    @property
    def levels(self) -> Levels:
        return Levels(self.layers, *self._of_levels, activated=False)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.finish(self.layers(images), condition)

    def finish(self, features: Tensor, condition: Tensor | None = None) -> Tensor:
        """Features (batch, dense) from those of the last block, (batch, channels, height, width)."""
        flat = features.permute(0, 2, 3, 1).flatten(1)  # in the order of channels_last memory
        return self.activation(self.dense(join(flat, condition)))


class ResidualDecoder(nn.Module):
    """A dense layer that reads latents and condition; at each level blocks, the last of which doubles the image; an output
    convolution."""

    def __init__(
        self,
        shape: Shape,
        num_condition: int,
        num_latents: int,
        widths: tuple[int, ...],
        blocks: int,
        activation: Activation,
        normalization: Normalization,
    ):
        super().__init__()
        self.smallest = (*halved(shape[1:], len(widths))[-1], widths[-1])
        self.dense = linear(num_latents + num_condition, math.prod(self.smallest))
        self.layers = nn.Sequential(*ascent(shape, widths, blocks, activation, normalization))
        cuts = tuple(blocks * level for level in range(len(widths), -1, -1))
        self._of_levels = (cuts, (widths[0], *widths), activation)

    @property
    def levels(self) -> Levels:
        return Levels(self.layers, *self._of_levels, activated=False)

    def forward(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.layers(self.start(latents, condition))

    def start(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        """Features (batch, channels, height, width) of the smallest size."""
        return self.dense(join(latents, condition)).view(-1, *self.smallest).permute(0, 3, 1, 2)


@NETWORKS.register("residual")
@dataclass(frozen=True)
class Residual:
    """Residual blocks of 3x3 convolutions (He et al. 2016), one of stride 2 at each level; the decoder mirrors them."""

    widths: tuple[int, ...] = leaf((32, 64, 128), "channels of the levels, one for each halving", ge=1, le=4096)
    blocks: int = leaf(1, "residual blocks at each level, the one that halves among them", ge=1, le=64)
    dense: int = leaf(256, "units of the dense layer after the blocks", ge=1, le=65536)
    normalization: Normalization = leaf("none", NORMALIZATION_HELP)
    activation: Activation = leaf("relu", ACTIVATION_HELP)
    low_precision = True

    def encoder(self, shape: Shape, num_condition: int) -> nn.Module:
        return ResidualEncoder(
            shape, num_condition, self.widths, self.blocks, self.dense, self.activation, self.normalization
        )

    def decoder(self, shape: Shape, num_condition: int, num_latents: int) -> nn.Module:
        return ResidualDecoder(
            shape, num_condition, num_latents, self.widths, self.blocks, self.activation, self.normalization
        )
