"""How a label, or attributes, become a vector that encoder and decoder read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.config import leaf
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.networks.vectors import OPTION, read_vectors
from vaekit.noise import Noise
from vaekit.tables import Table

CONDITIONINGS = Table("conditioning", "vaekit.networks")

UNKNOWN = -1  # the label of an image whose class is not told
_EMBEDDING_DIM = 8


class Conditioning(Protocol):
    """An entry: builds a module from labels (batch,) or attributes (batch, n) to codes (batch, size(info)), or None.

    The module says in `num_classes` how many labels it knows, or in `num_attributes` how many attributes it reads, in
    `label_dropout` how often training hides them, and in `labelled` of which share of the images it knows them (see
    `hide`).
    """

    def lacks(self, info: DataInfo) -> str | None:
        """What the data would need to have and do not: ``labels``, ``attributes`` or None."""
        ...

    def size(self, info: DataInfo) -> int: ...

    def build(self, info: DataInfo) -> nn.Module | None: ...


def told(index: Tensor, labelled: float) -> Tensor:
    """Which of the training images at `index` (batch,) training is told the conditions of, bool: always the same ones.

    Args:
        index: numbers of images.
        labelled: share of all images.
    """
    always = Noise(torch.zeros((), dtype=torch.int64, device=index.device), index)
    return always.uniform("labelled", ()) < labelled


def hide(condition: Tensor, probability: float, noise: Noise, labelled: float = 1.0) -> Tensor:
    """Labels (batch,) or attributes (batch, n), those of some images made unknown: -1, or a row of NaN.

    With a model that sees both, one can draw with a condition and without (Ho and Salimans 2022, arXiv:2207.12598).

    Args:
        condition: labels or attributes.
        probability: chance that those of an image are hidden this time.
        noise: of the step.
        labelled: share of the images that are ever told of, see `told`: those of the others are never shown.
    """
    hidden = noise.uniform("label dropout", ()) < probability
    if labelled < 1.0:
        hidden = hidden | ~told(noise.index, labelled)
    if condition.is_floating_point():
        return condition.masked_fill(hidden[:, None], float("nan"))
    return condition.masked_fill(hidden, UNKNOWN)


class OneHotCode(nn.Module):
    """One-hot vectors (batch, num_classes); an unknown label is zeros."""

    def __init__(self, num_classes: int, label_dropout: float = 0.0, labelled: float = 1.0):
        super().__init__()
        self.num_classes, self.label_dropout, self.labelled = num_classes, label_dropout, labelled

    def forward(self, labels: Tensor) -> Tensor:
        classes = torch.arange(self.num_classes, device=labels.device)
        return (labels[:, None] == classes).float()


class LabelEmbedding(nn.Embedding):
    """Vectors (num_classes, embedding_dim), initialized as Keras has it: uniform from -0.05 to 0.05.

    Args:
        num_classes: number of labels.
        embedding_dim: size of their vectors.
        label_dropout: above 0, a further vector is learned for the unknown label.
        labelled: the same below 1.
        file: where `begin` finds vectors to start from.
        frozen: whether they stay as they are: then they are no parameters.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        label_dropout: float = 0.0,
        file: str | None = None,
        frozen: bool = False,
        labelled: float = 1.0,
    ):
        super().__init__(num_classes, embedding_dim)
        self.num_classes, self.label_dropout, self.file, self.labelled = num_classes, label_dropout, file, labelled
        nn.init.uniform_(self.weight, -0.05, 0.05)
        if frozen:
            fixed = self.weight.detach()
            del self.weight
            self.register_buffer("weight", fixed)
        if label_dropout > 0 or labelled < 1:
            self.unknown = nn.Parameter(torch.empty(1, embedding_dim).uniform_(-0.05, 0.05))

    def forward(self, labels: Tensor) -> Tensor:
        if not hasattr(self, "unknown"):
            return super().forward(labels)
        rows = torch.cat([self.weight, self.unknown])
        return F.embedding(labels.masked_fill(labels < 0, self.num_classes), rows)

    @torch.no_grad()
    def begin(self) -> None:
        """Take the vectors of the file.

        Raises:
            InputError: when they are not of this number of classes, or not of this size.
        """
        if self.file is None:
            return
        vectors = read_vectors(self.file)
        if len(vectors) != self.num_classes:
            raise InputError(
                f"{OPTION} {self.file!r}: holds vectors of {len(vectors)} classes and the data have {self.num_classes}; "
                "give one for each class"
            )
        if vectors.shape[1] != self.embedding_dim:
            raise InputError(
                f"--embedding-dim: {self.embedding_dim} is not the {vectors.shape[1]} of {OPTION} {self.file!r}; "
                "leave one of them out"
            )
        self.weight.copy_(vectors)


class AttributeCode(nn.Module):
    """Attributes (batch, n), each standardized by its mean and scale over the training images; unknown ones are 0."""

    def __init__(
        self, means: tuple[float, ...], scales: tuple[float, ...], label_dropout: float = 0.0, labelled: float = 1.0
    ):
        super().__init__()
        self.num_attributes, self.label_dropout, self.labelled = len(means), label_dropout, labelled
        self.register_buffer("means", torch.tensor(means))
        self.register_buffer("scales", torch.tensor(scales))
        self.means: Tensor
        self.scales: Tensor

    def forward(self, attributes: Tensor) -> Tensor:
        return ((attributes - self.means) / self.scales).nan_to_num(nan=0.0)


def _dropout(what: str) -> float:
    help = f"chance that training hides {what}, so that samples can be drawn without"
    chance: float = leaf(0.0, help, ge=0, lt=1)
    return chance


def _labelled(what: str) -> float:
    help = f"share of the training images whose {what} is told, always the same ones; the others train without"
    share: float = leaf(1.0, help, gt=0, le=1)
    return share


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

    label_dropout: float = _dropout("an image's label")
    labelled: float = _labelled("label")

    def size(self, info: DataInfo) -> int:
        return len(info.class_names)

    def build(self, info: DataInfo) -> nn.Module | None:
        return OneHotCode(len(info.class_names), self.label_dropout, self.labelled)


@CONDITIONINGS.register("embedding")
@dataclass(frozen=True)
class Embedding(_ByLabel):
    """The label as a learned vector."""

    embedding_dim: int | None = leaf(
        None, "size of the vector learned for each label (none: 8, or as --embedding-file has it)", ge=1, le=4096
    )
    embedding_file: str | None = leaf(
        None, "vectors to start from, (classes, size): a .npy or .safetensors file, or a run (none: random ones)"
    )
    freeze_embedding: bool = leaf(False, "whether the labels' vectors stay as they start")
    label_dropout: float = _dropout("an image's label")
    labelled: float = _labelled("label")

    def size(self, info: DataInfo) -> int:
        return self.embedding_dim or _EMBEDDING_DIM

    def build(self, info: DataInfo) -> nn.Module | None:
        return LabelEmbedding(
            len(info.class_names),
            self.size(info),
            self.label_dropout,
            self.embedding_file,
            self.freeze_embedding,
            self.labelled,
        )

    def settled(self) -> Embedding:
        """The same for a run folder: what follows from the file is written down, and where it is, from the root."""
        if self.embedding_file is None:
            return self
        size = self.embedding_dim or read_vectors(self.embedding_file).shape[1]
        file = str(Path(self.embedding_file).expanduser().resolve())
        return replace(self, embedding_dim=size, embedding_file=file)


@CONDITIONINGS.register("attributes")
@dataclass(frozen=True)
class Attributes:
    """Attributes, continuous or of two values, standardized; of data that have labels too, only the labels are read."""

    label_dropout: float = _dropout("an image's attributes")
    labelled: float = _labelled("row of attributes")

    def lacks(self, info: DataInfo) -> str | None:
        if info.attribute_names and info.class_names:
            raise InputError(
                f"--conditioning attributes: {info.name!r} has labels too, and these come first; leave the labels out"
            )
        return None if info.attribute_names else "attributes"

    def size(self, info: DataInfo) -> int:
        return len(info.attribute_names)

    def build(self, info: DataInfo) -> nn.Module | None:
        return AttributeCode(info.attribute_means, info.attribute_scales, self.label_dropout, self.labelled)
