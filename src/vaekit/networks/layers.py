"""Small pieces that the networks share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
Module = TypeVar("Module", bound=nn.Module)

Activation = Literal["relu", "elu", "silu", "gelu", "leaky-relu", "tanh"]
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "leaky-relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "tanh": nn.Tanh,
}
ACTIVATION_HELP = "activation of the hidden layers: relu, elu, silu, gelu, leaky-relu or tanh"


Initialization = Literal["he", "glorot"]


def initialize(layer: Layer) -> Layer:
    """Glorot's uniform weights (Glorot and Bengio 2010) and zero biases, as Keras has them, in place."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def initialize_hidden(layer: Layer, initialization: Initialization) -> Layer:
    """Weights of a layer that an activation follows, in place; biases are zero.

    ``he``: uniform, of variance 2 / n, where n is how many values an output adds up (He et al. 2015), so that features have
    about one size at any depth, behind ReLU exactly. For a transposed convolution of stride s that is 1 / s^2 of the kernel,
    times the channels. ``glorot``: as `initialize` has it. That makes features smaller from layer to layer, by about a
    third at each transposed convolution of stride 2; then latents move the image too little to be worth their rate, and
    training stands still at first.
    """
    if initialization == "glorot":
        return initialize(layer)
    if isinstance(layer, nn.ConvTranspose2d):
        num_summed = layer.in_channels * math.prod(layer.kernel_size) / math.prod(layer.stride)
    else:
        num_summed = layer.weight[0].numel()
    bound = math.sqrt(6.0 / num_summed)
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(num_in: int, num_out: int) -> nn.Linear:
    """A dense layer, initialized."""
    return initialize(nn.Linear(num_in, num_out))


def on_device(module: Module, device: torch.device | str) -> Module:
    """The module moved to a device, the weights of its convolutions channels_last."""
    return module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def join(features: Tensor, condition: Tensor | None) -> Tensor:
    """Features (batch, n) with the condition's code (batch, k), if there is one, appended."""
    return features if condition is None else torch.cat([features, condition.to(features.dtype)], -1)
