"""Layers in weight files of Keras (``.keras``, ``.weights.h5``, ``.h5``), read as numbers: nothing in them is executed."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vaekit.errors import InputError

Kind = Literal["convolution", "transposed", "dense", "embedding"]
_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_LARGEST = 2**31  # bytes: a larger file is no autoencoder of these kinds


@dataclass(frozen=True)
class Layer:
    """A layer with weights.

    Attributes:
        kind: what it is.
        path: where it lies in its file.
        name: what its author called it, where the file says it; else the last part of the path.
        kernel: in Keras' layout: (height, width, in, out) of a convolution, (height, width, out, in) of a transposed one,
            (in, out) of a dense layer, (rows, size) of an embedding.
        bias: (out,); None of an embedding.
    """

    kind: Kind
    path: str
    name: str
    kernel: Tensor
    bias: Tensor | None


def read_layers(path: str | Path) -> list[Layer]:
    """The layers of a file in the order in which they were made: the encoder's first where parts have such names.

    Raises:
        InputError: when it is missing, damaged or no such file.
    """
    file = Path(path).expanduser()
    try:
        with _opened(file) as (content, names):
            layers = list(_layers(content, names))
    except FileNotFoundError:
        raise InputError(f"{str(path)!r}: there is no such file; give a .keras or .h5 file") from None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, RuntimeError):
        raise InputError(f"{str(path)!r}: is damaged, or no weights of Keras; give a .keras or .h5 file") from None
    return sorted(layers, key=lambda layer: (_part(layer.path), _natural(layer.path)))


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Any, dict[str, tuple[str, str]]]]:
    """The HDF5 content, and the class and name of layers by the path, or the name, of their group."""
    import h5py

    if file.stat().st_size > _LARGEST:
        raise ValueError
    if not zipfile.is_zipfile(file):
        with h5py.File(file, "r") as content:
            described = content.attrs.get("model_config")
            yield content, {} if described is None else dict(_by_name(json.loads(described)))
        return
    with zipfile.ZipFile(file) as archive:
        if archive.getinfo(_WEIGHTS).file_size > _LARGEST:
            raise ValueError
        names = dict(_by_path(json.loads(archive.read(_CONFIG)), ""))
        with h5py.File(BytesIO(archive.read(_WEIGHTS)), "r") as content:
            yield content, names


def _layers(content: Any, names: dict[str, tuple[str, str]]) -> Iterator[Layer]:
    import h5py

    groups: dict[str, list[Any]] = {}

    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and item.ndim and "optimizer" not in path:
            groups.setdefault(path.rpartition("/")[0], []).append(item)

    content.visititems(visit)
    for group, found in groups.items():
        path = group.removesuffix("/vars")
        kernels, biases = ([item for item in found if (item.ndim == 1) == flat] for flat in (False, True))
        if len(kernels) != 1 or len(biases) > 1 or any(item.external for item in found):
            continue
        last = path.rpartition("/")[2]
        made_by, name = names.get(path) or names.get(last) or ("", last)
        kernel = kernels[0]
        transposed = made_by == "Conv2DTranspose" or (not made_by and "transpose" in last)
        kind: Kind | None = {
            (4, 1): "transposed" if transposed else "convolution",
            (2, 1): "dense",
            (2, 0): "embedding",
        }.get((kernel.ndim, len(biases)))  # type: ignore[assignment]
        if kind is not None:
            yield Layer(kind, path, name, _numbers(kernel), _numbers(biases[0]) if biases else None)


def _numbers(item: Any) -> Tensor:
    return torch.from_numpy(np.asarray(item[()], np.float32))


def _by_path(described: Any, at: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Class and name of each layer in the configuration of a ``.keras`` file, by the path of its group.

    Groups have the layers' class names in snake case, numbered in their order.
    """
    config = described.get("config", {}) if isinstance(described, dict) else {}
    counts: dict[str, int] = {}
    for layer in config.get("layers", ()) if isinstance(config, dict) else ():
        made_by = str(layer["class_name"])
        group = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", made_by)).lower()
        group = {"conv2_d": "conv2d", "conv2_d_transpose": "conv2d_transpose"}.get(group, group)
        number = counts.get(group, 0)
        counts[group] = number + 1
        path = f"{at}layers/{group}" + (f"_{number}" if number else "")
        yield path, (made_by, str(layer["config"].get("name", "")))
        yield from _by_path(layer, f"{path}/")


def _by_name(described: Any) -> Iterator[tuple[str, tuple[str, str]]]:
    """The same of an ``.h5`` file, whose groups have the layers' names."""
    config = described.get("config", {}) if isinstance(described, dict) else {}
    for layer in config.get("layers", ()) if isinstance(config, dict) else ():
        name = str(layer["config"].get("name", ""))
        yield name, (str(layer["class_name"]), name)
        yield from _by_name(layer)


def _part(path: str) -> int:
    return 0 if "encoder" in path else 2 if "decoder" in path else 1


def _natural(path: str) -> list[tuple[str, int]]:
    """Numbers at the ends of names in their order: dense, dense_1, dense_2, dense_10."""
    found = []
    for part in path.split("/"):
        match = re.fullmatch(r"(.*?)(?:_(\d+))?", part)
        assert match is not None
        found.append((match[1], int(match[2] or 0)))
    return found
