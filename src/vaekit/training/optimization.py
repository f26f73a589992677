"""Adam for each player, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from vaekit.objectives.table import INFERENCE, MODEL
from vaekit.settings import Training


def learning_rate(training: Training, step: int, total_steps: int) -> float:
    """The learning rate of a step counted from 0: linear warm-up, then a half cosine to zero, or stages.

    Stage i, from 0, has the highest rate times 10^(-i/7) and lasts 3^i parts of what is left after the warm-up: with 8
    stages and 3,280 epochs the schedule of Burda, Grosse and Salakhutdinov 2016 (arXiv:1509.00519), section 5.

    >>> settings = Training(learning_rate=1.0, warmup=0.5)
    >>> [round(learning_rate(settings, step, 4), 3) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    warmup = round(training.warmup * total_steps)
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    if training.decay == "none":
        return training.learning_rate
    progress = (step - warmup) / max(total_steps - warmup, 1)
    if training.decay == "stages":
        parts = progress * (3**training.decay_stages - 1) / 2  # (3^i - 1) / 2 of them lie before stage i
        stage = sum(parts >= (3**i - 1) / 2 for i in range(1, training.decay_stages))
        return training.learning_rate * 10.0 ** (-stage / 7)
    return training.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


class Optimizers:
    """One fused Adam for each player; the learning rate is a tensor where a captured graph must see it change."""

    def __init__(
        self,
        players: Mapping[str, nn.Module],
        training: Training,
        device: torch.device,
        rates: Mapping[str, float] | None = None,
        inference: Iterable[nn.Parameter] = (),
    ):
        captured = device.type == "cuda"
        rate: float | Tensor = torch.zeros((), device=device) if captured else 0.0
        self.clip = training.gradient_clip
        self.rates = dict(rates or {})
        self.inference = {id(parameter) for parameter in inference}
        self.parameters = {
            name: [each for each in module.parameters() if each.requires_grad] for name, module in players.items()
        }
        self.adams = {
            name: torch.optim.Adam(
                parameters,
                lr=rate.clone() if isinstance(rate, Tensor) else rate,
                betas=(0.9, 0.999),
                eps=training.adam_epsilon,
                fused=True,
                capturable=captured,
            )
            for name, parameters in self.parameters.items()
            if parameters
        }
        for adam in self.adams.values():
            adam._warned_capturable_if_run_uncaptured = True  # the first steps run eagerly on purpose

    def set_learning_rate(self, value: float) -> None:
        for name, adam in self.adams.items():
            of_player = value * self.rates.get(name, 1.0)
            for group in adam.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(of_player)
                else:
                    group["lr"] = of_player

    def backward(self, losses: Mapping[str, Tensor]) -> None:
        """Fill each player's gradients with those of its own loss; a loss of ``inference`` is for that part of the model."""
        for parameter in self.all_parameters():  # a tenth of the time of the optimizers' own zero_grad
            parameter.grad = None
        if len(losses) == 1:
            next(iter(losses.values())).backward()
            return
        for name, loss in losses.items():
            parameters = self._moved_by(name, split=INFERENCE in losses)
            if not parameters:
                continue
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None and gradient.stride() != parameter.stride():
                    gradient = torch.empty_like(parameter).copy_(gradient)  # fused Adam pairs them by memory order
                parameter.grad = gradient

    def _moved_by(self, name: str, split: bool) -> list[nn.Parameter]:
        """The parameters that a loss moves; with `split`, those of the model have two losses."""
        if not split or name not in (MODEL, INFERENCE):
            return self.parameters[name]
        return [each for each in self.parameters[MODEL] if (id(each) in self.inference) == (name == INFERENCE)]

    def step(self) -> None:
        """Clip each player's gradients, if asked for, and move its parameters."""
        for name, adam in self.adams.items():
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.parameters[name], self.clip)
            adam.step()

    def all_parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.parameters.values() for parameter in group]

    def state(self) -> dict[str, Tensor]:
        """Every tensor of the optimizers' state, by ``player/number/name``."""
        return {
            f"{name}/{number}/{key}": value
            for name, adam in self.adams.items()
            for number, parameter in enumerate(self.parameters[name])
            for key, value in adam.state.get(parameter, {}).items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore `state`. Moments take the strides of their weights: contiguous ones would pair with the wrong entries."""
        for name, adam in self.adams.items():
            for number, parameter in enumerate(self.parameters[name]):
                prefix = f"{name}/{number}/"
                stored = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
                if not stored:
                    continue
                adam.state[parameter] = {
                    key: torch.empty_like(parameter, dtype=value.dtype).copy_(value)
                    if value.shape == parameter.shape
                    else value.to(parameter.device)
                    for key, value in stored.items()
                }
