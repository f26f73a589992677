"""Weights on disk: safetensors only, so that loading a file never runs code from it."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vaekit import __version__
from vaekit.config import decode, encode
from vaekit.data.images import DataInfo
from vaekit.errors import InputError, unknown
from vaekit.models.table import Model
from vaekit.networks.layers import on_device
from vaekit.noise import seeded
from vaekit.runs import Run, write_atomically
from vaekit.settings import Config
from vaekit.shipped import find, shipped

_FORMAT = "vaekit-1"


def pack_tensors(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """The bytes of one safetensors file of tensors and a JSON description. Tensors are stored contiguous."""
    content = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # one entry of metadata: safetensors writes several in an order of its own, and equal weights should be equal files
    return save(content, {_FORMAT: json.dumps({"vaekit": __version__, **about})})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write what `pack_tensors` packs, atomically."""
    write_atomically(path, pack_tensors(tensors, about))


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `write_tensors`.

    Raises:
        InputError: when the file is missing, damaged, or was not written by vaekit.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if _FORMAT not in metadata:
                raise InputError(f"{path}: is a safetensors file but no {what} of vaekit; give one that vaekit wrote")
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata[_FORMAT])  # noqa: SIM118
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: there is no {what}; train first, or give another path") from None
    except (SafetensorError, ValueError, KeyError, OSError):
        raise InputError(f"{path}: is not a {what} of vaekit, or is damaged; restore it or train anew") from None


def pack_model(model: Model, config: Config, info: DataInfo, weights: Mapping[str, Tensor], **more: Any) -> bytes:
    """The bytes of a model file: `weights` with all that is needed to rebuild `model` around them, and `more` for JSON."""
    about = {"config": encode(config), "info": asdict(info), **more}
    return pack_tensors({name: weights[name] for name in model.state_dict()}, about)


def save_model(path: Path, model: Model, config: Config, info: DataInfo, weights: Mapping[str, Tensor]) -> None:
    """Write what `pack_model` packs, atomically."""
    write_atomically(path, pack_model(model, config, info, weights))


def load_model(path: str | os.PathLike[str], device: str = "cpu") -> tuple[Model, Config, DataInfo]:
    """The model in a file, in a run folder, or that comes along under a name (`vaekit.shipped`), ready to evaluate.

    Raises:
        InputError: when there is no model, or it does not fit this version.

    >>> import tempfile, vaekit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = vaekit.train(folder + "/run", "mlp", data="digits", epochs=1)
    ...     model, config, info = vaekit.load_model(run.path)
    >>> info.shape, config.model.latent_dim
    ((1, 8, 8), 20)
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {device}: this machine has no usable CUDA device; choose cpu or auto")
    file = Path(path)
    if not file.exists():
        file = find(str(path)) or file
        if not file.exists() and difflib.get_close_matches(str(path), shipped(), cutoff=0.7):
            raise unknown("model", str(path), shipped())
    if file.is_dir():
        file = file / "model.safetensors"
        if (file.parent / "config.json").exists() and not file.exists():
            raise InputError(f"run {str(path)!r} has no model yet; finish it with vaekit resume {path}")
    tensors, about = read_tensors(file, "model")
    try:
        config, info = decode(Config, about["config"]), DataInfo.from_json(about["info"])
    except (KeyError, TypeError):
        raise _unfit(file) from None
    return _built(file, config, info, tensors, device), config, info


def load_unfinished(run: Run) -> Model:
    """The model of a run that still trains, or was stopped, as its last checkpoint has it, ready to evaluate.

    Raises:
        InputError: when there is no checkpoint yet.
    """
    if not run.checkpoint.exists():
        raise InputError(f"run {str(run.path)!r} has no checkpoint yet; wait until its first epoch has ended")
    tensors, _ = read_tensors(run.checkpoint, "checkpoint")
    below = "player/model/"
    weights = {name.removeprefix(below): value for name, value in tensors.items() if name.startswith(below)}
    return _built(run.checkpoint, run.config, run.info, weights, "cpu")


def _unfit(file: Path) -> InputError:
    return InputError(f"{file}: the weights do not fit the model described in the file; train anew")


def _built(file: Path, config: Config, info: DataInfo, weights: Mapping[str, Tensor], device: str) -> Model:
    try:
        with seeded(0, "weights"):  # they are replaced at once; the caller's generator is left alone
            model: Model = config.model.build(info)
        model.load_state_dict(dict(weights))
    except (KeyError, TypeError, RuntimeError):
        raise _unfit(file) from None
    return on_device(model, device).eval()
