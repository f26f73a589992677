"""Fixtures shared by all tests. Tests that need real files skip without the variable VAEKIT_DATA."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vaekit.data.download import VARIABLE
from vaekit.data.images import Splits
from vaekit.data.splits import load_splits
from vaekit.native import library
from vaekit.runs import Run


@pytest.fixture(scope="session")
def digits() -> Splits:
    """The splits of the embedded digits: 8x8 grey images of ten classes."""
    return load_splits("digits", None)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of official data files; skips where there is none."""
    value = os.environ.get(VARIABLE)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{VARIABLE} names no folder of data sets")
    return Path(value)


@pytest.fixture(scope="session")
def mnist(data_folder: Path) -> Splits:
    """The splits of MNIST; skips without its files."""
    if not (data_folder / "mnist").is_dir():
        pytest.skip(f"{VARIABLE} holds no mnist")
    return load_splits("mnist", data_folder)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny model trained on the digits for two epochs. Shared: read it, do not change it."""
    from vaekit.training.reporting import Silent
    from vaekit.training.train import train

    return train(
        tmp_path_factory.mktemp("trained") / "run",
        "mlp",
        data="digits",
        latent_dim=4,
        hidden=(32,),
        epochs=2,
        batch_size=64,
        device="cpu",
        threads=1,
        observer=Silent(),
    )


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, trained_run: Run) -> dict[str, Run]:
    """A plain, a conditional and a denoising run. Shared: read them, do not change them."""
    from vaekit.training.reporting import Silent
    from vaekit.training.train import train

    made, folder = {"mlp": trained_run}, tmp_path_factory.mktemp("runs")
    for name in ("cvae-onehot", "denoising"):
        made[name] = train(
            folder / name,
            name,
            data="digits",
            validation=160,
            channels=(4, 8),
            dense=16,
            epochs=2,
            device="cpu",
            threads=1,
            observer=Silent(),
        )
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, made the present one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
