"""A moving average of a model's weights, which often generalizes better than the last ones.

Polyak and Juditsky 1992; with a warm-up that forgets the first, random weights, as TensorFlow's ExponentialMovingAverage.
It costs one more float32 copy of the weights (4 bytes a parameter, beside 16 for weight, gradient and Adam's moments), and
a second one for the moment of an update.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """average <- average + w * (weights - average), where w = max(1 - decay, 9 / (10 + t)) after t earlier updates.

    So the decay at first is (1 + t) / (10 + t), and the initial weights are soon forgotten. Parameters are averaged;
    buffers, such as a codebook, are those of the present model (`vaekit.training.settling` makes some anew).

    Args:
        model: whose weights are averaged; the average begins as they are now, with their strides.
        decay: from 0 (the average is the last weights) to below 1; about 1 / (1 - decay) steps are averaged.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model, self.decay = model, decay
        self.weights = dict(model.named_parameters())
        self.tensors = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def begin(self) -> None:
        """Make the average the present weights."""
        for name, weight in self.weights.items():
            self.tensors[name].copy_(weight)

    @torch.no_grad()
    def update(self, step: Tensor) -> None:
        """Move towards the present weights; `step` is an int64 tensor without axes, the number of earlier updates.

        Nothing is read on the host, so that a captured graph can hold it.
        """
        weight = (9.0 / (step + 10.0)).clamp(min=1.0 - self.decay)
        averages = list(self.tensors.values())
        towards = torch._foreach_sub(list(self.weights.values()), averages)
        torch._foreach_mul_(towards, weight)
        torch._foreach_add_(averages, towards)

    def state(self) -> dict[str, Tensor]:
        """The model's state with averaged weights, not copied."""
        same = {id(weight): self.tensors[name] for name, weight in self.weights.items()}
        return {
            name: same.get(id(value), value.detach()) for name, value in self.model.state_dict(keep_vars=True).items()
        }

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the averaged weights; they change places in memory that a captured graph knows."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self.weights.items():
            kept = weight.clone()
            weight.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)
