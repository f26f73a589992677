"""Work for many clients on one model: requests wait in a line and are joined into batches on one thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vaekit.errors import RunError

AT_ONCE = 64  # images in a batch: some ten milliseconds for the models of the presets
_MOST_WAITING = 20_000  # images; beyond, a request is refused at once


class BusyError(RunError):
    """More is asked for than can be done soon."""


@dataclass
class _Request:
    chart: Tensor
    weights: Tensor | None
    future: asyncio.Future[Tensor]
    done: list[Tensor] = field(default_factory=list)
    taken: int = 0

    @property
    def left(self) -> int:
        return len(self.chart) - self.taken


class Decoding:
    """Decodes for many clients in turn.

    Each round takes a few places of every request that waits, so a large one does not hold up the small ones, and decodes
    them together.

    Args:
        decode: (chart (n, latent), weights (n, k) or None) to levels, uint8 (n, ...); called on one thread.
    """

    def __init__(self, decode: Callable[[Tensor, Tensor | None], Tensor]):
        self.decode = decode
        self.pool = ThreadPoolExecutor(1, "decoding")
        self._waiting: deque[_Request] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, chart: Tensor, weights: Tensor | None) -> Tensor:
        """Levels, uint8 (n, ...), of places (n, latent).

        Raises:
            BusyError: when too much waits already.
        """
        if sum(request.left for request in self._waiting) + len(chart) > _MOST_WAITING:
            raise BusyError("too many requests wait already; try again in a moment")
        request = _Request(chart, weights, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._work())
        return await request.future

    async def run(self, work: Callable[[], object]) -> object:
        """Any other work on the model, on the same thread, so that two never compute at once."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    async def _work(self) -> None:
        while self._waiting:
            self._waiting = deque(request for request in self._waiting if not request.future.done())  # clients left
            if not self._waiting:
                return
            share = max(1, AT_ONCE // len(self._waiting))
            # whoever came first is served first where there are more clients than places in a batch
            taken = [(request, min(share, request.left)) for request in list(self._waiting)[:AT_ONCE]]
            parts = [request.chart[request.taken : request.taken + count] for request, count in taken]
            # weights are all there or all absent: they are of one model
            weights = [
                request.weights[request.taken : request.taken + count]
                for request, count in taken
                if request.weights is not None
            ]
            joined = torch.cat(weights) if weights else None
            try:
                levels = await asyncio.get_running_loop().run_in_executor(
                    self.pool, self.decode, torch.cat(parts), joined
                )
            except Exception as problem:
                for request, _ in taken:
                    if not request.future.done():
                        request.future.set_exception(problem)
                continue
            for (request, count), part in zip(taken, levels.split([count for _, count in taken]), strict=True):
                request.done.append(part)
                request.taken += count
                if not request.left and not request.future.done():
                    request.future.set_result(torch.cat(request.done))
            self._waiting = deque(request for request in self._waiting if request.left)

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
