"""A fitted estimator as one safetensors file, and as a state for pickle and copies that holds such bytes."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

from vaekit.errors import InputError
from vaekit.estimators.layout import Layout
from vaekit.runs import write_atomically
from vaekit.storage import pack_model, read_tensors
from vaekit.trained import Trained, load

if TYPE_CHECKING:
    from vaekit.estimators.base import Estimator

Kind = TypeVar("Kind", bound="Estimator")


def _packed(trained: Trained, **more: Any) -> bytes:
    return pack_model(trained.model, trained.config, trained.info, trained.model.state_dict(), **more)


def _plain(value: Any) -> Any:
    """A value as JSON has it; an array with its type."""
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "values": value.tolist()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def write(estimator: Estimator, path: Path) -> None:
    """Write the model file of a fitted estimator, with its parameters and what it learned besides, atomically.

    Raises:
        InputError: when the file cannot be written.
    """
    trained = estimator.trained_
    parameters = estimator.get_params(deep=False)
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = trained.config.training.seed
    learned = {
        name: value
        for name, value in vars(estimator).items()
        if name.endswith("_") and not name.startswith("_") and name not in ("trained_", "layout_")
    }
    about = {
        "class": type(estimator).__name__,
        "parameters": _plain(parameters),
        "layout": dataclasses.asdict(estimator.layout_),
        "learned": _plain(learned),
    }
    try:
        write_atomically(path, _packed(trained, estimator=about))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another path") from None


def read(kind: type[Kind], path: Path, device: str) -> Kind:
    """The estimator of a file.

    Raises:
        InputError: when the file holds none, or one of another class.
    """
    about = read_tensors(path, "model")[1].get("estimator")
    if not isinstance(about, Mapping):
        raise InputError(f"{path}: is a model but no estimator; use vaekit.load")
    if about.get("class") != kind.__name__:
        raise InputError(f"{path}: is a {about.get('class')} and not a {kind.__name__}; use {about.get('class')}.load")
    try:
        parameters, layout, learned = about["parameters"], about["layout"], about["learned"]
        if parameters["image_shape"] is not None:
            parameters["image_shape"] = tuple(parameters["image_shape"])
        estimator = kind(**parameters)
        for name, value in learned.items():
            is_array = isinstance(value, Mapping) and value.keys() == {"dtype", "values"}
            setattr(estimator, name, np.array(value["values"], np.dtype(value["dtype"])) if is_array else value)
        event, size = tuple(layout["event"]), tuple(layout["size"])
        estimator.layout_ = Layout(event, size, layout["white"], layout["table"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: the estimator's description is damaged; restore it or fit anew") from None
    estimator.trained_ = load(path, device)
    return estimator


def to_bytes(state: dict[str, Any]) -> dict[str, Any]:
    """An estimator's state with the model and the optimizer's moments as the bytes of safetensors files."""
    done = dict(state)
    if "trained_" in done:
        done["trained_"] = (_packed(done["trained_"]), done["trained_"].device.type)
    if done.get("_moments") is not None:
        done["_moments"] = save_bytes({name: value.contiguous() for name, value in done["_moments"].items()})
    return done


def from_bytes(state: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `to_bytes`; a model of a GPU comes onto the CPU where there is none."""
    done = dict(state)
    if "trained_" in done:
        content, device = done["trained_"]
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            file.write(content)
            file.flush()
            trained = load(file.name, device if torch.cuda.is_available() else "cpu")
        done["trained_"] = dataclasses.replace(trained, path=Path("estimator"))
    if done.get("_moments") is not None:
        done["_moments"] = load_bytes(done["_moments"])
    return done
