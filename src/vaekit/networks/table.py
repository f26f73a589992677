"""The table of networks, and what an entry must be able to build."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from vaekit.tables import Table

NETWORKS = Table("network", "vaekit.networks")
Shape = tuple[int, int, int]


class Encoder(Protocol):
    """`forward(images (batch, channels, height, width), condition (batch, k) or None) -> (batch, num_features)`."""

    num_features: int

    def __call__(self, images: Tensor, condition: Tensor | None) -> Tensor: ...


class Network(Protocol):
    """An entry: builds an encoder and a decoder for images of a shape (channels, height, width).

    `low_precision` says that bfloat16 gives the same loss as float32 and pays.
    """

    low_precision: bool

    def encoder(self, shape: Shape, num_condition: int) -> nn.Module: ...

    def decoder(self, shape: Shape, num_condition: int, num_latents: int) -> nn.Module: ...
