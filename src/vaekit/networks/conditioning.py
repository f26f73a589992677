"""How a label becomes a vector that encoder and decoder read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.data.images import DataInfo
from vaekit.tables import Table

CONDITIONINGS = Table("conditioning", "vaekit.networks")


class Conditioning(Protocol):
    """An entry: builds a module from labels (batch,) or attributes (batch, n) to codes (batch, size(info)), or None.

    The module says in `num_classes` how many labels it knows, or in `num_attributes` how many attributes it reads.
    """

    def lacks(self, info: DataInfo) -> str | None:
        """What the data would need to have and do not: ``labels``, ``attributes`` or None."""
        ...

    def size(self, info: DataInfo) -> int: ...

    def build(self, info: DataInfo) -> nn.Module | None: ...


class OneHotCode(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, labels: Tensor) -> Tensor:
        classes = torch.arange(self.num_classes, device=labels.device)
        return (labels[:, None] == classes).float()


class LabelEmbedding(nn.Embedding):
    """Learned codes (num_classes, embedding_dim), initialized as Keras has it: uniform from -0.05 to 0.05."""

    def __init__(self, num_classes: int, embedding_dim: int):
        super().__init__(num_classes, embedding_dim)
        self.num_classes = num_classes
        nn.init.uniform_(self.weight, -0.05, 0.05)


class _ByLabel:
    def lacks(self, info: DataInfo) -> str | None:
        return None if info.class_names else "labels"


@CONDITIONINGS.register("none")
@dataclass(frozen=True)
class Unconditional:
    """Labels are not used."""

    def lacks(self, info: DataInfo) -> str | None:
        return None

    def size(self, info: DataInfo) -> int:
        return 0

    def build(self, info: DataInfo) -> nn.Module | None:
        return None


@CONDITIONINGS.register("onehot")
@dataclass(frozen=True)
class OneHot(_ByLabel):
    """The label as a one-hot vector (Sohn, Lee and Yan 2015)."""

    def size(self, info: DataInfo) -> int:
        return len(info.class_names)

    def build(self, info: DataInfo) -> nn.Module | None:
        return OneHotCode(len(info.class_names))


@CONDITIONINGS.register("embedding")
@dataclass(frozen=True)
class Embedding(_ByLabel):
    """The label as a learned vector."""

    embedding_dim: int = leaf(8, "size of the vector learned for each label", ge=1, le=4096)

    def size(self, info: DataInfo) -> int:
        return self.embedding_dim

    def build(self, info: DataInfo) -> nn.Module | None:
        return LabelEmbedding(len(info.class_names), self.embedding_dim)
