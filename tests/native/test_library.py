"""The kernels are compiled once, by whatever compiler there is, and nothing breaks where there is none."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import vaekit
from vaekit.cache import VARIABLE
from vaekit.errors import InputError
from vaekit.native import library
from vaekit.runs import Resolved
from vaekit.training import engine, train
from vaekit.training.reporting import Silent
from vaekit.training.trainer import Trainer


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and nothing loaded."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    library._loaded.cache_clear()
    yield tmp_path / "cache" / "kernels"
    library._loaded.cache_clear()


@pytest.mark.usefixtures("kernels_here")
def test_they_are_compiled_once_and_kept(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library.in_use() is None
    with library.using(True):
        assert isinstance(library.in_use(), ctypes.CDLL)
        with library.using(False):
            assert library.in_use() is None
    assert library.in_use() is None
    (kept,) = anew.iterdir()
    made = kept.stat().st_mtime_ns
    library._loaded.cache_clear()
    assert library.available()
    assert [path.stat().st_mtime_ns for path in anew.iterdir()] == [made]
    assert not anew.stat().st_mode & 0o022


@pytest.mark.usefixtures("kernels_here")
def test_a_folder_that_others_may_write_to_is_not_run(anew: Path) -> None:
    anew.mkdir(parents=True)
    anew.chmod(0o777)
    with pytest.raises(library.UnavailableError, match="others may write to"):
        library.load()


@pytest.mark.usefixtures("kernels_here")
def test_without_a_compiler(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not library.available()
    with pytest.raises(library.UnavailableError, match="no C compiler"), library.using(True):
        pass


@pytest.mark.usefixtures("kernels_here")
def test_a_compiler_that_fails(anew: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\ntest \"$1\" = --version && echo 1 && exit 0\necho 'no such option' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", f"{broken} -with options")
    assert library.available()  # another compiler can
    library._loaded.cache_clear()
    for kept in anew.iterdir():
        kept.unlink()
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: which(name) if name == str(broken) else None)
    with pytest.raises(library.UnavailableError, match="-with options could not compile them: no such option"):
        library.load()
    assert list(anew.iterdir()) == []  # nothing half-made is left


@pytest.mark.usefixtures("kernels_here")
def test_a_damaged_file_is_made_again(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.load()
    (kept,) = anew.iterdir()
    before, load, tries = kept.stat().st_ino, ctypes.CDLL, []

    def damaged_at_first(name: str) -> ctypes.CDLL:
        if name == str(kept) and not tries:
            tries.append(name)
            raise OSError("file too short")
        return load(name)

    monkeypatch.setattr(library.ctypes, "CDLL", damaged_at_first)
    library._loaded.cache_clear()
    assert library.available()
    assert tries
    assert kept.stat().st_ino != before


@pytest.mark.usefixtures("kernels_here")
def test_nobody_at_home(monkeypatch: pytest.MonkeyPatch, anew: Path) -> None:
    """As in a container whose user has no entry: there is no cache folder, and trainings go on without."""

    def homeless() -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(library, "cache_folder", homeless)
    assert not library.available()


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


@pytest.mark.usefixtures("kernels_here")
def test_a_run_keeps_to_what_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped ends with the same bits, and one whose kernels are gone says so."""
    common = {"data": "digits", "channels": (32, 32), "dense": 8, "epochs": 2, "batch_size": 64, "threads": 1}
    common |= {"precision": "bfloat16", "validation": 0, "observer": Silent()}
    whole = vaekit.train(tmp_path / "whole", "conv", **common)
    assert whole.resolved.kernels == "native"
    assert library.in_use() is None
    stop = {"at": 40}
    step = Trainer.take_step

    def stopping(trainer: Trainer) -> None:
        if trainer.progress.step == stop["at"]:
            raise KeyboardInterrupt
        step(trainer)
        assert trainer.kernels == stop.get("native", True)

    monkeypatch.setattr(Trainer, "take_step", stopping)
    for name in ("same", "lost"):
        with pytest.raises(KeyboardInterrupt):
            vaekit.train(tmp_path / name, "conv", **common)
    stop["at"] = -1
    resumed = vaekit.resume(tmp_path / "same", observer=Silent())
    assert resumed.model.read_bytes() == whole.model.read_bytes()
    stop["native"] = False
    monkeypatch.setattr(library, "_loaded", lambda: library.UnavailableError("no C compiler"))
    said: list[str] = []
    monkeypatch.setattr(train, "_tell", said.append)
    other = vaekit.resume(tmp_path / "lost", observer=Silent())
    assert said == [
        "the run began with native kernels (no C compiler); it goes on with torch's operators, so the last bits differ"
    ]
    assert other.model.read_bytes() != whole.model.read_bytes()


def test_runs_of_before_they_could_be_chosen_go_on_with_torch() -> None:
    assert Resolved("cpu", "bfloat16", 2, 1).kernels == "torch"
