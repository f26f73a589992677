"""Fixtures of tests that need the kernels: they skip where this machine cannot have them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from vaekit.native import library


@pytest.fixture
def kernels_here() -> Iterator[None]:
    """The kernels can be used; the number of threads is one again afterwards."""
    if problem := library.problem():
        pytest.skip(problem)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def in_use(kernels_here: None) -> Iterator[None]:
    """Within the test, the kernels are used."""
    with library.using(True):
        yield
