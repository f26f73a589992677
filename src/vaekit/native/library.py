"""Compiles the kernels, once for each version of them, and loads them."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch

from vaekit.cache import VARIABLE, cache_folder

_SOURCES = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".c", ".h"))
_OPTIONS = ("-O3", "-std=c11", "-shared", "-fPIC", *(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "bf16")))
_SECONDS = 120
_CONVOLUTIONS = (
    *("weight_gradient", "transposed_convolution"),
    *("few_inputs_forward", "few_inputs_gradient", "few_outputs_forward", "few_outputs_backward"),
)

_used: ContextVar[bool] = ContextVar("used", default=False)


class UnavailableError(Exception):
    """The kernels cannot be had on this machine; the message says why."""


@contextmanager
def using(wanted: bool) -> Iterator[None]:
    """Within it, whether layers use the kernels where they are faster; outside, nothing does.

    Raises:
        UnavailableError: when they are wanted and cannot be had.
    """
    if wanted:
        load()
    token = _used.set(wanted)
    try:
        yield
    finally:
        _used.reset(token)


def in_use() -> ctypes.CDLL | None:
    """The kernels, where they are used."""
    return load() if _used.get() else None


def available() -> bool:
    """Whether this machine can have them; compiles them if need be."""
    return problem() is None


def problem() -> str | None:
    """Why this machine cannot have them; None where it can."""
    found = _loaded()
    return str(found) if isinstance(found, UnavailableError) else None


def load() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        UnavailableError: when the processor, the compiler or torch's thread runtime does not serve.
    """
    found = _loaded()
    if isinstance(found, UnavailableError):
        raise found
    return found


@functools.cache
def _loaded() -> ctypes.CDLL | UnavailableError:
    """The kernels or why they cannot be had: looked at once, since a compiler that hangs would be asked again and again."""
    try:
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            raise UnavailableError("they are made for Linux on x86-64")
        if not getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
            raise UnavailableError("this processor has no AVX512-BF16")
        parallel()
        return _declared(_compiled())
    except UnavailableError as error:
        return error


@functools.cache
def parallel() -> ctypes.c_void_p:
    """``GOMP_parallel`` of the very runtime whose threads torch computes with.

    A second runtime would have threads of its own, and both would wait for the same cores.

    Raises:
        UnavailableError: when torch was built with another runtime.
    """
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))  # loaded long since
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p)
    except (OSError, AttributeError) as error:
        raise UnavailableError("this build of torch computes with threads of another kind than GNU OpenMP's") from error


def _compiled() -> ctypes.CDLL:
    """The compiled file, from the cache or made now, by the first compiler that can."""
    given = shlex.split(os.environ.get("CC", ""))
    compilers = [words for words in (given, ["cc"], ["gcc"], ["clang"]) if words and shutil.which(words[0])]
    if not compilers:
        raise UnavailableError("this machine has no C compiler; install gcc")
    problems = []
    for compiler in compilers:
        try:
            return _compiled_by(compiler)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            problems.append(f"{' '.join(compiler)} could not compile them: {_first_line(error)}")
    raise UnavailableError(problems[0])


def _compiled_by(compiler: list[str]) -> ctypes.CDLL:
    said = subprocess.run([*compiler, "--version"], capture_output=True, timeout=_SECONDS, check=True).stdout
    parts = (*(path.read_bytes() for path in _SOURCES), said, " ".join((*compiler, *_OPTIONS)).encode())
    folder = _own(cache_folder() / "kernels")
    path = folder / f"{hashlib.sha256(b'|'.join(parts)).hexdigest()[:32]}.so"
    if path.exists():
        try:
            return ctypes.CDLL(str(path))
        except OSError:  # damaged, as by a crash of the machine
            path.unlink()
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".so")
    os.close(handle)
    try:
        sources = [str(path) for path in _SOURCES if path.suffix == ".c"]
        command = [*compiler, *_OPTIONS, "-o", temporary, *sources]
        subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True)
        with open(temporary, "rb") as made:
            os.fsync(made.fileno())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return ctypes.CDLL(str(path))


def _own(folder: Path) -> Path:
    """A folder that nobody but this user can write to, since what lies there will be run."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise UnavailableError(f"{str(folder)!r} belongs to another user; set {VARIABLE} to a folder of your own")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnavailableError(f"others may write to {str(folder)!r}; take that right from them")
    return folder


def _first_line(error: Exception) -> str:
    said = getattr(error, "stderr", None)
    text = said.decode(errors="replace") if isinstance(said, bytes) and said else str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


def _declared(library: ctypes.CDLL) -> Any:
    for name in (*_CONVOLUTIONS, "bernoulli", "words"):
        getattr(library, name).restype = None
        getattr(library, name).argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    for name in _CONVOLUTIONS:
        getattr(library, f"{name}_scratch").restype = ctypes.c_int64
        getattr(library, f"{name}_scratch").argtypes = (ctypes.c_void_p,)
    return library
