"""Requests of many clients, joined into batches."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from torch import Tensor

from vaekit.explorer.decoding import AT_ONCE, BusyError, Decoding


def double(chart: Tensor, weights: Tensor | None) -> Tensor:
    return 2 * chart if weights is None else 2 * chart + weights.sum(1, keepdim=True)


def test_each_gets_its_own_whatever_it_is_joined_with() -> None:
    sizes: list[int] = []

    def work(chart: Tensor, weights: Tensor | None) -> Tensor:
        sizes.append(len(chart))
        return double(chart, weights)

    async def all_at_once() -> None:
        decoding = Decoding(work)
        asked = [torch.randn(count, 3) for count in (1, 150, 2, 70, 1)]
        weights = [torch.randn(len(each), 4) for each in asked]
        found = await asyncio.gather(*(decoding(*pair) for pair in zip(asked, weights, strict=True)))
        for chart, weight, answer in zip(asked, weights, found, strict=True):
            torch.testing.assert_close(answer, double(chart, weight))
        decoding.close()

    asyncio.run(all_at_once())
    assert max(sizes) <= AT_ONCE
    assert len(sizes) < 8  # one by one there would be 224 batches


def test_a_large_request_does_not_hold_up_a_small_one() -> None:
    async def both() -> list[str]:
        decoding, order = Decoding(double), []

        async def ask(name: str, count: int) -> None:
            await decoding(torch.zeros(count, 2), None)
            order.append(name)

        await asyncio.gather(ask("large", 2000), ask("small", 1))
        decoding.close()
        return order

    assert asyncio.run(both()) == ["small", "large"]


def test_a_failure_reaches_who_asked_and_the_next_is_served() -> None:
    def work(chart: Tensor, weights: Tensor | None) -> Tensor:
        if bool((chart < 0).any()):
            raise ValueError("negative")
        return chart

    async def three() -> None:
        decoding = Decoding(work)
        with pytest.raises(ValueError, match="negative"):
            await decoding(-torch.ones(2, 2), None)
        assert (await decoding(torch.ones(2, 2), None)).sum() == 4
        decoding.close()

    asyncio.run(three())


def test_a_client_that_leaves_costs_nothing_more_and_a_crowd_is_refused() -> None:
    started, go_on = threading.Event(), threading.Event()
    decoded: list[float] = []

    def work(chart: Tensor, weights: Tensor | None) -> Tensor:
        decoded.extend(chart[:, 0].tolist())
        started.set()
        go_on.wait(10)
        return chart

    async def crowd() -> None:
        decoding = Decoding(work)
        first = asyncio.create_task(decoding(torch.zeros(1, 1), None))
        await asyncio.get_running_loop().run_in_executor(None, started.wait)
        leaving = asyncio.create_task(decoding(torch.ones(3, 1), None))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(BusyError, match="too many requests wait"):
            await decoding(torch.zeros(50_000, 1), None)
        go_on.set()
        await first
        assert (await decoding(torch.full((1, 1), 2.0), None)).item() == 2.0
        decoding.close()

    asyncio.run(crowd())
    assert decoded == [0.0, 2.0]
