"""The table of networks, and what an entry must be able to build."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor, nn

from vaekit.networks.layers import Activation
from vaekit.tables import Table

NETWORKS = Table("network", "vaekit.networks")
Shape = tuple[int, int, int]


class Levels(NamedTuple):
    """The layers of an encoder or a decoder by the sizes of `halved`: level 0 has the full size, each next one half of it.

    Attributes:
        layers: all of them, in the order they are called in.
        cuts: for each level, the place in `layers` where the features between two layers have its size.
        channels: of these features; those of level 0 of an encoder are the image's.
        activation: the network's.
        activated: whether these features have been through it.
    """

    layers: nn.Sequential
    cuts: tuple[int, ...]
    channels: tuple[int, ...]
    activation: Activation
    activated: bool


class LevelledEncoder(Protocol):
    """An encoder whose forward is ``finish(levels.layers(images), condition)``; see `vaekit.networks.progressive`."""

    @property
    def levels(self) -> Levels: ...

    def finish(self, features: Tensor, condition: Tensor | None = None) -> Tensor: ...


class LevelledDecoder(Protocol):
    """A decoder whose forward is ``levels.layers(start(latents, condition))``."""

    @property
    def levels(self) -> Levels: ...

    def start(self, latents: Tensor, condition: Tensor | None = None) -> Tensor: ...


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
