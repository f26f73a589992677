"""Multi-layer perceptrons on flattened images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.networks.layers import join, linear
from vaekit.networks.table import NETWORKS, Shape

Activation = Literal["relu", "tanh", "elu"]
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "tanh": nn.Tanh,
    "elu": lambda: nn.ELU(inplace=True),
}


def dense_stack(sizes: tuple[int, ...], activation: Activation) -> nn.Sequential:
    """Dense layers from sizes[0] to sizes[-1], each followed by the activation."""
    layers: list[nn.Module] = []
    for num_in, num_out in pairwise(sizes):
        layers += [linear(num_in, num_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


class MLPEncoder(nn.Module):
    def __init__(self, shape: Shape, num_condition: int, hidden: tuple[int, ...], activation: Activation):
        super().__init__()
        self.num_features = hidden[-1]
        self.layers = dense_stack((math.prod(shape) + num_condition, *hidden), activation)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.layers(join(images.flatten(1), condition))


class MLPDecoder(nn.Module):
    def __init__(
        self, shape: Shape, num_condition: int, num_latents: int, hidden: tuple[int, ...], activation: Activation
    ):
        super().__init__()
        self.shape = shape
        self.layers = dense_stack((num_latents + num_condition, *hidden[::-1]), activation)
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
    activation: Activation = leaf("relu", "activation of the hidden layers")
    low_precision = False

    def encoder(self, shape: Shape, num_condition: int) -> nn.Module:
        return MLPEncoder(shape, num_condition, self.hidden, self.activation)

    def decoder(self, shape: Shape, num_condition: int, num_latents: int) -> nn.Module:
        return MLPDecoder(shape, num_condition, num_latents, self.hidden, self.activation)
