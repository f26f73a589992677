"""Multi-layer perceptrons on flattened images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.networks.layers import ACTIVATION_HELP, ACTIVATIONS, Activation, join, linear
from vaekit.networks.table import NETWORKS, Shape

Normalization = Literal["none", "layer"]


def dense_stack(sizes: tuple[int, ...], activation: Activation, normalization: Normalization) -> nn.Sequential:
    """Dense layers from sizes[0] to sizes[-1], each followed by its normalization and the activation."""
    layers: list[nn.Module] = []
    for num_in, num_out in pairwise(sizes):
        layers.append(linear(num_in, num_out))
        if normalization == "layer":
            layers.append(nn.LayerNorm(num_out))
        layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers)


class MLPEncoder(nn.Module):
    def __init__(
        self,
        shape: Shape,
        num_condition: int,
        hidden: tuple[int, ...],
        activation: Activation,
        normalization: Normalization,
    ):
        super().__init__()
        self.num_features = hidden[-1]
        self.layers = dense_stack((math.prod(shape) + num_condition, *hidden), activation, normalization)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.layers(join(images.flatten(1), condition))


class MLPDecoder(nn.Module):
    def __init__(
        self,
        shape: Shape,
        num_condition: int,
        num_latents: int,
        hidden: tuple[int, ...],
        activation: Activation,
        normalization: Normalization,
    ):
        super().__init__()
        self.shape = shape
        self.layers = dense_stack((num_latents + num_condition, *hidden[::-1]), activation, normalization)
        self.output = linear(hidden[0], math.prod(shape))

    def forward(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.output(self.layers(join(latents, condition))).view(-1, *self.shape)


@NETWORKS.register("mlp")
@dataclass(frozen=True)
class MLP:
    """Dense layers; the decoder mirrors the encoder."""

    hidden: tuple[int, ...] = leaf(
        (400,), "units of the encoder's dense layers, such as 400 or 200,200", ge=1, le=65536
    )
    activation: Activation = leaf("relu", ACTIVATION_HELP)
    dense_normalization: Normalization = leaf(
        "none", "normalization of the hidden layers: none, or layer (Ba et al. 2016)"
    )
    low_precision = False

    def encoder(self, shape: Shape, num_condition: int) -> nn.Module:
        return MLPEncoder(shape, num_condition, self.hidden, self.activation, self.dense_normalization)

    def decoder(self, shape: Shape, num_condition: int, num_latents: int) -> nn.Module:
        return MLPDecoder(shape, num_condition, num_latents, self.hidden, self.activation, self.dense_normalization)
