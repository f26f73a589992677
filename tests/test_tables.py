"""Tables of named parts."""

from __future__ import annotations

import dataclasses

import pytest

import cases
from vaekit.config import flags, leaf
from vaekit.data.loaded import SOURCES
from vaekit.errors import InputError
from vaekit.networks.table import NETWORKS
from vaekit.tables import Table

ENTRIES = [(table, name) for table in [*cases.tables().values(), SOURCES] for name in table]


def test_a_configuration_reaches_the_known_tables() -> None:
    kinds = {table.kind for table in cases.tables().values()}
    assert kinds >= {"model", "network", "likelihood", "posterior", "prior", "conditioning", "objective"}
    assert kinds >= {"beta schedule", "binarization", "corruption"}


@pytest.mark.parametrize(("table", "name"), ENTRIES, ids=[f"{table.kind}-{name}" for table, name in ENTRIES])
def test_entry_keeps_the_contract(table: Table, name: str) -> None:
    cls = table[name]
    entry = cls()
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert table.name_of(entry) == name
    assert entry == cls()
    assert hash(entry) == hash(cls())
    assert name == name.lower()
    assert " " not in name
    assert "_" not in name
    summary = table.summary(name)
    assert summary.strip()
    assert "\n" not in summary
    for item in dataclasses.fields(cls):
        assert item.name != "name", "the JSON of an entry keeps its table's name under that key"
        assert "leaf" in item.metadata or "choice" in item.metadata, f"{item.name} would be no flag"
    for flag in flags(entry):
        assert flag.help.strip()
        assert "\n" not in flag.help


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^network 'cnov' is unknown; did you mean 'conv'\?$"):
        NETWORKS["cnov"]
    with pytest.raises(InputError, match=r"^network 'zzz' is unknown; choose from conv, mlp"):
        NETWORKS["zzz"]


def test_a_second_entry_of_the_same_name_is_refused() -> None:
    table = Table("thing", "vaekit.networks")

    @table.register("a")
    @dataclasses.dataclass(frozen=True)
    class A:
        """First."""

    @dataclasses.dataclass(frozen=True)
    class B:
        """Second."""

        size: int = leaf(1, "size")

    with pytest.raises(InputError, match="thing 'a' is registered twice"):
        table.register("a")(B)
    assert table.name_of(A()) == "a"
    with pytest.raises(InputError, match="B is not a registered thing"):
        table.name_of(B())


def test_names_come_sorted() -> None:
    for table in cases.tables().values():
        assert list(table) == sorted(table)
