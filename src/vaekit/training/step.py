"""One training step as a module: batch, draw and objective, so that compilers and graphs can wrap it whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vaekit.config import flags
from vaekit.data.batches import Batch, Batches, Picked
from vaekit.models.draw import Draw
from vaekit.models.table import Model
from vaekit.noise import Noise
from vaekit.objectives import bounds
from vaekit.objectives.table import INFERENCE, MODEL, Context, Objective


class StepResult(NamedTuple):
    """Losses by player (scalars with a graph), and what is logged: scalar means over the batch, without a graph."""

    losses: dict[str, Tensor]
    logged: dict[str, Tensor]
    draw: Draw


def usage(tallies: Mapping[str, Tensor]) -> dict[str, float]:
    """What an epoch's record says of tallies (see `Draw`): by name, how many of the n occurred, and their perplexity.

    The perplexity is exp(H) of the shares p_i, H = -sum p_i log p_i: n where all occur equally often, 1 where one alone
    does. It is that of all images together; means of the perplexities of batches would grow with the batch.

    >>> usage({"codes": torch.tensor([2.0, 2.0, 0.0])})
    {'used_codes': 2, 'perplexity_codes': 2.0}
    """
    found: dict[str, float] = {}
    for name, counts in tallies.items():
        shares = counts.double() / counts.double().sum().clamp_min(1.0)
        found[f"used_{name}"] = int((counts > 0).sum())
        found[f"perplexity_{name}"] = torch.special.entr(shares).sum().exp().item()
    return found


def numeric_fields(objective: Objective) -> dict[str, float]:
    """The objective's numbers that a schedule or a sweep may change, by name."""
    return {flag.name: float(flag.value) for flag in flags(objective) if flag.type is float}


class TrainingStep(nn.Module):
    """forward(images, index, key, step, hyper) -> StepResult.

    Nothing in it reads a tensor's value on the host, so nothing in it waits for the device.

    Args:
        model: draws.
        objective: reduces the draw to losses.
        players: the objective's own modules.
        data: makes batches.
        num_train: number of training images.
        low_precision: run the networks under bfloat16 autocast.
        gather: joins tensors of all processes.
        weighed: the draw as the objective sees it, where that is another; what is logged is of the draw itself.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        players: Mapping[str, nn.Module],
        data: Batches,
        num_train: int,
        low_precision: bool = False,
        gather: Callable[[Tensor], Tensor] = lambda tensor: tensor,
        weighed: Callable[[Draw], Draw] | None = None,
    ):
        super().__init__()
        self.model, self.players = model, nn.ModuleDict(players)
        self.objective, self.data, self.num_train = objective, data, num_train
        self.low_precision, self.gather, self.weighed = low_precision, gather, weighed

    def draw(self, images: Picked, index: Tensor, key: Tensor, sample_shape: tuple[int, ...]) -> tuple[Batch, Draw]:
        noise = Noise(key, index)
        batch = self.data.batch(images, index, noise)
        with torch.autocast(index.device.type, torch.bfloat16, enabled=self.low_precision):
            return batch, self.model.draw(batch, sample_shape, noise)

    def forward(
        self, images: Picked, index: Tensor, key: Tensor, step: Tensor, hyper: Mapping[str, Tensor]
    ) -> StepResult:
        batch, draw = self.draw(images, index, key, self.objective.sample_shape)
        noise, players = Noise(key, index), dict(self.players.items())
        context = Context(step, hyper, self.num_train, self.model, noise, players, self.gather)
        seen = draw if self.weighed is None else self.weighed(draw)
        losses, terms = self.objective(seen, batch, context)
        for penalty in draw.penalties.values():
            losses |= {name: losses[name] + penalty.mean() for name in (MODEL, INFERENCE) if name in losses}
        logged = {"loss": losses[MODEL].detach(), **terms}
        logged |= {f"loss_{name}": loss.detach() for name, loss in losses.items() if name != MODEL}
        logged["distortion_nats"] = bounds.distortion(draw).detach().mean()
        if (rate := bounds.rate(draw)) is not None:
            logged["rate_nats"] = rate.detach().mean()
            if len(draw.latents) > 1:
                by_level = bounds.rate_by_level(draw)
                logged |= {f"rate_level_{level}_nats": part.detach().mean() for level, part in enumerate(by_level, 1)}
        if self.objective.sample_shape and draw.log_w is not None:
            axes = tuple(range(len(self.objective.sample_shape)))
            logged["iw_elbo_nats"] = bounds.importance_weighted(draw.log_w.detach(), axes).mean()
        logged |= {name: value.detach().mean() for name, value in draw.penalties.items()}
        return StepResult(losses, logged, draw)
