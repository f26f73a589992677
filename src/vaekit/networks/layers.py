"""Small pieces that the networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def initialize(layer: nn.Module) -> nn.Module:
    """Glorot's uniform weights (Glorot and Bengio 2010) and zero biases, as Keras has them, in place."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(num_in: int, num_out: int) -> nn.Linear:
    """A dense layer, initialized."""
    layer = nn.Linear(num_in, num_out)
    initialize(layer)
    return layer


def join(features: Tensor, condition: Tensor | None) -> Tensor:
    """Features (batch, n) with the condition's code (batch, k), if there is one, appended."""
    return features if condition is None else torch.cat([features, condition.to(features.dtype)], -1)
