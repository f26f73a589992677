"""Normalization of feature maps: over the batch, or over groups of an image's own channels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

Normalization = Literal["none", "batch", "group"]
NORMALIZATION_HELP = "normalization of the convolutions' features: none, batch or group"

_GROUP = 16  # channels: the best fixed size of Wu and He 2018, table 3


class _Mean(torch.autograd.Function):
    """The mean of a tensor over all processes, with a gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values.div_(dist.get_world_size())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Mean.apply(grads[0])


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor over all processes, with a gradient; on one process the tensor itself."""
    together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return _Mean.apply(values) if together else values


class BatchNorm(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over the whole batch, whatever the number of processes that share it equally.

    One value a channel has no variance: it is normalized by the running statistics, in training too.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        count = processes * input.numel() // input.shape[1]
        if count == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input) if processes == 1 else self._shared(input, count)

    def _shared(self, input: Tensor, count: int) -> Tensor:
        """The same as on one process that had the `count` values a channel of all of them."""
        with torch.autocast(input.device.type, enabled=False):
            values = input.float()
            mean = _Mean.apply(values.mean((0, 2, 3)))
            centred = values - mean[:, None, None]
            variance = _Mean.apply(centred.square().mean((0, 2, 3)))
            unbiased = variance * (count / (count - 1))
            for running, now in ((self.running_mean, mean), (self.running_var, unbiased)):
                assert running is not None
                running.lerp_(now.detach(), self.momentum or 0.0)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            scale = self.weight * (variance + self.eps).rsqrt()
            return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm` over groups of 16 channels, or the next larger divisor, or all of them where they are fewer.

    >>> [GroupNorm(channels).num_groups for channels in (8, 16, 48, 50, 256)]
    [1, 1, 3, 2, 16]
    """

    def __init__(self, channels: int):
        size = next(size for size in range(min(_GROUP, channels), channels + 1) if channels % size == 0)
        super().__init__(channels // size, channels)


@contextmanager
def running_statistics(module: nn.Module) -> Iterator[None]:
    """Within it, batch normalization uses its running statistics, in training too, and leaves them as they are."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d) and layer.training]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True


def normalized(kind: Normalization, channels: int) -> list[nn.Module]:
    """The layers that normalize maps (batch, channels, height, width): one, or none.

    ``batch`` (Ioffe and Szegedy 2015) uses the batch's statistics in training, running ones in evaluation. ``group`` (Wu and
    He 2018) knows an image alone, in both.
    """
    if kind == "batch":
        return [BatchNorm(channels)]
    return [GroupNorm(channels)] if kind == "group" else []
