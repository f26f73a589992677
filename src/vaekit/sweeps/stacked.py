"""Several trainings that take each step together: one pass over stacked weights in place of one for each of them.

Only the step is shared. Weights, buffers and sums of a training become rows of stacked tensors, in the same memory, so that
each `Trainer` still looks, validates, records, selects and saves by itself, and its checkpoint is that of any run. The draw
and the losses are batched over the rows by torch.func; every row has the images, the noise and the numbers of its own run,
and Adam moves each row apart, with its own learning rate and its own bound on the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.conv import _ConvNd

from vaekit.data.images import Images
from vaekit.sweeps.joint import may_join, quietly
from vaekit.training.engine import runner
from vaekit.training.optimization import Optimizers
from vaekit.training.step import TrainingStep
from vaekit.training.sums import Sums
from vaekit.training.trainer import Trainer

_CLOSE = 1e-3  # norm of what a stacked step may differ by, over that of a training's own: float32 in another order
_SMALL = 1e-5


class _Whole(nn.Module):
    """A step and the changes of state after it, so that both are batched at once."""

    def __init__(self, step: TrainingStep):
        super().__init__()
        self.step = step

    def forward(
        self, images: Images, index: Tensor, key: Tensor, now: Tensor, hyper: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        losses, logged, draw = self.step(images, index, key, now, hyper)
        self.step.model.after_step(draw, lambda tensor: tensor)
        return losses, logged, {name: counts.float() for name, counts in draw.tallies.items()}


class Stack:
    """The step of several trainings, whose state it moves into rows of its own tensors.

    Args:
        trainers: of one configuration but for seed and numbers, all at the same step, with all images on the device.
    """

    def __init__(self, trainers: Sequence[Trainer]):
        self.trainers, first = list(trainers), trainers[0]
        self.images = first.feed.images
        self.whole = _Whole(first.module)
        modules = [_Whole(trainer.module) for trainer in trainers]
        named = [dict(module.named_parameters()) for module in modules]
        self.weights = {
            name: nn.Parameter(_as_rows([each[name] for each in named]), requires_grad=weight.requires_grad)
            for name, weight in named[0].items()
        }
        buffers = [dict(module.named_buffers()) for module in modules]
        self.buffers = {name: _as_rows([each[name] for each in buffers]) for name in buffers[0]}
        stacked = {id(weight): self.weights[name] for name, weight in self.whole.named_parameters()}
        self.pairs = [
            (stacked[id(weight)], [trainer.optimizers.parameters[player][place] for trainer in trainers])
            for player, weights in first.optimizers.parameters.items()
            for place, weight in enumerate(weights)
        ]
        self.gradients = Optimizers(
            {
                player: nn.ParameterList([stacked[id(weight)] for weight in weights])
                for player, weights in first.optimizers.parameters.items()
            },
            first.settings,
            first.device,
            inference=[stacked[each] for each in first.optimizers.inference if each in stacked],
        )
        self.sums = Sums.joined([trainer.sums for trainer in trainers])
        self.sums.hand_out([trainer.sums for trainer in trainers])
        self.run_step = runner(self._body, first.device)

    @staticmethod
    def may(trainer: Trainer) -> bool:
        """Whether a training may take its steps stacked with others of its kind.

        Convolutions are faster one model after the other; images that are streamed come for one order alone; a model that
        grows changes its shapes on the way.
        """
        convolves = any(isinstance(module, _ConvNd) for module in trainer.module.modules())
        resolved = trainer.run.resolved
        alone = convolves or trainer.growth is not None or resolved.precision != "float32"
        return not alone and may_join(trainer)

    def _draw(
        self, index: Tensor, key: Tensor, step: Tensor, hyper: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Losses, logged means and tallies, each with a first axis over the members; and the gradients of the weights."""

        def one(state: Mapping[str, Tensor], index: Tensor, key: Tensor, hyper: Mapping[str, Tensor]) -> Any:
            return functional_call(self.whole, dict(state), (self.images, index, key, step, hyper))

        found = vmap(one)({**self.weights, **self.buffers}, index, key, hyper)
        self.gradients.backward({name: loss.sum() for name, loss in found[0].items()})
        for stacked, rows in self.pairs:
            parts = [None] * len(rows) if stacked.grad is None else stacked.grad.unbind()
            for row, gradient in zip(rows, parts, strict=True):
                row.grad = gradient
        return found

    def _body(self, index: Tensor, key: Tensor, step: Tensor, hyper: Mapping[str, Tensor]) -> None:
        """One whole step of all: index (members, batch), key (members,), step without axes, numbers (members,)."""
        _, logged, tallies = self._draw(index, key, step, hyper)
        for row, trainer in enumerate(self.trainers):
            trainer.optimizers.step()
            trainer.objective.after_step(trainer.model, {name: value[row] for name, value in hyper.items()})
            if trainer.average:
                trainer.average.update(step)
        self.sums.add(self.sums.stacked(logged), tallies, step)

    def _arguments(self) -> tuple[Tensor, list[int], int, dict[str, list[float]]]:
        step = self.trainers[0].progress.step
        indices, keys, _, hypers = zip(*(trainer.arguments(step) for trainer in self.trainers), strict=True)
        return torch.stack(indices), list(keys), step, {name: [each[name] for each in hypers] for name in hypers[0]}

    def step(self) -> None:
        """Take the next step of all."""
        self.run_step(*self._arguments())
        if self.trainers[0].sums.total is None:  # the first step makes them
            self.sums.hand_out([trainer.sums for trainer in self.trainers])

    def beside(self, trainer: Trainer) -> AbstractContextManager[Any]:
        """Where all that is one training's own is done: nowhere in particular."""
        return nullcontext()

    def agrees(self) -> bool:
        """Whether the next step comes out as each training's own would: losses, gradients, logged means and buffers.

        Nothing is changed. What cannot be batched, or reads a number that differs between members from elsewhere than
        `Context.hyper`, is found here.
        """
        index, keys, step, hyper = self._arguments()
        device, before = index.device, {name: buffer.clone() for name, buffer in self.buffers.items()}
        now = torch.tensor(step, device=device)
        numbers = {name: torch.tensor(value, device=device) for name, value in hyper.items()}
        own: list[list[Tensor]] = []
        for row, trainer in enumerate(self.trainers):
            one = {name: value[row] for name, value in numbers.items()}
            key = torch.tensor(keys[row], device=device)
            losses, logged, tallies = _Whole(trainer.module)(self.images, index[row], key, now, one)
            trainer.optimizers.backward(losses)
            own.append([*losses.values(), *logged.values(), *tallies.values(), *self._state(row)])
        self._restore(before)
        try:
            with quietly():
                found = self._draw(index, torch.tensor(keys, device=device), now, numbers)
        except (RuntimeError, ValueError, TypeError, NotImplementedError):
            return False  # torch.func says so of operators without a rule for batches, and of branches on values
        finally:
            after = [self._state(row) for row in range(len(own))]
            self._restore(before)
            for trainer in self.trainers:
                for adam in trainer.optimizers.adams.values():
                    adam.zero_grad(set_to_none=True)
        rows = [[*(value[row] for part in found for value in part.values()), *after[row]] for row in range(len(own))]
        return all(len(a) == len(b) and all(map(_near, a, b)) for a, b in zip(own, rows, strict=True))

    def _state(self, row: int) -> list[Tensor]:
        """Copies of the gradients and buffers of a member."""
        gradients = [rows[row].grad for _, rows in self.pairs]
        buffers = [buffer[row] for buffer in self.buffers.values()]
        return [value.detach().clone() for value in (*gradients, *buffers) if value is not None]

    @torch.no_grad()
    def _restore(self, buffers: Mapping[str, Tensor]) -> None:
        for name, value in buffers.items():
            self.buffers[name].copy_(value)


def _as_rows(values: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape stacked; each becomes a row of the result, in the same memory."""
    stacked = torch.stack([value.detach() for value in values])
    for row, value in zip(stacked, values, strict=True):
        value.data = row
    return stacked


def _near(a: Tensor, b: Tensor) -> bool:
    a, b = a.detach().double(), b.detach().double()
    return a.shape == b.shape and bool((a - b).norm() <= _CLOSE * a.norm() + _SMALL)
