"""Bad input ends with exit code 2 and one sentence that names the thing, the value and the mend."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import cases
from commands import good, refused, run
from vaekit.cli import EXAMPLES, VERBS, main
from vaekit.config import Flag, flags, plain
from vaekit.data.loaded import SOURCES
from vaekit.runs import Run
from vaekit.settings import PRESETS, Config

Capture = pytest.CaptureFixture[str]
LEAVES = cases.leaves()
each_leaf = pytest.mark.parametrize("case", LEAVES, ids=map(cases.leaf_name, LEAVES))


def choices(config: Config) -> list[str]:
    """The command line that chooses the parts of a configuration."""
    return [word for flag in flags(config) if flag.table for word in (flag.option, str(flag.value))]


def text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


# every leaf of every entry of every table


@each_leaf
def test_misspelt_option(case: tuple[Config, Flag], capsys: Capture, folder: Path) -> None:
    config, flag = case
    wrong = f"{flag.option}{flag.option[-1]}"
    sentence = refused(capsys, "train", "--out", "x", *choices(config), wrong, text(flag.value))
    assert sentence == f"option {wrong!r} is unknown; did you mean {flag.option!r}?"


@each_leaf
def test_option_without_value(case: tuple[Config, Flag], capsys: Capture, folder: Path) -> None:
    config, flag = case
    if cases.inner_type(flag) is bool:
        return  # is switched on by its bare name
    for words in ([flag.option], [flag.option, "--json"]):
        sentence = refused(capsys, "train", *choices(config), *words, "--out", "x")
        assert sentence == f"{flag.option} has no value; write {flag.option} VALUE"


@each_leaf
def test_value_out_of_range(case: tuple[Config, Flag], capsys: Capture, folder: Path) -> None:
    config, flag = case
    rule = flag.leaf
    assert rule is not None
    for value in map(text, cases.out_of_range(flag)):
        for words in ([flag.option, value], [f"{flag.option}={value}"]):
            sentence = refused(capsys, "train", "--out", "x", *choices(config), *words)
            assert sentence.startswith(f"{flag.option}: {value} is out of range; it must be ")
            for limit in (rule.ge, rule.gt, rule.le, rule.lt):
                assert limit is None or plain(limit) in sentence


@each_leaf
def test_value_of_wrong_type(case: tuple[Config, Flag], capsys: Capture, folder: Path) -> None:
    config, flag = case
    for value in cases.wrong_types(flag):
        if not isinstance(value, str):
            continue
        sentence = refused(capsys, "train", "--out", "x", *choices(config), f"{flag.option}={value}")
        assert sentence.startswith(flag.option)
        assert repr(value) in sentence or any(part in sentence for part in value.split(",") if part or "''" in sentence)
        assert "; " in sentence


@each_leaf
def test_option_of_a_part_that_is_not_chosen(case: tuple[Config, Flag], capsys: Capture, folder: Path) -> None:
    config, flag = case
    if flag.name in {known.name for known in flags(Config())}:
        return
    chosen = {f.option: f.value for f in flags(config) if f.table}
    sentence = refused(capsys, "train", "--out", "x", flag.option, text(flag.value))
    owners, advice = sentence.split(" belongs to ")[1].split(", which is not chosen; add ")
    option, _, listed = owners.partition(" ")
    names = re.split(", | or ", listed)
    assert sentence.startswith(f"option {flag.option} belongs to {option} ")
    *above, last, first = advice.split()
    assert (last, first) == (option, names[0])
    assert chosen.keys() >= {option}
    for name in names:
        help_text = good(capsys, "train", *above, option, name, "--help").out
        assert f"{flag.option} " in help_text or f"{flag.option}," in help_text


# names


@pytest.mark.parametrize("path", list(cases.tables()), ids=lambda path: path[-1])
def test_unknown_choice(path: tuple[str, ...], capsys: Capture, folder: Path) -> None:
    table, option = cases.tables()[path], "--" + path[-1].replace("_", "-")
    config = next(each for each in cases.variations() if path in {flag.path for flag in flags(each)})
    above = [
        flag
        for flag in flags(config)
        if flag.table and len(flag.path) < len(path) and flag.path == path[: len(flag.path)]
    ]
    words = [word for flag in above for word in (flag.option, str(flag.value))]
    for name in table:
        sentence = refused(capsys, "train", "--out", "x", *words, option, name + "x")
        assert sentence == f"{table.kind} {name + 'x'!r} is unknown; did you mean {name!r}?"
    sentence = refused(capsys, "train", "--out", "x", *words, option, "0000")
    assert sentence == f"{table.kind} '0000' is unknown; choose from {', '.join(table)}"


@pytest.mark.parametrize("preset", PRESETS)
def test_unknown_preset(preset: str, capsys: Capture) -> None:
    wrong = preset[0] + preset
    sentence = refused(capsys, "train", "--out", "x", "--preset", wrong)
    assert sentence == f"preset {wrong!r} is unknown; did you mean {preset!r}?"


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_verb(verb: str, capsys: Capture) -> None:
    assert refused(capsys, verb + "e") == f"command {verb + 'e'!r} is unknown; did you mean {verb!r}?"
    assert "did you mean" in refused(capsys, verb.capitalize())


@pytest.mark.parametrize("name", list(SOURCES))
def test_unknown_data_set(name: str, capsys: Capture, folder: Path) -> None:
    for wrong in (name + "s", name.replace("-", "").upper()):
        if wrong.lower() != name:
            sentence = refused(capsys, "train", "--out", "x", "--data", wrong)
            assert sentence == f"data set, file or folder {wrong!r} is unknown; did you mean {name!r}?"


@pytest.mark.parametrize("name", ["photo.png", "photos.tar.gz", "some/photos", "own.npy"])
def test_what_looks_like_a_file_and_is_not_there(name: str, capsys: Capture, folder: Path, trained_run: Run) -> None:
    for words in (
        ["train", "--out", "x", "--data", name],
        ["reconstruct", trained_run.path, "--out", "x.png", "--images", name],
    ):
        assert refused(capsys, *words).endswith(f"{name!r} does not exist; check the path")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "train"])
def test_misspelt_options_of_every_verb(verb: str, capsys: Capture, trained_run: Run) -> None:
    lines = good(capsys, verb, "--help").out.splitlines()
    options = [word.rstrip(",") for line in lines for word in line.split()[:1] if word.startswith("--")]
    assert options
    for option in options:
        wrong = option + option[-1]
        sentence = refused(capsys, verb, "x", wrong)
        assert sentence == f"option {wrong!r} is unknown; did you mean {option!r}?"


def test_unforeseen_errors_are_one_line(capsys: Capture, trained_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("vaekit.commands.verbs.evaluate", fail)
    answer = run(capsys, "evaluate", trained_run.path, "--json")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == "vaekit: ZeroDivisionError: two lines; set VAEKIT_DEBUG=1 to see where\n"
    monkeypatch.setenv("VAEKIT_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["evaluate", str(trained_run.path)])


# as a program


@pytest.mark.parametrize("words", ["trian", "train --epochs abc", "evaluate nowhere --json"])
def test_through_the_shell(words: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "vaekit", *words.split()], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("vaekit: ")
    assert ended.stderr.count("\n") == 1


def test_cuda_that_is_not_there(capsys: Capture, folder: Path, trained_run: Run) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    words = ["train", "--out", "x", "--data", "digits", "--device", "cuda"]
    assert refused(capsys, *words) == "--device cuda: this machine has no usable CUDA device; choose cpu or auto"
    sentence = refused(capsys, "evaluate", trained_run.path, "--device", "cuda")
    assert sentence == "--device cuda: this machine has no usable CUDA device; choose cpu or auto"


def test_every_verb_has_examples() -> None:
    assert EXAMPLES.keys() == VERBS.keys()
    for verb, lines in EXAMPLES.items():
        assert all(line.startswith(f"vaekit {verb}") for line in lines)
