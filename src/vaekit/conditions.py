"""What a model is told beside an image: classes and attributes, by name or number, checked against what it knows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaekit.data.images import DataInfo
from vaekit.errors import InputError, unknown
from vaekit.models.table import Model
from vaekit.networks.conditioning import UNKNOWN

_LARGEST = torch.finfo(torch.float32).max


def class_index(info: DataInfo, label: str | int) -> int:
    """The number of a class given by name or number; of ``unknown``, where no class has that name, -1.

    Raises:
        InputError: when the data have no such class.
    """
    name = str(label)
    if name == "unknown" and info.class_names and name not in info.class_names:
        return UNKNOWN
    if name in info.class_names:
        return info.class_names.index(name)
    if name.isdigit() and int(name) < len(info.class_names):
        return int(name)
    if not info.class_names:
        raise InputError(f"--label {name}: the model's data {info.name!r} have no labels; leave the label out")
    raise unknown("--label", name, info.class_names)


def attribute_values(info: DataInfo, text: str) -> Tensor:
    """Attributes (k,) given as ``name=value,...``; those left out are NaN, which a model takes for their means.

    Raises:
        InputError: for a name that the data do not have or that stands twice, or a value that is no number.

    >>> info = DataInfo("faces", (3, 64, 64), attribute_names=("smiling", "male", "age"))
    >>> attribute_values(info, "age=30, smiling=1")
    tensor([ 1., nan, 30.])
    """
    values = [math.nan] * len(info.attribute_names)
    for part in text.split(","):
        name, equals, given = (word.strip() for word in part.partition("="))
        if not equals:
            raise InputError(f"--attributes: {part.strip()!r} is not a name and a value; write {name or 'NAME'}=1")
        if name not in info.attribute_names:
            raise unknown("--attributes: name", name, info.attribute_names)
        place = info.attribute_names.index(name)
        if not math.isnan(values[place]):
            raise InputError(f"--attributes: {name!r} stands twice; give it once")
        try:
            values[place] = float(given)
        except ValueError:
            values[place] = math.nan
        if not abs(values[place]) <= _LARGEST:
            raise InputError(f"--attributes {name}: {given!r} is not a number of float32; give one, such as {name}=1")
    return torch.tensor(values)


def device_of(model: Model) -> torch.device:
    """Where a model computes."""
    return next(model.parameters()).device


def condition_of(model: Model, given: Tensor | None, count: int) -> Tensor | None:
    """Labels (count,) or attributes (count, n) on the model's device; None for a model without conditions."""
    if not model.conditional:
        return None
    if given is None:
        what = "labels" if model.num_attributes is None else "attributes"
        raise InputError(f"the model is conditional and was given no {what}; give them for each image")
    if model.num_attributes is not None and given.shape[-1:] != (model.num_attributes,):
        raise InputError(
            f"attributes of shape {tuple(given.shape)} are not the model's {model.num_attributes}; give a row for each image"
        )
    if model.num_classes is not None:
        _check_labels(model, model.num_classes, given)
    given = given.to(device_of(model))
    axes = 0 if model.num_attributes is None else 1
    return given.expand(count, *given.shape) if given.dim() == axes else given


def _check_labels(model: Model, num_classes: int, labels: Tensor) -> None:
    """Refuse labels that a model does not know; -1, for no label, is known to some."""
    wrong = labels[(labels < UNKNOWN) | (labels >= num_classes)]
    if len(wrong):
        raise InputError(f"label {int(wrong[0])} is out of range; the model knows 0 to {num_classes - 1}")
    if not model.accepts_unknown and (labels == UNKNOWN).any():
        raise InputError(
            "the label is unknown, and the model never saw an image without its label; "
            "give a label, or train with --label-dropout 0.1"
        )
