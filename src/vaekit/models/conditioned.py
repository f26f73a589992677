"""What every model with a likelihood and a condition shares: reading conditions, hiding them, the likelihood's own state."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vaekit.data.batches import Batch
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.models.draw import Draw
from vaekit.models.table import Model
from vaekit.networks.conditioning import CONDITIONINGS, UNKNOWN, Conditioning, hide
from vaekit.noise import Noise


class ConditionedModel(Model):
    """A model that scores images by a likelihood and may read labels or attributes.

    Attributes:
        likelihood: a decoder's output to a distribution over images; see `vaekit.probability.likelihoods.Likelihood`.
        conditioning: labels (batch,), or attributes (batch, n), to codes (batch, k), with an attribute `num_classes` or
            `num_attributes`; None for no condition. Its `label_dropout`, where it has one, is the chance that training
            hides the condition of an image, its `labelled` the share of the images that training is told of, and its
            `begin` reads the files that a training starts from.
    """

    likelihood: nn.Module
    conditioning: nn.Module | None

    @property
    def num_classes(self) -> int | None:
        return getattr(self.conditioning, "num_classes", None)

    @property
    def num_attributes(self) -> int | None:
        return getattr(self.conditioning, "num_attributes", None)

    @property
    def accepts_unknown(self) -> bool:
        return self.label_dropout > 0 or self.labelled < 1

    @property
    def label_dropout(self) -> float:
        """Chance that training hides the condition of an image."""
        return getattr(self.conditioning, "label_dropout", 0.0)

    @property
    def labelled(self) -> float:
        """Share of the training images whose condition is told."""
        return getattr(self.conditioning, "labelled", 1.0)

    def begin(self) -> None:
        begin = getattr(self.conditioning, "begin", None)
        if begin is not None:
            begin()

    def code(self, condition: Tensor | None) -> Tensor | None:
        if self.conditioning is None:
            return None
        if condition is None:
            what = "labels" if self.num_attributes is None else "attributes"
            raise InputError(f"the model is conditional and was given no {what}; give them for each image")
        return self.conditioning(condition)

    def noise_of(self, batch: Batch, noise: Noise | None) -> Noise:
        """The noise of a draw: what was given, else that of torch's global generator."""
        if noise is not None:
            return noise
        return Noise(torch.randint(1 << 62, (), device=batch.index.device), batch.index)

    def shown(self, condition: Tensor | None, noise: Noise) -> Tensor | None:
        if self.training and self.accepts_unknown and condition is not None:
            return hide(condition, self.label_dropout, noise, self.labelled)
        return condition

    def unconditional(self, code: Tensor) -> Tensor:
        """The vectors (n, k) of unknown conditions, as many as `code` (n, k) has; see `guided`."""
        assert self.conditioning is not None
        if self.num_attributes is not None:
            unknown = torch.full((1, self.num_attributes), torch.nan, device=code.device)
        else:
            unknown = torch.full((1,), UNKNOWN, device=code.device)
        return self.conditioning(unknown).expand_as(code)

    def follow(self, given: Tensor, free: Callable[[], Tensor]) -> Tensor:
        """What the condition made of an output, or as `guidance` has it: free + guidance * (given - free).

        Args:
            given: an output under the condition.
            free: makes the output without it; called only where it counts.
        """
        if self.guidance == 1.0:
            return given
        without = free()
        return without + self.guidance * (given - without)

    def after_step(self, draw: Draw, gather: Callable[[Tensor], Tensor]) -> None:
        update = getattr(self.likelihood, "after_step", None)
        if update is not None:
            update(draw, gather)


def check_condition(conditioning: Conditioning, info: DataInfo) -> None:
    """Refuse a conditioning that the data have nothing for.

    Raises:
        InputError: when it reads labels or attributes and there are none.
    """
    lacks = conditioning.lacks(info)
    if lacks is not None:
        raise InputError(
            f"--conditioning {CONDITIONINGS.name_of(conditioning)}: {info.name!r} has no {lacks}; "
            f"choose none or give data with {lacks}"
        )
