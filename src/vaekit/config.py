"""One typed tree of frozen dataclasses: the same declaration is constructor, flags, JSON and documentation.

A field is a *leaf* (a number, word, flag or tuple with a range and a help text), a *choice* (an entry of a table, which
brings leaves of its own) or a plain dataclass that groups others. Precedence: preset < choice < leaf.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from vaekit.errors import InputError, unknown
from vaekit.tables import Table

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def plain(limit: float) -> str:
    """A limit as people write it.

    >>> plain(1e6), plain(0.5), plain(2**63)
    ('1000000', '0.5', '2^63')
    """
    return "2^63" if limit == 2**63 else str(int(limit)) if limit == int(limit) else f"{limit:g}"


@dataclass(frozen=True)
class Leaf:
    """What a leaf field allows: bounds are inclusive (`ge`, `le`) or exclusive (`gt`, `lt`)."""

    help: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def range(self) -> str:
        """The allowed range in words, or an empty text.

        >>> Leaf("", gt=0, le=1).range()
        'more than 0 and at most 1'
        """
        limits = [("at least", self.ge), ("more than", self.gt), ("at most", self.le), ("less than", self.lt)]
        return " and ".join(f"{words} {plain(limit)}" for words, limit in limits if limit is not None)


def leaf(default: Any, help: str, **limits: float) -> Any:
    """A dataclass field that becomes a flag; `limits` are those of `Leaf`."""
    return field(default=default, metadata={"leaf": Leaf(help, **limits)})


def choice(table: Table, default: Any, help: str) -> Any:
    """A dataclass field that holds an entry of `table`; `default` is a function that makes the default entry."""
    return field(default_factory=default, metadata={"choice": table, "help": help})


@dataclass(frozen=True)
class Flag:
    """One command-line flag of a configuration: where it sits, its type, its present value and its help."""

    path: tuple[str, ...]
    type: Any
    value: Any
    help: str
    leaf: Leaf | None = None
    table: Table | None = None

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def option(self) -> str:
        return _option(self.name)


@functools.cache
def hints(cls: Any) -> dict[str, Any]:
    """Resolved annotations of a dataclass."""
    return typing.get_type_hints(cls)


def flags(value: Any, path: tuple[str, ...] = ()) -> Iterator[Flag]:
    """Every choice and leaf below `value`, choices before the leaves that they bring."""
    for item in dataclasses.fields(value):
        here, inner = (*path, item.name), getattr(value, item.name)
        if table := item.metadata.get("choice"):
            yield Flag(here, str, table.name_of(inner), item.metadata["help"], table=table)
            yield from flags(inner, here)
        elif rule := item.metadata.get("leaf"):
            yield Flag(here, hints(type(value))[item.name], inner, rule.help, leaf=rule)  # type: ignore[arg-type]  # a class is hashable
        elif dataclasses.is_dataclass(inner):
            yield from flags(inner, here)


def replace(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    """A copy of `tree` with the field at `path` set to `value`."""
    head, *rest = path
    return dataclasses.replace(tree, **{head: replace(getattr(tree, head), tuple(rest), value) if rest else value})


def every_flag(value: Any) -> Iterator[Flag]:
    """The flags of `value`, then those that other entries of its choices, and of theirs, would bring.

    Paths hold ``choice=name`` for what is not chosen.
    """
    for flag in flags(value):
        yield flag
        for name in flag.table or ():
            if flag.table and name != flag.value:
                above = (*flag.path[:-1], f"{flag.name}={name}")
                for inner in every_flag(flag.table[name]()):
                    yield dataclasses.replace(inner, path=(*above, *inner.path))


def set_flags(config: Any, given: dict[str, Any], also: Iterable[str] = ()) -> Any:
    """Apply flat settings (``{"network": "conv", "latent_dim": 2}``): choices first, then leaves.

    A choice that names the class already there keeps that class's settings. `also` are further options to suggest.

    Raises:
        InputError: for a name that this configuration does not have, or a value of wrong type or range.
    """
    left = dict(given)
    applied: set[tuple[str, ...]] = set()
    while True:  # a choice may bring further choices
        todo = [f for f in flags(config) if f.table and f.name in left and f.path not in applied]
        if not todo:
            break
        flag = todo[0]
        applied.add(flag.path)
        assert flag.table is not None
        entry = flag.table[str(left[flag.name])]
        if flag.value != left[flag.name]:
            config = replace(config, flag.path, entry())
    for flag in list(flags(config)):
        if flag.leaf and flag.name in left:
            config = replace(config, flag.path, parse(flag, left[flag.name]))
        if flag.name in left:
            del left[flag.name]
    for name in left:
        option = _option(name if left[name] is not False else f"no_{name}")
        paths = [flag.path for flag in every_flag(config) if flag.name == name]
        ways = [tuple(word.partition("=")[::2] for word in path if "=" in word) for path in paths]
        if ways:
            usual = {(flag.name, flag.value) for flag in flags(type(config)()) if flag.table}
            # what need be chosen for it: the fewest choices, and of these what is chosen where nothing is said
            *above, (table, first) = min(ways, key=lambda way: (len(way), -len(usual.intersection(way))))
            owners = sorted({way[-1][1] for way in ways if way[:-1] == tuple(above) and way[-1][0] == table})
            listed = " or ".join(filter(None, [", ".join(owners[:-1]), owners[-1]]))
            add = " ".join(f"{_option(choice)} {entry}" for choice, entry in (*above, (table, first)))
            raise InputError(f"option {option} belongs to {_option(table)} {listed}, which is not chosen; add {add}")
        raise unknown("option", option, [*also, *(flag.option for flag in flags(config))])
    return config


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def parse(flag: Flag, value: Any) -> Any:
    """`value` (a text from the command line, or a Python value) as the leaf's type, checked against its range."""
    kind = flag.type
    options = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        if value is None or value == "none":
            return None
        kind = next(o for o in options if o is not type(None))
        options = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        if value not in options:
            raise unknown(flag.option, value, map(str, options))
        return value
    if typing.get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)) or not parts:
            raise InputError(f"{flag.option}: {value!r} is not a list such as 32,64; separate the numbers by commas")
        return tuple(_number(flag, options[0], p) for p in parts)
    return _number(flag, kind, value)


def _number(flag: Flag, kind: type, value: Any) -> Any:
    if kind is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        if kind is bool and not isinstance(value, bool):
            raise ValueError
        if kind in (int, float) and isinstance(value, bool):
            raise ValueError
        result = kind(value)
        if kind is int and not isinstance(value, str) and result != value:
            raise ValueError
        if kind is float and not math.isfinite(result):
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{flag.option}: {value!r} is not {WORDS[kind]}; give {WORDS[kind]}{_within(flag)}") from None
    rule = flag.leaf or Leaf("")
    if kind is not str and (
        (rule.ge is not None and result < rule.ge)
        or (rule.gt is not None and result <= rule.gt)
        or (rule.le is not None and result > rule.le)
        or (rule.lt is not None and result >= rule.lt)
    ):
        raise InputError(f"{flag.option}: {value} is out of range; it must be {rule.range()}")
    return result


def _within(flag: Flag) -> str:
    words = flag.leaf.range() if flag.leaf else ""
    none = ", or none" if isinstance(flag.type, types.UnionType) else ""
    return (f" that is {words}" if words else "") + none


def check(config: Any) -> None:
    """Check every leaf of a configuration that was made in Python."""
    for flag in flags(config):
        if flag.leaf and (meant := parse(flag, flag.value)) != flag.value:
            raise InputError(f"{flag.option}: {flag.value!r} is not a Python value of its type; give {meant!r}")


def settled(config: Any) -> Any:
    """A configuration for a new run: entries that have a method `settled`, because they name files, are replaced by what
    it returns, in which nothing is left to the files or to the present folder."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    inner = {item.name: settled(getattr(config, item.name)) for item in dataclasses.fields(config)}
    changed = {name: value for name, value in inner.items() if value is not getattr(config, name)}
    config = dataclasses.replace(config, **changed) if changed else config
    own = getattr(config, "settled", None)
    return config if own is None else own()


def encode(value: Any) -> Any:
    """A configuration as plain JSON values; entries of tables carry their name."""
    if not dataclasses.is_dataclass(value):
        return list(value) if isinstance(value, tuple) else value
    result = {}
    for item in dataclasses.fields(value):
        inner = encode(getattr(value, item.name))
        if table := item.metadata.get("choice"):
            inner = {"name": table.name_of(getattr(value, item.name)), **inner}
        result[item.name] = inner
    return result


def decode(cls: type, data: Any) -> Any:
    """The inverse of `encode`, checked.

    Raises:
        InputError: for a field that is missing a type, unknown, or out of range.
    """
    if not isinstance(data, dict):
        raise InputError(f"configuration: {json.dumps(data)[:40]} is not an object with fields")
    known = {item.name: item for item in dataclasses.fields(cls)}
    for name in data:
        if name not in known:
            raise unknown("configuration field", name, known)
    values: dict[str, Any] = {}
    for name, inner in data.items():
        item, kind = known[name], hints(cls)[name]
        if table := item.metadata.get("choice"):
            if not isinstance(inner, dict) or "name" not in inner:
                raise InputError(f'configuration field {name!r} has no "name"; choose from {", ".join(table)}')
            values[name] = decode(table[str(inner["name"])], {k: v for k, v in inner.items() if k != "name"})
        elif rule := item.metadata.get("leaf"):
            values[name] = parse(Flag((name,), kind, None, rule.help, leaf=rule), inner)
        elif dataclasses.is_dataclass(kind):
            values[name] = decode(typing.cast(type, kind), inner)
        else:
            values[name] = inner
    return cls(**values)
