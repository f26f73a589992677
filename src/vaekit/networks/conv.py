"""Strided convolutions down, transposed convolutions up: the networks of the VAE write-ups, for any image size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.config import leaf
from vaekit.networks.convolution import Conv2d, ConvTranspose2d
from vaekit.networks.layers import (
    ACTIVATION_HELP,
    ACTIVATIONS,
    Activation,
    Initialization,
    initialize,
    initialize_hidden,
    join,
)
from vaekit.networks.normalization import NORMALIZATION_HELP, Normalization, normalized
from vaekit.networks.relu import relu_
from vaekit.networks.table import NETWORKS, Levels, Shape

_KERNEL, _STRIDE, _PADDING = 3, 2, 1
Padding = Literal["around", "after"]


def halved(size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """The image size at each level, from the full one down; odd sizes round up.

    >>> halved((28, 27), 2)
    [(28, 27), (14, 14), (7, 7)]
    """
    sizes = [size]
    for _ in range(levels):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def extra(low: tuple[int, int], high: tuple[int, int]) -> tuple[int, int]:
    """The output padding that takes a 3x3 transposed convolution of stride 2 from one size to the other."""
    return (high[0] - (2 * low[0] - 1), high[1] - (2 * low[1] - 1))


class PaddedAfter(Conv2d):
    """A 3x3 convolution of stride 2 that pads even sizes after their last row and column alone, as Keras' "same" does."""

    def __init__(self, num_in: int, num_out: int, size: tuple[int, int], **more: Any):
        below, right = (1 - length % 2 for length in size)
        super().__init__(num_in, num_out, _KERNEL, _STRIDE, (1 - below, 1 - right), **more)
        self.after = (0, right, 0, below)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, self.after))


class CroppedAfter(ConvTranspose2d):
    """The transposed convolution of `PaddedAfter`, to images of a size (height, width)."""

    def __init__(self, num_in: int, num_out: int, size: tuple[int, int], **more: Any):
        super().__init__(num_in, num_out, _KERNEL, _STRIDE, (size[0] % 2, size[1] % 2), **more)
        self.size = size

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        height, width = self.size
        return super().forward(input, output_size)[..., :height, :width]


def _down(padding: Padding, num_in: int, num_out: int, size: tuple[int, int], **more: Any) -> Conv2d:
    """Half an image of a size (height, width)."""
    if padding == "after":
        return PaddedAfter(num_in, num_out, size, **more)
    return Conv2d(num_in, num_out, _KERNEL, _STRIDE, _PADDING, **more)


def _up(padding: Padding, num_in: int, num_out: int, size: tuple[int, int], **more: Any) -> ConvTranspose2d:
    """Double an image, to a size (height, width)."""
    if padding == "after":
        return CroppedAfter(num_in, num_out, size, **more)
    low = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    return ConvTranspose2d(num_in, num_out, _KERNEL, _STRIDE, _PADDING, output_padding=extra(low, size), **more)


def _layers(
    make: Callable[..., Conv2d | ConvTranspose2d],
    num_in: int,
    num_out: int,
    size: tuple[int, int],
    activation: Activation,
    normalization: Normalization,
    padding: Padding,
    initialization: Initialization,
) -> list[nn.Module]:
    """A strided convolution, its normalization, which makes a bias needless, and the activation; a ReLU comes fused."""
    norm = normalized(normalization, num_out)
    fused = activation == "relu" and not norm
    layer = make(padding, num_in, num_out, size, bias=not norm, relu=fused)
    initialize_hidden(layer, initialization)
    return [layer, *norm, *([] if fused else [ACTIVATIONS[activation]()])]


def _flat(features: Tensor) -> Tensor:
    # Pixel by pixel, as channels_last memory has them (and Keras flattens them): so that nothing is copied.
    return features.permute(0, 2, 3, 1).flatten(1)


class ConvEncoder(nn.Module):
    """Convolutions of stride 2, then a dense layer that also reads the condition."""

    def __init__(
        self,
        shape: Shape,
        num_condition: int,
        channels: tuple[int, ...],
        dense: int,
        activation: Activation = "relu",
        normalization: Normalization = "none",
        padding: Padding = "around",
        initialization: Initialization = "glorot",
    ):
        super().__init__()
        self.num_features = dense
        widths, sizes = (shape[0], *channels), halved(shape[1:], len(channels))
        style = (activation, normalization, padding, initialization)
        self.convolutions = nn.Sequential(
            *(
                layer
                for (num_in, num_out), size in zip(pairwise(widths), sizes[:-1], strict=True)
                for layer in _layers(_down, num_in, num_out, size, *style)
            )
        )
        self.dense = initialize_hidden(
            nn.Linear(channels[-1] * math.prod(sizes[-1]) + num_condition, dense), initialization
        )
        self.activation = relu_ if activation == "relu" else ACTIVATIONS[activation]()
        cuts = tuple(range(0, len(self.convolutions) + 1, len(self.convolutions) // len(channels)))
        self._of_levels = (cuts, widths, activation, True)

    @property
    def levels(self) -> Levels:
        return Levels(self.convolutions, *self._of_levels)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.finish(self.convolutions(images), condition)

    def finish(self, features: Tensor, condition: Tensor | None = None) -> Tensor:
        """Features (batch, dense) from those of the last convolution, (batch, channels, height, width)."""
        return self.head(_flat(features), condition)

    def maps(self, images: Tensor) -> Tensor:
        """Features of the last convolution, (batch, n)."""
        return _flat(self.convolutions(images))

    def head(self, maps: Tensor, condition: Tensor | None = None) -> Tensor:
        """Features (batch, dense) from those of the last convolution."""
        return self.activation(self.dense(join(maps, condition)))


class ConvDecoder(nn.Module):
    """A dense layer that reads latents and condition, transposed convolutions of stride 2, an output convolution."""

    def __init__(
        self,
        shape: Shape,
        num_condition: int,
        num_latents: int,
        channels: tuple[int, ...],
        activation: Activation = "relu",
        normalization: Normalization = "none",
        padding: Padding = "around",
        initialization: Initialization = "glorot",
    ):
        super().__init__()
        sizes = halved(shape[1:], len(channels))[::-1]
        self.smallest = (*sizes[0], channels[-1])
        self.dense = initialize_hidden(nn.Linear(num_latents + num_condition, math.prod(self.smallest)), initialization)
        style = (activation, normalization, padding, initialization)
        widths = (channels[-1], *channels[::-1])
        layers: list[nn.Module] = []
        for (num_in, num_out), size in zip(pairwise(widths), sizes[1:], strict=True):
            layers += _layers(_up, num_in, num_out, size, *style)
        cuts = tuple(range(0, len(layers) + 1, len(layers) // len(channels)))[::-1]
        self._of_levels = (cuts, (*channels, channels[-1]), activation, True)
        layers.append(initialize(Conv2d(channels[0], shape[0], _KERNEL, 1, _PADDING)))
        self.convolutions = nn.Sequential(*layers)
        self.activation = relu_ if activation == "relu" else ACTIVATIONS[activation]()

    @property
    def levels(self) -> Levels:
        return Levels(self.convolutions, *self._of_levels)

    def forward(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.convolutions(self.start(latents, condition))

    def start(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        """Features (batch, channels, height, width) of the smallest size."""
        features = self.activation(self.dense(join(latents, condition))).view(-1, *self.smallest)
        return features.permute(0, 3, 1, 2)


@NETWORKS.register("conv")
@dataclass(frozen=True)
class Conv:
    """3x3 convolutions of stride 2, one for each level; the decoder mirrors them."""

    channels: tuple[int, ...] = leaf((32, 64), "channels of the convolutions, one for each halving", ge=1, le=4096)
    dense: int = leaf(128, "units of the dense layer after the convolutions", ge=1, le=65536)
    normalization: Normalization = leaf("none", NORMALIZATION_HELP)
    activation: Activation = leaf("relu", ACTIVATION_HELP)
    padding: Padding = leaf(
        "around", "zeros beside images of even size: around them, or after their last row and column, as Keras has them"
    )
    initialization: Initialization = leaf(
        "glorot", "first weights: glorot (as Keras has them) or he (features of one size at any depth)"
    )
    low_precision = True

    def encoder(self, shape: Shape, num_condition: int) -> nn.Module:
        return ConvEncoder(shape, num_condition, self.channels, self.dense, *self._style)

    def decoder(self, shape: Shape, num_condition: int, num_latents: int) -> nn.Module:
        return ConvDecoder(shape, num_condition, num_latents, self.channels, *self._style)

    @property
    def _style(self) -> tuple[Activation, Normalization, Padding, Initialization]:
        return self.activation, self.normalization, self.padding, self.initialization
