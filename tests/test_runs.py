"""The run folder: every file is the old one or the new one, and one process holds it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.runs import Resolved, Run, check_new, write_atomically
from vaekit.settings import configure

CONFIG = configure("cvae-onehot", data="digits", latent_dim=3, beta=0.25, gradient_clip=1.5)
INFO = DataInfo("digits", (1, 8, 8), tuple("0123456789"), False, 100, 4)
RESOLVED = Resolved("cpu", "float32", 2, 1)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "deep" / "run", CONFIG, INFO, RESOLVED)


def test_a_run_is_read_back_as_it_was_made(run: Run) -> None:
    again = Run(str(run.path))
    assert (again.config, again.info, again.resolved) == (CONFIG, INFO, RESOLVED)
    assert run.figures.is_dir()
    stored = json.loads((run.path / "config.json").read_text())
    assert stored["versions"].keys() == {"python", "torch"}
    assert [file.name for file in run.path.iterdir() if file.is_file()] == ["config.json"]


def test_a_folder_that_holds_a_run_is_not_overwritten(run: Run) -> None:
    before = (run.path / "config.json").read_bytes()
    with pytest.raises(InputError) as refusal:
        Run.create(run.path, configure("mlp"), INFO, RESOLVED)
    path = str(run.path)
    assert (
        str(refusal.value) == f"--out {path!r} holds a run already; continue it with vaekit resume, or choose another"
    )
    assert (run.path / "config.json").read_bytes() == before


def test_a_folder_with_other_files_is_used_and_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    Run.create(tmp_path, CONFIG, INFO, RESOLVED)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(InputError, match=r"notes.txt' is a file; choose a folder$"):
        check_new(tmp_path / "notes.txt")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^--out '.*' cannot be written \(Not a directory\); choose another folder$"):
        Run.create(tmp_path / "file" / "below", CONFIG, INFO, RESOLVED)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(InputError) as refusal:
            Run(path)
        assert str(refusal.value) == f"run {str(path)!r} has no config.json; give a folder made by vaekit train"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "the configuration is damaged; restore it or train anew"),
        (lambda text: "[]", "the configuration is damaged; restore it or train anew"),
        (lambda text: text.replace('"resolved"', '"resolve"'), "the configuration is damaged"),
        (lambda text: text.replace('"latent_dim": 3', '"latent_dim": 0'), "--latent-dim: 0 is out of range"),
        (lambda text: text.replace('"latent_dim"', '"latent_dimm"'), "did you mean 'latent_dim'"),
        (lambda text: text.replace('"onehot"', '"onehott"'), "did you mean 'onehot'"),
        (
            lambda text: text.replace('"latent_dim": 3', '"latent_dim": "many"'),
            "'many' is not a whole number",
        ),
    ],
)
def test_a_changed_configuration_is_refused_with_its_place(run: Run, change: Any, message: str) -> None:
    file = run.path / "config.json"
    changed = change(file.read_text())
    assert changed != file.read_text()
    file.write_text(changed)
    with pytest.raises(InputError) as refusal:
        Run(run.path)
    assert str(refusal.value).startswith(f"{file}: ")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_metrics_are_replaced_whole_and_read_to_the_first_broken_line(run: Run) -> None:
    assert run.metrics() == []
    records = [
        {"epoch": 1, "train": {"loss": 0.1}, "val": None},
        {"epoch": 2, "train": {"loss": 1e-12}, "val": None},
    ]
    run.write_metrics([*records, {"epoch": 3}])
    run.write_metrics(records)
    assert run.metrics() == records
    file = run.path / "metrics.jsonl"
    assert [json.loads(line) for line in file.read_text().splitlines()] == records
    file.write_text(file.read_text() + '{"epoch": 3, "tr')
    assert run.metrics() == records


def test_writing_replaces_the_file_or_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_atomically(file, "old ünïcode")
    write_atomically(file, b"\x00\xff")
    assert file.read_bytes() == b"\x00\xff"

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    for function in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, fail)
            with pytest.raises(OSError, match="No space left"):
                write_atomically(file, "new")
        assert file.read_bytes() == b"\x00\xff"
        assert list(tmp_path.iterdir()) == [file]  # nothing is left beside it


def test_the_content_is_on_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment of the rename the temporary file is whole, flushed, and on the same file system."""
    seen = []
    replace, fsync = os.replace, os.fsync

    def check(source: str, target: Path) -> None:
        seen.append((Path(source).read_bytes(), Path(source).parent))
        replace(source, target)

    monkeypatch.setattr(os, "replace", check)
    monkeypatch.setattr(os, "fsync", lambda handle: (seen.append("flushed"), fsync(handle)))
    write_atomically(tmp_path / "file", "content" * 10000)
    assert seen == ["flushed", (b"content" * 10000, tmp_path)]
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_the_lock_is_for_one_and_is_let_go(run: Run) -> None:
    with run.locked():
        with (
            pytest.raises(InputError, match=r"is in use by another process; wait for it or stop it$"),
            Run(run.path).locked(),
        ):
            pytest.fail("both held it")
        with pytest.raises(InputError), run.locked():
            pytest.fail("both held it")
    with run.locked():
        pass
    with pytest.raises(KeyError), run.locked():
        raise KeyError
    with run.locked():
        pass


def test_leftovers_of_killed_writes_are_cleaned_and_nothing_else(run: Run) -> None:
    write_atomically(run.checkpoint, b"kept")
    (run.path / ".checkpoint.a1b2c3d4").write_bytes(b"cut short")
    (run.figures / ".loss.png.x_y_z_12").write_bytes(b"cut short")
    (run.path / ".note").write_text("the user's own")
    run.clean()
    assert sorted(file.name for file in run.path.iterdir() if file.is_file()) == [".note", "checkpoint", "config.json"]
    assert not list(run.figures.iterdir())


def test_metrics_are_json_even_where_a_number_is_not_finite(run: Run) -> None:
    run.write_metrics([{"epoch": 1, "val": {"loss": float("nan"), "elbo_nats": float("-inf")}}])
    text = (run.path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=lambda word: pytest.fail(word)) == {
        "epoch": 1,
        "val": {"loss": None, "elbo_nats": None},
    }
