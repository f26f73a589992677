"""Vectors given for the labels: read from an array, a safetensors file or a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vaekit.errors import InputError

OPTION = "--embedding-file"
LEARNED = "conditioning.weight"  # what a model calls the vectors that it learned
_MODEL = "model.safetensors"


def read_vectors(path: str) -> Tensor:
    """Vectors float32 (num_classes, k) of a ``.npy``, a ``.safetensors`` file, or a run folder.

    Of a safetensors file those that a model learned are taken, or else the only tensor with two axes.

    Raises:
        InputError: for a file that is missing, damaged, or holds no such vectors.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / _MODEL
    if not file.is_file():
        raise InputError(
            f"{OPTION} {path!r}: {file.name!r} does not exist there; give a .npy or .safetensors file or a run"
        )
    try:
        array = _of_array(file) if file.suffix == ".npy" else _of_tensors(file)
    except (ValueError, EOFError, OSError, SafetensorError):
        raise InputError(
            f"{OPTION} {path!r}: is damaged or of another format; give a .npy or .safetensors file"
        ) from None
    if array is None:
        raise InputError(f"{OPTION} {path!r}: holds no vectors of labels; give a run of --conditioning embedding")
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "iuf":
        raise InputError(
            f"{OPTION} {path!r}: shape {array.shape} of {array.dtype} is not (classes, numbers); save it so"
        )
    with np.errstate(over="ignore"):
        vectors = torch.from_numpy(array.astype(np.float32))
    if not torch.isfinite(vectors).all():
        raise InputError(f"{OPTION} {path!r}: holds NaN or infinity; remove or repair it")
    return vectors


def _of_array(file: Path) -> np.ndarray:
    found: np.ndarray = np.load(file, allow_pickle=False)
    return found


def _of_tensors(file: Path) -> np.ndarray | None:
    with safe_open(file, "pt") as content:
        names = set(content.keys())
        tables = [name for name in names if len(content.get_slice(name).get_shape()) == 2]
        name = LEARNED if LEARNED in names else tables[0] if len(tables) == 1 else None
        return None if name is None else content.get_tensor(name).double().numpy()
