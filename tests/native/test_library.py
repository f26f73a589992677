"""The kernels are compiled once, by whatever compiler there is, and nothing breaks where there is none."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import vaekit
from kernels_here import need_kernels
from vaekit.cache import VARIABLE
from vaekit.errors import InputError
from vaekit.native import library
from vaekit.runs import Resolved
from vaekit.training import engine


@pytest.fixture
def kernels() -> None:
    """Skips where they cannot be had."""
    need_kernels()


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and nothing loaded."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    library.load.cache_clear()
    yield tmp_path / "cache" / "kernels"
    library.load.cache_clear()
    library.use(False)


@pytest.mark.usefixtures("kernels")
def test_they_are_compiled_once_and_kept(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library.in_use() is None
    library.use(True)
    assert isinstance(library.in_use(), ctypes.CDLL)
    (kept,) = anew.iterdir()
    made = kept.stat().st_mtime_ns
    library.load.cache_clear()
    assert library.available()
    assert [path.stat().st_mtime_ns for path in anew.iterdir()] == [made]
    assert not anew.stat().st_mode & 0o022


@pytest.mark.usefixtures("kernels")
def test_a_folder_that_others_may_write_to_is_not_run(anew: Path) -> None:
    anew.mkdir(parents=True)
    anew.chmod(0o777)
    with pytest.raises(library.UnavailableError, match="others may write to"):
        library.load()


@pytest.mark.usefixtures("kernels")
def test_without_a_compiler(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not library.available()
    with pytest.raises(library.UnavailableError, match="no C compiler"):
        library.use(True)
    assert library.in_use() is None


@pytest.mark.usefixtures("kernels")
def test_a_compiler_that_fails(anew: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\ntest \"$1\" = --version && echo 1 && exit 0\necho 'no such option' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(library.UnavailableError, match="could not compile them: no such option"):
        library.load()
    assert list(anew.iterdir()) == []  # nothing half-made is left


def test_another_machine(monkeypatch: pytest.MonkeyPatch, anew: Path) -> None:
    monkeypatch.setattr(library.platform, "machine", lambda: "arm64")
    assert not library.available()
    with pytest.raises(InputError, match=r"^--kernels native: they are made for Linux on x86-64; choose auto$"):
        engine._kernels("native", "cpu")
    assert engine._kernels("auto", "cpu") == "torch"


def test_they_are_chosen_where_they_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "available", lambda: True)
    assert engine._kernels("auto", "cpu") == "native"
    assert engine._kernels("auto", "cuda") == "torch"
    assert engine._kernels("torch", "cpu") == "torch"
    with pytest.raises(InputError, match=r"^--kernels native: they compute on a CPU"):
        engine._kernels("native", "cuda")


@pytest.mark.usefixtures("kernels")
def test_a_run_keeps_to_what_it_began_with(tmp_path: Path) -> None:
    common = {"data": "digits", "channels": (32, 32), "dense": 8, "epochs": 1, "batch_size": 64, "threads": 1}
    run = vaekit.train(tmp_path / "run", "conv", precision="bfloat16", kernels="native", **common)
    assert run.resolved.kernels == "native"
    assert library.in_use() is not None
    other = vaekit.train(tmp_path / "other", "conv", precision="bfloat16", kernels="torch", **common)
    assert other.resolved.kernels == "torch"
    assert library.in_use() is None
    vaekit.resume(run.path)
    assert library.in_use() is not None
    library.use(False)


def test_runs_of_before_they_could_be_chosen_go_on_with_torch() -> None:
    assert Resolved("cpu", "bfloat16", 2, 1).kernels == "torch"
