"""The members of a sweep: the product of lists of values, each with a name and a whole configuration."""

from __future__ import annotations

import itertools
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaekit.config import Flag, check, every_flag, flags, replace, set_flags, settled
from vaekit.errors import InputError
from vaekit.objectives.schedules import Constant
from vaekit.settings import Config, preset

Grid = Mapping[str, Sequence[Any]]
MOST = 1000  # members of a sweep
_NAME_LENGTH = 200  # file systems take 255 bytes


@dataclass(frozen=True)
class Member:
    """One model of a sweep.

    Attributes:
        name: of its run folder, such as ``beta-0.5-seed-1``.
        values: what it has of each list, by the setting's name.
        config: the whole configuration.
    """

    name: str
    values: dict[str, Any]
    config: Config


def members(preset_name: str, grid: Grid, given: Mapping[str, Any]) -> list[Member]:
    """A member for each combination of values, the last list running fastest.

    Args:
        preset_name: settings to start from.
        grid: lists of values by the name of a setting.
        given: the other settings, the same for all.

    Raises:
        InputError: for an empty or a repeated value, a setting given twice, or one that does not fit.

    >>> [member.name for member in members("mlp", {"beta": [0.5, 1], "seed": [0, 1]}, {})]
    ['beta-0.5-seed-0', 'beta-0.5-seed-1', 'beta-1-seed-0', 'beta-1-seed-1']
    """
    base = preset(preset_name)
    if not grid:
        raise InputError("nothing is swept; give a setting several values, such as --beta 0.5,1,2 or --seed 0,1,2")
    for name, values in grid.items():
        option = "--" + name.replace("_", "-")
        if name in given:
            raise InputError(f"{option}: is given both as a list and as one value; leave one out")
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise InputError(f"{option}: {values!r} is not a list of values; give one such as [0, 1, 2]")
    count = 1
    for values in grid.values():
        count *= len(values)
    if count > MOST:
        raise InputError(f"the lists make {count:,} members; give at most {MOST:,}")
    found = [
        _member(base, {**given, **dict(zip(grid, chosen, strict=True))}, tuple(grid))
        for chosen in itertools.product(*grid.values())
    ]
    known: dict[str, Member] = {}
    for member in found:
        if member.name in known:
            raise InputError(f"two members would be called {member.name!r}; give each value once")
        known[member.name] = member
    return found


def _member(base: Config, settings: dict[str, Any], swept: tuple[str, ...]) -> Member:
    config: Config = set_flags(base, settings)
    check(config)
    config.check_combination()
    here = {flag.name: flag.value for flag in flags(config)}
    values = {name: here[name] for name in swept}
    name = "-".join(f"{setting.replace('_', '-')}-{value_text(value)}" for setting, value in values.items())
    if len(name) > _NAME_LENGTH:
        raise InputError(f"a member would be called {name[:40]!r}...; sweep fewer settings at once")
    return Member(name, values, settled(config))


def value_text(value: Any) -> str:
    """A value as it stands in the name of a folder.

    >>> value_text(1.0), value_text(0.5), value_text((200, 100)), value_text("data/own set.npz")
    ('1', '0.5', '200x100', 'own_set.npz')
    """
    if isinstance(value, tuple):
        return "x".join(map(value_text, value))
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return re.sub(r"[^\w.+-]", "_", Path(value).name if isinstance(value, str) else str(value).lower())


def values_of(flag: Flag, text: str) -> list[str]:
    """The values in a text of the command line: between commas, or between semicolons where a value may hold a comma.

    >>> [flag] = [flag for flag in flags(preset("mlp")) if flag.name == "hidden"]
    >>> values_of(flag, "64;200,100")
    ['64', '200,100']
    """
    holds_commas = typing.get_origin(flag.type) is tuple or (flag.leaf is not None and str in _kinds(flag.type))
    return [part.strip() for part in re.split(";" if holds_commas or ";" in text else ",", text)]


def _kinds(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) or (kind,)


def parted(base: Config, settings: Mapping[str, Any]) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """What of the command line is a list of several values, and what is one value for all members.

    Raises:
        InputError: for an empty value between separators.
    """
    known = {flag.name: flag for flag in every_flag(base)}
    grid: dict[str, list[str]] = {}
    given: dict[str, Any] = {}
    for name, text in settings.items():
        values = values_of(known[name], text) if isinstance(text, str) else [text]
        if len(values) == 1:
            given[name] = text
        elif all(values):
            grid[name] = values
        else:
            raise InputError(f"{known[name].option}: {text!r} has an empty value; write a list such as 0.5,1,2")
    return grid, given


def shared(config: Config) -> Config:
    """The configuration without what members of a stack may differ in, which changes no shape and no number of steps.

    That is the seed, the learning rate with its warm-up, Adam's epsilon, the bound on the gradient, the objective's numbers
    and the schedule of its beta.
    """
    training, plain = config.training, type(config.objective)()
    fixed: dict[tuple[str, ...], Any] = {("training", "seed"): 0, ("training", "learning_rate"): 1.0}
    fixed |= {("training", "warmup"): 0.0, ("training", "adam_epsilon"): 1.0, ("beta_schedule",): Constant()}
    if training.gradient_clip is not None:
        fixed["training", "gradient_clip"] = 1.0
    fixed |= {("objective", *flag.path): flag.value for flag in flags(plain) if flag.type is float}
    for path, value in fixed.items():
        config = replace(config, path, value)
    return config
