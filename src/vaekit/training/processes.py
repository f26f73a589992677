"""One process or many: torch.distributed under torchrun, with one gradient reduction for every player.

Gradients are averaged in one flat buffer after the backward passes. For models of this size that costs less than hooks
would save, and it serves objectives with several players alike.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


class Processes:
    """The group this process belongs to; without torchrun, a group of one.

    Attributes:
        rank: number of this process.
        count: number of processes.
    """

    def __init__(self, device: torch.device):
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(dist.destroy_process_group)  # else its threads may abort a process that ends well

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, index: Tensor) -> Tensor:
        """This process's part of the images of one step, contiguous."""
        return index if self.count == 1 else index.chunk(self.count)[self.rank]

    def average(self, tensors: Iterable[Tensor | None]) -> None:
        """Replace each tensor, such as a gradient, by its mean over the processes, in place; None is passed over."""
        if self.count == 1:
            return
        given = [tensor for tensor in tensors if tensor is not None]
        flat = torch.cat([tensor.flatten() for tensor in given])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(given, flat.split([tensor.numel() for tensor in given]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over the processes."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> Tensor:
        """Tensors (batch, ...) of all processes joined along the first axis, with gradients."""
        if self.count == 1:
            return values
        from torch.distributed.nn.functional import all_gather

        return torch.cat(all_gather(values))

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            dist.barrier()
