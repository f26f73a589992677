"""Several runs trained in one loop, a step of all of them at a time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from vaekit.errors import DivergedError, StoppedError
from vaekit.training.feed import Resident
from vaekit.training.stopping import asked_to_stop
from vaekit.training.trainer import Trainer


class Joint(Protocol):
    """How trainings that stand side by side take a step.

    Attributes:
        trainers: those that take it.
    """

    trainers: list[Trainer]

    def __init__(self, trainers: Sequence[Trainer]) -> None: ...

    @staticmethod
    def may(trainer: Trainer) -> bool:
        """Whether a training may be one of them; asked of the first, for all of its kind."""
        ...

    def agrees(self) -> bool:
        """Whether a step comes out as each training's own would."""
        ...

    def step(self) -> None:
        """Take the next step of all, without what falls due after it."""
        ...

    def beside(self, trainer: Trainer) -> AbstractContextManager[Any]:
        """Where all that is one training's own is done, such as its validation."""
        ...


def may_join(trainer: Trainer) -> bool:
    """Whether a training may take its steps in a loop with others at all: its images wait for it on the device."""
    return isinstance(trainer.feed, Resident) and trainer.processes.count == 1 and not trainer.settings.tensorboard


@contextmanager
def quietly() -> Iterator[None]:
    """Without torch.func's advice on operators that it batches one by one: those of a step work on single numbers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        yield


class JointTrainer:
    """Trains several runs to their ends. One that ends early, or diverges, leaves the others at it.

    Args:
        trainers: of runs that this process holds.
        join: makes the way that they take a step, anew whenever one has left.
        ended: is told of each that reached its end, or of why it diverged, at once.
    """

    def __init__(
        self,
        trainers: Sequence[Trainer],
        join: Callable[[Sequence[Trainer]], Joint],
        ended: Callable[[Trainer, DivergedError | None], None],
    ):
        self.join, self.ended = join, ended
        self.active = [trainer for trainer in trainers if not trainer.progress.finished]
        for trainer in trainers:
            if trainer.progress.finished:
                ended(trainer, None)

    def fit(self) -> None:
        """Train all.

        Raises:
            StoppedError: when the process was asked to stop, with checkpoints of that very step.
        """
        with asked_to_stop() as stop, quietly():
            while self.active:
                joint = self.join(self.active)
                for trainer in self.active:
                    trainer.module.train()
                while self.active == joint.trainers:
                    self._train_step(joint)
                    if stop.is_set() and self.active:
                        self._each(joint, Trainer.pause)
                        raise StoppedError(f"stopped at step {joint.trainers[0].progress.step}")

    def _train_step(self, joint: Joint) -> None:
        """One step, whose time is shared out among the members, and what falls due after it."""
        started = time.perf_counter()
        joint.step()
        share = (time.perf_counter() - started) / len(self.active)
        self._each(joint, lambda trainer: trainer.stepped(share))

    def _each(self, joint: Joint, act: Callable[[Trainer], None]) -> None:
        """Do something with each; those that ended or diverged by it leave."""
        left = []
        for trainer in self.active:
            failure = None
            with joint.beside(trainer):
                try:
                    act(trainer)
                except DivergedError as problem:
                    failure = problem
                if failure is not None or trainer.progress.finished:
                    self.ended(trainer, failure)
                else:
                    left.append(trainer)
        self.active = left
