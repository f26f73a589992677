"""The configuration tree: ranges, types, precedence, JSON; over every leaf of every entry of every table."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
from vaekit.config import Flag, Leaf, check, decode, encode, flags, parse, replace, set_flags
from vaekit.data.binarization import Threshold
from vaekit.errors import InputError
from vaekit.networks.conv import Conv
from vaekit.networks.mlp import MLP
from vaekit.settings import Config, Training

LEAVES = cases.leaves()
VARIATIONS = cases.variations()
each_leaf = pytest.mark.parametrize("case", LEAVES, ids=map(cases.leaf_name, LEAVES))


def through_json(config: Config) -> Config:
    return decode(Config, json.loads(json.dumps(encode(config), allow_nan=False)))


def assert_one_sentence(message: str, value: Any, option: str) -> None:
    """One line that begins with the option and names the value."""
    assert message.startswith(option), message
    assert "\n" not in message, message
    assert not message.endswith("."), message
    assert ". " not in message, message
    assert len(message) < 300 + len(repr(value)), message
    parts = value if isinstance(value, (list, tuple)) and value else [value]
    texts = [repr(value), str(value), *map(repr, parts), *map(str, parts)]
    if isinstance(value, str):
        texts += [*map(repr, value.split(",")), *filter(None, value.split(","))]
    assert any(text in message for text in texts), message


@pytest.mark.parametrize("config", VARIATIONS, ids=range(len(VARIATIONS)))
def test_every_entry_survives_json(config: Config) -> None:
    assert through_json(config) == config
    check(config)


@each_leaf
def test_every_leaf_takes_its_range_and_survives_json(case: tuple[Config, Flag]) -> None:
    config, flag = case
    for value in cases.valid_values(flag):
        for changed in (set_flags(config, {flag.name: value}), replace(config, flag.path, value)):
            found = next(f for f in flags(changed) if f.path == flag.path).value
            assert found == value
            assert type(found) is type(value)
            check(changed)
            assert through_json(changed) == changed


@each_leaf
def test_every_leaf_reads_its_own_text(case: tuple[Config, Flag]) -> None:
    """The command line gives texts: the text of a value means the value."""
    config, flag = case
    for value in cases.valid_values(flag):
        text = ",".join(map(str, value)) if isinstance(value, tuple) else "none" if value is None else str(value)
        assert set_flags(config, {flag.name: text}) == set_flags(config, {flag.name: value})


@each_leaf
def test_every_leaf_refuses_what_is_out_of_range(case: tuple[Config, Flag]) -> None:
    config, flag = case
    for value in cases.out_of_range(flag):
        for attempt in (
            lambda value=value: set_flags(config, {flag.name: value}),
            lambda value=value: check(replace(config, flag.path, value)),
            lambda value=value: decode(Config, encode(replace(config, flag.path, value))),
        ):
            with pytest.raises(InputError) as error:
                attempt()
            assert_one_sentence(str(error.value), value, flag.option)
            assert "must be" in str(error.value)


@each_leaf
def test_every_leaf_refuses_wrong_types(case: tuple[Config, Flag]) -> None:
    config, flag = case
    for value in cases.wrong_types(flag):
        for attempt in (
            lambda value=value: set_flags(config, {flag.name: value}),
            lambda value=value: check(replace(config, flag.path, value)),
        ):
            with pytest.raises(InputError) as error:
                attempt()
            assert_one_sentence(str(error.value), value, flag.option)


def test_numbers_given_as_text_in_python_are_refused_not_kept() -> None:
    """On the command line a text is converted; inside a configuration made in Python it would stay."""
    for training in (Training(epochs="5"), Training(batch_size="32"), Training(select_best="true")):  # type: ignore
        with pytest.raises(InputError, match="--"):
            check(Config(training=training))
    with pytest.raises(InputError, match="--channels"):
        check(replace(Config(), ("model", "network"), Conv(channels=[8, 16])))  # type: ignore


def test_an_optional_leaf_is_switched_off_by_none() -> None:
    config = Config(training=Training(patience=3, gradient_clip=1.0))
    off = set_flags(config, {"patience": "none", "gradient_clip": None})
    assert off.training.patience is None
    assert off.training.gradient_clip is None
    with pytest.raises(InputError, match="--epochs"):
        set_flags(config, {"epochs": None})


@pytest.mark.parametrize("config", VARIATIONS, ids=range(len(VARIATIONS)))
def test_flag_names_never_clash(config: Config) -> None:
    """Flat names must tell leaves apart: all pairs of entries, since a clash is between two of them."""
    for flag in [f for f in flags(config) if f.table]:
        for name in flag.table or ():
            names = [f.name for f in flags(replace(config, flag.path, flag.table[name]()))]
            assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)


def test_a_leaf_name_means_one_thing_everywhere() -> None:
    """A name that two entries share has one type, though one of them may do without."""
    types: dict[str, Any] = {}
    for _, flag in LEAVES:
        assert types.setdefault(flag.name, cases.inner_type(flag)) == cases.inner_type(flag), flag.name


def test_choices_come_before_leaves_in_any_order() -> None:
    for given_settings in (
        {"network": "mlp", "hidden": "10,20"},
        {"hidden": "10,20", "network": "mlp"},
    ):
        assert set_flags(Config(), given_settings).model.network == MLP(hidden=(10, 20))


def test_a_choice_that_is_there_keeps_its_settings() -> None:
    config = replace(Config(), ("model", "network"), Conv(channels=(8,), dense=7))
    assert set_flags(config, {"network": "conv"}).model.network == Conv(channels=(8,), dense=7)
    assert set_flags(config, {"network": "conv", "dense": 9}).model.network == Conv(channels=(8,), dense=9)
    back = set_flags(set_flags(config, {"network": "mlp"}), {"network": "conv"})
    assert back.model.network == Conv()


def test_a_leaf_of_another_choice_is_refused() -> None:
    with pytest.raises(InputError, match=r"^option --hidden belongs to --network mlp, which is not chosen"):
        set_flags(Config(), {"hidden": "10"})
    with pytest.raises(InputError, match=r"^option --no-learn-sigma belongs to --likelihood gaussian, which is not"):
        set_flags(Config(), {"learn_sigma": False})
    deep = set_flags(Config(), {"model": "hierarchical"})
    with pytest.raises(
        InputError, match=r"^option --prior belongs to --model hamiltonian, .* or vae, .*; add --model vae$"
    ):
        set_flags(deep, {"prior": "vamp"})  # what is chosen where nothing is said, and not what comes first
    with pytest.raises(InputError, match=r"^option '--latnet-dim' is unknown; did you mean '--latent-dim'\?$"):
        set_flags(Config(), {"latnet_dim": 3})


def test_unknown_choices_name_the_nearest() -> None:
    for path, table in cases.tables().items():
        config = next(c for c in VARIATIONS if any(f.path == path for f in flags(c)))
        name = next(iter(table))
        with pytest.raises(InputError, match=rf"^{table.kind} '{name}x' is unknown; did you mean '{name}'\?$"):
            set_flags(config, {path[-1]: name + "x"})
        with pytest.raises(InputError, match=f"^{table.kind} 'None' is unknown"):
            set_flags(config, {path[-1]: None})


def test_the_tree_given_is_left_alone() -> None:
    config, settings_given = Config(), {"latent_dim": 3}
    set_flags(config, settings_given)
    assert config == Config()
    assert settings_given == {"latent_dim": 3}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d.update(modle=1), r"configuration field 'modle' is unknown; did you mean 'model'\?"),
        (lambda d: d["model"].pop("name"), "configuration field 'model' has no \"name\""),
        (lambda d: d.update(model="vae"), "configuration field 'model' has no \"name\""),
        (lambda d: d["model"].update(name="vea"), r"model 'vea' is unknown; did you mean 'vae'\?"),
        (lambda d: d["model"]["network"].update(hidden=[3]), "configuration field 'hidden' is unknown"),
        (lambda d: d["model"].update(latent_dim="x"), "--latent-dim: 'x' is not a whole number"),
        (lambda d: d.update(training=[1]), r"configuration: \[1\] is not an object"),
        (lambda d: d["training"].update(epochs=None), "--epochs: None is not a number"),
        (lambda d: d["model"].update(name=["vae"]), "is unknown"),
    ],
)
def test_damaged_json_is_named(damage: Any, words: str) -> None:
    data = encode(Config())
    damage(data)
    with pytest.raises(InputError, match=words):
        decode(Config, data)


def test_fields_left_out_of_json_take_their_defaults() -> None:
    data = encode(Config())
    del data["training"]["patience"], data["model"]["network"]
    assert decode(Config, data) == Config()


def test_ranges_in_words() -> None:
    assert Leaf("").range() == ""
    assert Leaf("", ge=1, lt=5).range() == "at least 1 and less than 5"
    flag = Flag(("threshold",), float, 0.5, "", leaf=Leaf("", ge=0, lt=1))
    with pytest.raises(InputError, match=r"^--threshold: 1 is out of range; it must be at least 0 and less than 1$"):
        parse(flag, 1)


@given(st.floats(allow_nan=True, allow_infinity=True))
@settings(max_examples=200)
def test_any_float_is_taken_or_refused(value: float) -> None:
    config = replace(Config(), ("data", "binarization"), Threshold())
    inside = 0 <= value < 1
    try:
        assert set_flags(config, {"threshold": value}).data.binarization.threshold == value
        assert inside
    except InputError:
        assert not inside


@given(st.text(max_size=12))
@settings(max_examples=300)
def test_any_text_is_taken_or_refused(value: str) -> None:
    """No text may give anything but a value or an InputError."""
    for name in ("epochs", "batch_size", "channels", "select_best", "decay", "patience", "network", "seed"):
        with suppress(InputError):
            check(set_flags(Config(), {name: value}))
