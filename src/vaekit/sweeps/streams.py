"""Several trainings on one GPU at once, each on a stream of its own.

A step of a small convolutional model keeps a large GPU busy in part only, and stacked convolutions are slower than their
members. So each member has its own captured graph, and its own stream: one thread starts the step of every member, and the
device works at as many of them as it has room for. Members share nothing but the images, which none of them writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from vaekit.sweeps.joint import may_join
from vaekit.training.trainer import Trainer

SIDE_BY_SIDE = 8  # each holds its weights, its moments and the memory of its graph


class Streams:
    """The steps of several trainings, side by side on the device. On a CPU there are no streams: one after the other.

    Args:
        trainers: on one device; any configurations.
    """

    def __init__(self, trainers: Sequence[Trainer]):
        self.trainers = list(trainers)
        device = self.trainers[0].device
        self.streams: dict[int, torch.cuda.Stream | None] = dict.fromkeys(map(id, self.trainers))
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # weights and images were made on other streams
            self.streams = {id(trainer): torch.cuda.Stream(device) for trainer in self.trainers}

    @staticmethod
    def may(trainer: Trainer) -> bool:
        """Whether a training gains by a stream of its own: on a GPU."""
        return trainer.device.type == "cuda" and may_join(trainer)

    def agrees(self) -> bool:
        """Each takes its own step, so it does."""
        return True

    def step(self) -> None:
        """Start the next step of each; does not wait for the device."""
        for trainer in self.trainers:
            with self.beside(trainer):
                trainer.take_step()

    def beside(self, trainer: Trainer) -> AbstractContextManager[Any]:
        """The training's own stream: whatever reads its weights waits there for its own steps, and no others'."""
        return torch.cuda.stream(self.streams[id(trainer)])
