"""Batches: fixed-size cuts of joined permutations, made on the device from packed images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from vaekit.config import choice, leaf
from vaekit.corruptions.table import CORRUPTIONS, Clean, Corruption
from vaekit.data.binarization import BINARIZATIONS, Binarization, Grey
from vaekit.data.images import DataInfo
from vaekit.data.sizing import Sizing
from vaekit.noise import Noise, seed_key


class Batch(NamedTuple):
    """What a model sees.

    Attributes:
        input: (batch, channels, height, width) in [0, 1], what the encoder reads; its size may differ from the target's.
        target: (batch, channels, height, width) in [0, 1], what the likelihood scores.
        condition: int64 (batch,) labels, or float32 (batch, k) attributes, NaN where unknown, or None.
        mask: None, or (batch, channels, height, width) with 1 where the target is observed.
        index: int64 (batch,), positions in the data set.
    """

    input: Tensor
    target: Tensor
    condition: Tensor | None
    mask: Tensor | None
    index: Tensor  # type: ignore[assignment]  # tuples have a method of this name, which nobody calls here


@dataclass(frozen=True)
class Data:
    """The data set and what is done to its images."""

    data: str = leaf(
        "mnist", "named data set (see vaekit list data), a folder or archive of images, a .npy or .npz file"
    )
    target: str | None = leaf(None, "clean images to restore those of --data to, matched by name: a folder or archive")
    sizing: Sizing = field(default_factory=Sizing)
    validation: int | None = leaf(None, "training images held out to validate on (none: 5000, or a tenth)", ge=0)
    train_limit: int | None = leaf(None, "use only so many training images (none: all)", ge=1)
    group_by: Literal["auto", "folder", "none"] = leaf(
        "auto", "what no split may cut in two: auto (what the set says, such as a person), folder or none"
    )
    binarization: Binarization = choice(BINARIZATIONS, Grey, "how grey pixels become targets")
    corruption: Corruption = choice(CORRUPTIONS, Clean, "what is done to the input, the target staying clean")

    @property
    def restores(self) -> bool:
        """Whether the encoder reads something else than the target."""
        return self.target is not None or not isinstance(self.corruption, Clean)

    def is_binary(self, info: DataInfo) -> bool:
        """Whether targets are 0 or 1 only."""
        return info.binary or self.binarization.binary

    def batch(self, images: Picked, index: Tensor, noise: Noise) -> Batch:
        """The batch of the images at `index`; `noise` decides binarization and corruption."""
        target = self.binarization(images.unit(index), noise)
        given = images.input_unit(index)
        seen = self.corruption(target if given is None else given, noise)
        return Batch(seen, target, images.condition(index), None, noise.index)


class Batches(Protocol):
    """Makes batches: `Data`, or what changes those of one."""

    def batch(self, images: Picked, index: Tensor, noise: Noise) -> Batch: ...


class Picked(Protocol):
    """Images that a batch is made from: of a set, or those of the present step alone."""

    def unit(self, index: Tensor) -> Tensor: ...

    def input_unit(self, index: Tensor) -> Tensor | None: ...

    def condition(self, index: Tensor) -> Tensor | None: ...


class Order:
    """The order of training images: a new permutation each epoch, joined end to end and cut into full batches.

    Follows from (seed, epoch) alone, so every process and every resumed run sees the same.

    >>> order = Order(num_images=5, batch_size=2, seed=0)
    >>> [order.steps_at(epoch) for epoch in (1, 2)]
    [2, 5]
    >>> sorted(torch.cat([order.batch(step) for step in range(5)]).tolist())
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, device: torch.device | str = "cpu"):
        self.num_images, self.batch_size, self.seed, self.device = num_images, batch_size, seed, device
        self._cached: dict[int, Tensor] = {}

    def steps_at(self, epoch: int) -> int:
        """Number of full batches in the first `epoch` epochs."""
        return epoch * self.num_images // self.batch_size

    def _permutation(self, epoch: int) -> Tensor:
        if epoch not in self._cached:
            generator = torch.Generator().manual_seed(seed_key(self.seed, "order", epoch) & ((1 << 63) - 1))
            order = torch.randperm(self.num_images, generator=generator)
            self._cached = {e: p for e, p in self._cached.items() if e >= epoch - 1}
            self._cached[epoch] = order.to(self.device, non_blocking=True)
        return self._cached[epoch]

    def batch(self, step: int) -> Tensor:
        """int64 (batch_size,): the images of one step."""
        first, last = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while first < last:
            epoch, offset = divmod(first, self.num_images)
            part = self._permutation(epoch)[offset : offset + last - first]
            parts.append(part)
            first += len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)
