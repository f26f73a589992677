"""Inputs that many tests share: every entry of every table, and small data of any shape."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.config import Flag, Leaf, flags, replace
from vaekit.data.batches import Batch
from vaekit.data.images import DataInfo, Images
from vaekit.latents.deterministic import DeterministicPosterior
from vaekit.models.table import MODELS
from vaekit.models.vae import VAEConfig
from vaekit.networks.conditioning import Attributes
from vaekit.noise import Noise
from vaekit.objectives.table import OBJECTIVES, Context
from vaekit.settings import Config
from vaekit.tables import Table

SHAPES = [(1, 8, 8), (3, 17, 13), (2, 28, 28)]
CLASSES = ("zero", "one", "two")
ATTRIBUTES = ("smiling", "angle")


def variations() -> list[Config]:
    """Configurations that together hold every entry of every table below a configuration."""
    found, todo, seen = [], [Config()], set()
    while todo:
        config = todo.pop(0)
        found.append(config)
        for flag in flags(config):
            for name in flag.table or ():
                if (flag.path, name) not in seen:
                    seen.add((flag.path, name))
                    todo.append(replace(config, flag.path, flag.table[name]()))
    return found


def tables() -> dict[tuple[str, ...], Table]:
    """Every table that a configuration reaches, by where it sits."""
    return {flag.path: flag.table for config in variations() for flag in flags(config) if flag.table}


def leaves() -> list[tuple[Config, Flag]]:
    """Every leaf of every entry, with a configuration that has it."""
    found: dict[Any, tuple[Config, Flag]] = {}
    for config in variations():
        for flag in flags(config):
            if flag.leaf:
                parent = config
                for name in flag.path[:-1]:
                    parent = getattr(parent, name)
                found.setdefault((flag.path, type(parent).__name__), (config, flag))
    return list(found.values())


def leaf_name(case: tuple[Config, Flag]) -> str:
    return ".".join(case[1].path)


def inner_type(flag: Flag) -> Any:
    """The type of a leaf without its None."""
    if isinstance(flag.type, types.UnionType):
        return next(option for option in typing.get_args(flag.type) if option is not type(None))
    return flag.type


def _numbers(rule: Leaf, kind: type) -> list[Any]:
    """Numbers inside the range, its inclusive ends among them."""
    if kind is int:
        low = rule.ge if rule.ge is not None else rule.gt + 1 if rule.gt is not None else -7
        high = rule.le if rule.le is not None else rule.lt - 1 if rule.lt is not None else low + 1000
        return sorted({int(low), int(low) + 1, int(high)})
    low = rule.ge if rule.ge is not None else rule.gt if rule.gt is not None else -1.0
    high = rule.le if rule.le is not None else rule.lt if rule.lt is not None else low + 10.0
    ends = [end for end in (rule.ge, rule.le) if end is not None]
    return [float(end) for end in ends] + [low + 0.25 * (high - low), low + 1e-3 * (high - low)]


def valid_values(flag: Flag) -> list[Any]:
    """Values that a leaf must take."""
    kind, none = inner_type(flag), [None] if isinstance(flag.type, types.UnionType) else []
    if kind is bool:
        return [*none, True, False]
    if kind is str:
        return [*none, "some text", "a=b,c"]
    if typing.get_origin(kind) is typing.Literal:
        return [*none, *typing.get_args(kind)]
    if typing.get_origin(kind) is tuple:
        numbers = _numbers(flag.leaf, typing.get_args(kind)[0])
        return [*none, tuple(numbers), (numbers[0],)]
    return [*none, *_numbers(flag.leaf, kind)]


def out_of_range(flag: Flag) -> list[Any]:
    """Numbers just outside a leaf's range."""
    rule, kind = flag.leaf, inner_type(flag)
    element = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
    if element not in (int, float):
        return []
    gap = 1 if element is int else 1e-6
    values = [element(rule.ge - gap)] if rule.ge is not None else []
    values += [element(rule.gt)] if rule.gt is not None else []
    values += [element(rule.le + max(gap, abs(rule.le) * 1e-6))] if rule.le is not None else []
    values += [element(rule.lt)] if rule.lt is not None else []
    return [(value,) for value in values] if kind is not element else values


def wrong_types(flag: Flag) -> list[Any]:
    """Values of the wrong type, of the kinds that people give."""
    kind = inner_type(flag)
    if kind is str:
        return []
    if kind is bool:
        return ["maybe", 1, 0.0, [True], ""]
    if kind is int:
        return ["many", 1.5, "1.5", True, [3], {}, "", float("nan"), float("inf"), "1e3"]
    if kind is float:
        return ["much", True, [0.5], {}, "", float("nan"), float("inf"), "-inf", 10**400]
    if typing.get_origin(kind) is tuple:
        return [5, "a,b", (), "1,,2", (1.5,), "", [[1]], {"1": 2}, (True,)]
    return ["nonsense", 3, [], "", True]


def info(shape: tuple[int, int, int], labels: bool = True, binary: bool = False, attributes: bool = False) -> DataInfo:
    """A description of random images with labels, or in their place with attributes."""
    if attributes:
        described = {"attribute_names": ATTRIBUTES, "attribute_means": (0.5, -20.0), "attribute_scales": (0.5, 3.0)}
        return DataInfo("random", shape, (), binary, 100, **described)
    return DataInfo("random", shape, CLASSES if labels else (), binary, 100)


def random_images(
    shape: tuple[int, int, int], count: int, labels: bool = True, seed: int = 0, attributes: bool = False
) -> Images:
    """uint8 images of random grey values; labels in turn, or in their place attributes, some of them unknown."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, height, width, channels), generator=generator, dtype=torch.uint8)
    if attributes:
        values = torch.stack([torch.arange(count) % 2, -20.0 + 3.0 * torch.randn(count, generator=generator)], 1)
        values[1::5] = float("nan")
        return Images(pixels, None, values)
    return Images(pixels, torch.arange(count) % len(CLASSES) if labels else None)


def reads_attributes(model: Any) -> bool:
    """Whether the model of a configuration is made for data with attributes in place of labels."""
    return isinstance(getattr(model, "conditioning", None), Attributes)


def plain_batch(images: Tensor, labels: Tensor | None = None) -> Batch:
    """A batch of float images (n, channels, height, width), numbered from 0."""
    return Batch(images, images, labels, None, torch.arange(len(images)))


def context(count: int = 1, **hyper: float) -> Context:
    """What an objective is told besides the draw: its numbers, and the noise of `count` images."""
    scalars = {name: torch.as_tensor(value) for name, value in hyper.items()}
    return Context(torch.tensor(0), scalars, 100, nn.Identity(), Noise.from_seed(0, count))


def models() -> Iterator[tuple[str, VAEConfig]]:
    """Every model, and each with every entry of the tables below it in turn, with 3 latents."""
    seen = set()
    for config in variations():
        sized = any(flag.path == ("model", "latent_dim") for flag in flags(config))
        model = replace(config, ("model", "latent_dim"), 3).model if sized else config.model
        if model not in seen:
            seen.add(model)
            words = [flag.table.name_of(_at(model, flag.path)) for flag in flags(model) if flag.table]
            yield "-".join([MODELS.name_of(model), *words]), model


def objective_for(provides: frozenset[str]) -> Any:
    """An objective that a model can be trained with: the ELBO, or for lack of a bound the first that fits."""
    return next(entry() for entry in map(OBJECTIVES.__getitem__, ["elbo", *OBJECTIVES]) if entry().needs <= provides)


def model_for(objective: Any, model: VAEConfig) -> VAEConfig:
    """The model, its code deterministic where an objective asks for that."""
    wanted = "deterministic" in objective.needs
    return dataclasses.replace(model, posterior=DeterministicPosterior()) if wanted else model


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = getattr(tree, name)
    return tree
