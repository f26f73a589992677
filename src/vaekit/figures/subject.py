"""What figures are made of: a trained model and images; never test images, which `evaluate` alone reads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vaekit.data.batches import Batch, Data
from vaekit.data.download import data_folder
from vaekit.data.images import DataInfo, Images
from vaekit.data.splits import load_splits
from vaekit.figures.codes import Codes, measure
from vaekit.figures.fonts import drawable
from vaekit.models.table import Model
from vaekit.noise import Noise, seed_key
from vaekit.runs import Run
from vaekit.settings import Config
from vaekit.storage import load_model

_MOST_CODES, _CODES_AT_ONCE = 5000, 250


@dataclass
class Subject:
    """A model with images: held-out ones, or where none were held out, those it was trained on.

    Attributes:
        model: in evaluation mode, on the CPU.
        config: its configuration.
        info: its data.
        images: validation images where there are any, else training images.
        split: which of the two, in words.
    """

    model: Model
    config: Config
    info: DataInfo
    images: Images
    split: str

    @classmethod
    def of(cls, run: Run, data_dir: str | os.PathLike[str] | None = None) -> Subject:
        """The model of a run, and its images.

        Raises:
            InputError: when there is no model yet, or the data cannot be found.
        """
        model, config, info = load_model(run.model)
        data = config.data
        splits = load_splits(data, data_folder(data_dir))
        if splits.val is not None:
            return cls(model, config, info, splits.val, "validation")
        return cls(model, config, info, splits.train, "training")

    @property
    def data(self) -> Data:
        return self.config.data

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; of one that no font can draw, ``class`` and its number."""
        return drawable(self.info.class_names)

    @property
    def renamed(self) -> set[str]:
        """Those of `classes` that stand for names that cannot be drawn."""
        return set(self.classes) - set(self.info.class_names)

    @cached_property
    def conditional(self) -> bool:
        """Whether the model reads labels or attributes."""
        return self.model.conditional

    @cached_property
    def by_class(self) -> bool:
        """Whether the model reads labels."""
        return self.model.num_classes is not None

    @cached_property
    def told(self) -> bool:
        """Whether encoder and decoder read labels, so that latents need not hold the class."""
        return self.by_class and self.model.code_is_told

    @cached_property
    def code_name(self) -> str:
        """What stands for an image in the latent space."""
        if "vectors" not in self.model.provides:
            return "grid of codes"
        return "posterior mean" if self.model.draws_vary else "code"

    @cached_property
    def code_size(self) -> str:
        """Of how many numbers `code_name` is, in words."""
        count = self.codes.means.shape[1]
        if "vectors" in self.model.provides:
            return f"{count} latents"
        return f"{count} numbers (each code stands for its vector)"

    @cached_property
    def corrupted(self) -> bool:
        """Whether the model sees something else than its target."""
        return self.data.restores

    @cached_property
    def samples(self) -> bool:
        """Whether the model has a prior to draw from."""
        return type(self.model).sample_prior is not Model.sample_prior

    @cached_property
    def codes(self) -> Codes:
        """Where the first images, up to 5,000, lie in the latent space."""
        index = torch.arange(min(_MOST_CODES, len(self.images)))
        labels = None if self.images.labels is None else self.images.labels[index]
        return measure(self.model, map(self.batch, index.split(_CODES_AT_ONCE)), labels)

    def batch(self, index: Tensor) -> Batch:
        """The images at `index`, binarized and corrupted with the noise that evaluation uses."""
        key = torch.tensor(seed_key(0, "evaluate"))
        return self.data.batch(self.images, index, Noise(key, index))

    def examples(self, count: int) -> Batch:
        """The first `count` images, each class in turn where there are labels."""
        return self.batch(in_turn(self.images.labels, len(self.images))[:count])


def in_turn(labels: Tensor | None, count: int) -> Tensor:
    """An order of images: the first of each class, then the second, ...; unchanged without labels.

    >>> in_turn(torch.tensor([1, 1, 0, 1, 0]), 5).tolist()
    [2, 0, 4, 1, 3]
    """
    if labels is None:
        return torch.arange(count)
    by_class = np.argsort(labels.numpy(), kind="stable")
    ordered = labels.numpy()[by_class]
    turn = np.arange(count) - np.searchsorted(ordered, ordered)
    return torch.from_numpy(by_class[np.lexsort((ordered, turn))])
