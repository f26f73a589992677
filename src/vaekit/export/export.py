"""A trained model as files for other programs, with a description of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from vaekit import __version__
from vaekit.config import flags
from vaekit.errors import InputError
from vaekit.export.table import FORMATS
from vaekit.export.weights import without_paths
from vaekit.models.table import MODELS
from vaekit.records import to_json
from vaekit.runs import check_new, write_atomically
from vaekit.trained import Trained, load

DESCRIPTION = "description.json"


def export_model(
    path: str | os.PathLike[str] | Trained, out: str | os.PathLike[str], format: str = "onnx"
) -> dict[str, Any]:
    """Write a trained model in a format of the table `FORMATS` into a folder; returns the description written with it.

    Args:
        path: a run folder, a model file, or what `vaekit.load` gave.
        out: the folder, made if need be; files of an earlier export are replaced.
        format: ``onnx``, ``torch`` or ``safetensors``.

    Raises:
        InputError: when there is no model, the format cannot hold it, or a package is missing; nothing was written.

    >>> import tempfile, vaekit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = vaekit.train(folder + "/run", "mlp", data="digits", epochs=1)
    ...     sorted(export_model(run.path, folder + "/elsewhere", "safetensors")["files"])
    ['model.safetensors']
    """
    folder = Path(out)
    kind = FORMATS[format]
    check_new(folder)
    trained = path if isinstance(path, Trained) else load(path)
    exported = kind().export(trained)
    description = {**describe(trained, format), **exported.about}
    description["versions"] = {**versions(), **exported.about.get("versions", {})}
    write_files(folder, {**exported.files, DESCRIPTION: (to_json(description) + "\n").encode()})
    return description


def describe(trained: Trained, format: str) -> dict[str, Any]:
    """What somebody must know who has the files alone."""
    trained = without_paths(trained)
    model, info = trained.model, trained.info
    chosen = {flag.name: flag.value for flag in flags(trained.config.model) if flag.table is not None}
    return {
        "format": format,
        "model": MODELS.name_of(trained.config.model),
        **chosen,
        "data": info.name,
        "latent_dim": trained.latent_dim,
        "latent_space": model.geometry.kind,
        "image": {"shape": list(info.seen_shape), "axes": "channels, height, width"},
        "made_image": {"shape": list(info.shape), "axes": "channels, height, width"},
        "class_names": list(info.class_names) if model.num_classes is not None else [],
        "attribute_names": list(info.attribute_names) if model.num_attributes is not None else [],
        "accepts_unknown": model.accepts_unknown,
    }


def versions() -> dict[str, str]:
    """Versions of what made the files."""
    return {"vaekit": __version__, "torch": torch.__version__}


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder, each atomically.

    Raises:
        InputError: when the folder cannot be made or written.
    """
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / name, content)
    except OSError as error:
        raise InputError(f"--out {str(folder)!r} cannot be written ({error.strerror}); choose another folder") from None
