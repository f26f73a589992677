"""Compiles the kernels, once for each version of them, and loads them."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from vaekit.cache import cache_folder

_SOURCE = Path(__file__).with_name("kernels.c")
_OPTIONS = ("-O3", "-std=c11", "-shared", "-fPIC", *(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "bf16")))
_SECONDS = 120

_used = False


class UnavailableError(Exception):
    """The kernels cannot be had on this machine; the message says why."""


def use(wanted: bool) -> None:
    """Whether the layers of this process use the kernels from now on, where they are faster.

    Raises:
        UnavailableError: when they are wanted and cannot be had.
    """
    global _used
    if wanted:
        load()
    _used = wanted


def in_use() -> ctypes.CDLL | None:
    """The kernels, if this process uses them."""
    return load() if _used else None


def available() -> bool:
    """Whether this machine can have them; compiles them if need be."""
    try:
        load()
    except UnavailableError:
        return False
    return True


@functools.cache
def load() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        UnavailableError: when the processor, the compiler or torch's thread runtime does not serve.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise UnavailableError("they are made for Linux on x86-64")
    if not getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
        raise UnavailableError("this processor has no AVX512-BF16")
    parallel()
    return _declared(ctypes.CDLL(str(_compiled())))


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


def _compiled() -> Path:
    """The compiled file, from the cache or made now."""
    compiler = next((found for name in (os.environ.get("CC"), "cc", "gcc", "clang") if (found := _which(name))), None)
    if compiler is None:
        raise UnavailableError("this machine has no C compiler; install gcc")
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, timeout=_SECONDS, check=True).stdout
        parts = (_SOURCE.read_bytes(), version, " ".join(_OPTIONS).encode())
        folder = _own(cache_folder() / "kernels")
        path = folder / f"{hashlib.sha256(b'|'.join(parts)).hexdigest()[:32]}.so"
        if not path.exists():
            handle, temporary = tempfile.mkstemp(dir=folder, suffix=".so")
            os.close(handle)
            try:
                command = [compiler, *_OPTIONS, "-o", temporary, str(_SOURCE)]
                subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True)
                os.replace(temporary, path)
            finally:
                Path(temporary).unlink(missing_ok=True)
        return path
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"{compiler} could not compile them: {_first_line(error)}") from error


def _which(name: str | None) -> str | None:
    return shutil.which(name) if name else None


def _own(folder: Path) -> Path:
    """A folder that nobody but this user can write to, since what lies there will be run."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnavailableError(f"others may write to {str(folder)!r}")
    return folder


def _first_line(error: Exception) -> str:
    said = getattr(error, "stderr", None)
    text = said.decode(errors="replace") if isinstance(said, bytes) and said else str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


def _declared(library: ctypes.CDLL) -> Any:
    for name in ("weight_gradient", "back", "few_forward", "few_backward", "bernoulli", "words"):
        getattr(library, name).restype = None
        getattr(library, name).argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    for name in ("weight_scratch", "back_scratch", "few_forward_scratch", "few_backward_scratch"):
        getattr(library, name).restype = ctypes.c_int64
        getattr(library, name).argtypes = (ctypes.c_void_p,)
    return library
