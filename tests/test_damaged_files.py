"""Damaged files, places that cannot be written, full disks: one sentence, and what was saved is whole."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from commands import good, refused
from vaekit.runs import Run

Capture = pytest.CaptureFixture[str]


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.arange(12 * 8 * 8).reshape(12, 8, 8).astype(np.uint8)


def _mnist(folder: Path, *files: bytes) -> list[str]:
    parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    (folder / "mnist").mkdir()
    for part, raw in zip(parts, files, strict=False):
        (folder / "mnist" / f"{part}-ubyte.gz").write_bytes(raw)
    return ["train", "--out", "new", "--data", "mnist", "--data-dir", str(folder)]


def _data(name: str, content: Any) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif isinstance(content, dict):
            np.savez(folder / name, **content)
        else:
            np.save(folder / name, content, allow_pickle=True)
        return ["train", "--out", "new", "--data", name, "--batch-size", "2"]

    return make


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _with_nan() -> np.ndarray:
    array = IMAGES / 255.0
    array[3, 2, 1] = np.nan
    return array


DAMAGED: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "gz cut short": (lambda f: _mnist(f, gzip.compress(idx(IMAGES))[:-9]), "train-images.*cut short; get"),
    "not gzip": (lambda f: _mnist(f, b"no gzip at all"), "train-images.*damaged or cut short; get"),
    "wrong magic": (
        lambda f: _mnist(f, gzip.compress(b"\x89PNG" + bytes(50))),
        "89504e47.*; get the file again",
    ),
    "fewer values": (
        lambda f: _mnist(f, gzip.compress(idx(IMAGES)[:-5])),
        r"\(12, 8, 8\) values but holds 763",
    ),
    "wrong checksum": (
        lambda f: _mnist(f, gzip.compress(idx(IMAGES))),
        "checksum [0-9a-f]{32} is not the official",
    ),
    "NaN": (_data("a.npy", _with_nan()), "a.npy: image 3 holds NaN"),
    "floats above 1": (_data("a.npy", IMAGES * 1.0), "from 0 to 255 are out of range; scale them to 0 to 1"),
    "negative": (_data("a.npy", IMAGES.astype(int) - 3), "from -3 to 252 are out of range; give 0 to 255"),
    "complex": (_data("a.npy", IMAGES * 1j), "type complex128 are not numbers; give uint8"),
    "texts": (_data("a.npy", np.full((4, 8, 8), "a")), "type <U1 are not numbers"),
    "flat": (_data("a.npy", IMAGES.reshape(12, 64)), r"shape \(12, 64\) is not \(images, height, width\)"),
    "one number": (_data("a.npy", np.array(3)), r"shape \(\) is not"),
    "no images": (_data("a.npy", IMAGES[:0]), r"shape \(0, 8, 8, 1\)"),
    "channels first": (_data("a.npy", np.zeros((4, 3, 32, 32), np.uint8)), "give the channels last"),
    "objects": (_data("a.npy", np.array([1, "a", None], dtype=object)), "holds Python objects; save"),
    "objects in npz": (
        _data("a.npz", {"images": np.array([1, None], dtype=object)}),
        "holds Python objects; save",
    ),
    "empty file": (_data("a.npy", b""), "a.npy: cannot be read as a NumPy array, it is damaged"),
    "empty npz": (_data("a.npz", b""), "a.npz: cannot be read as a NumPy array, it is damaged"),
    "not a zip": (_data("a.npz", bytes(range(256))), "a.npz: cannot be read as a NumPy array, it is damaged"),
    "cut npy": (_data("a.npy", _npy(IMAGES)[:-100]), "a.npy: cannot be read as a NumPy array, it is damaged"),
    "labels that differ": (
        _data("a.npz", {"images": IMAGES, "labels": range(11)}),
        r"12 images but labels .*\(11,\)",
    ),
    "labels of fractions": (
        _data("a.npz", {"images": IMAGES, "labels": np.ones(12)}),
        "whole numbers.*float64",
    ),
    "negative labels": (_data("a.npz", {"x": IMAGES, "y": np.arange(12) - 1}), "whole numbers from 0 up.*-1"),
    "unknown names": (
        _data("a.npz", {"foo": IMAGES}),
        "no array named images, x or x_train among foo; rename",
    ),
    "missing file": (lambda f: ["train", "--out", "new", "--data", "a.npy"], "'a.npy' does not exist; check"),
    "another file": (
        lambda f: [*_data("a.txt.npy", IMAGES)(f)[:3], "--data", "."],
        "data '.' holds no images that can be read; give files that end in .jpg, .png or the like",
    ),
    "missing data folder": (
        lambda f: ["train", "--out", "new", "--data", "mnist", "--data-dir", "nowhere"],
        "--data-dir: folder 'nowhere' does not exist; give the folder that holds the data sets",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_data(case: str, capsys: Capture, folder: Path) -> None:
    make, pattern = DAMAGED[case]
    sentence = refused(capsys, *make(folder))
    assert re.search(pattern, sentence), sentence
    assert not (folder / "new").exists()


def test_label_count_of_official_files(capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaekit.data.sources.verify", lambda path, md5: None)
    labels = np.zeros(11, np.uint8)
    words = _mnist(folder, *(gzip.compress(idx(array)) for array in (IMAGES, labels, IMAGES, labels)))
    assert refused(capsys, *words) == "mnist: 12 images but labels of shape (11,); give one label each"


def test_damaged_models(capsys: Capture, folder: Path, trained_run: Run) -> None:
    raw = trained_run.model.read_bytes()
    (folder / "random.safetensors").write_bytes(bytes(range(200)))
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "cut.safetensors").write_bytes(raw[:-10])
    (folder / "header.safetensors").write_bytes(raw[:100])
    (folder / "text").write_text("a model")
    for name in ("random.safetensors", "empty.safetensors", "cut.safetensors", "header.safetensors", "text"):
        for words in (["evaluate", name], ["sample", name, "--out", "x.png"]):
            sentence = refused(capsys, *words)
            assert sentence == f"{name}: is not a model of vaekit, or is damaged; restore it or train anew"
    save_file({"weight": np.zeros(3)}, folder / "other.safetensors")
    assert refused(capsys, "evaluate", "other.safetensors") == (
        "other.safetensors: is a safetensors file but no model of vaekit; give one that vaekit wrote"
    )
    assert refused(capsys, "evaluate", "gone") == "gone: there is no model; train first, or give another path"
    checkpoint = shutil.copy(trained_run.checkpoint, folder / "checkpoint.safetensors")
    assert refused(capsys, "evaluate", checkpoint).startswith(f"{checkpoint}: ")


def _copy(run: Run, folder: Path) -> Path:
    return Path(shutil.copytree(run.path, folder / "run"))


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))


CONFIGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (lambda p: p.unlink(), "run 'run' has no config.json; give a folder made by vaekit train"),
    "empty": (lambda p: p.write_text(""), "run/config.json: the configuration is damaged; restore it"),
    "cut": (
        lambda p: p.write_text(p.read_text()[:200]),
        "run/config.json: the configuration is damaged; restore it",
    ),
    "bytes": (
        lambda p: p.write_bytes(bytes(range(128, 256))),
        "run/config.json: the configuration is damaged",
    ),
    "a list": (lambda p: p.write_text("[1, 2]"), "run/config.json: the configuration is damaged"),
    "no config": (
        lambda p: _edit(p, lambda s: s.pop("config")),
        "run/config.json: the configuration is damaged",
    ),
    "no device": (
        lambda p: _edit(p, lambda s: s["resolved"].pop("device")),
        "run/config.json: the configuration is damaged",
    ),
    "unknown field": (
        lambda p: _edit(p, lambda s: s["config"]["training"].update(epochz=3)),
        "run/config.json: configuration field 'epochz' is unknown; did you mean 'epochs'?",
    ),
    "out of range": (
        lambda p: _edit(p, lambda s: s["config"]["training"].update(epochs=-3)),
        "run/config.json: --epochs: -3 is out of range",
    ),
    "unknown choice": (
        lambda p: _edit(p, lambda s: s["config"]["model"]["network"].update(name="mpl")),
        "run/config.json: network 'mpl' is unknown; did you mean 'mlp'?",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_damaged_configuration(case: str, capsys: Capture, folder: Path, trained_run: Run) -> None:
    damage, words = CONFIGS[case]
    damage(_copy(trained_run, folder) / "config.json")
    for verb in ("resume", "report"):
        assert refused(capsys, verb, "run").startswith(words)


def test_damaged_checkpoint(capsys: Capture, folder: Path, trained_run: Run) -> None:
    path = _copy(trained_run, folder) / "checkpoint"
    raw = path.read_bytes()
    path.write_bytes(raw[:-100])
    assert refused(capsys, "resume", "run") == (
        "run/checkpoint: is not a checkpoint of vaekit, or is damaged; restore it or train anew"
    )
    path.write_bytes(raw)
    _edit(path.with_name("config.json"), lambda s: s["config"]["model"].update(latent_dim=5))
    assert refused(capsys, "resume", "run") == (
        "run/checkpoint: the checkpoint does not fit the run's config.json; restore both or train anew"
    )


def test_run_without_a_model(capsys: Capture, folder: Path, trained_run: Run) -> None:
    (_copy(trained_run, folder) / "model.safetensors").unlink()
    for words in (["evaluate", "run"], ["sample", "run", "--out", "x.png"]):
        assert refused(capsys, *words) == "run 'run' has no model yet; finish it with vaekit resume run"


def test_damaged_evaluation(capsys: Capture, folder: Path, trained_run: Run) -> None:
    (_copy(trained_run, folder) / "evaluation-test.json").write_text("{")
    assert refused(capsys, "report", "run") == (
        "run/evaluation-test.json: is damaged; remove it, or run vaekit evaluate run again"
    )


# places that cannot be written


def test_places_for_a_run(capsys: Capture, folder: Path, trained_run: Run) -> None:
    (folder / "file").write_text("kept")
    words = ["train", "--data", "digits", "--preset", "mlp", "--out"]
    assert refused(capsys, *words, "file") == "--out 'file' is a file; choose a folder"
    assert refused(capsys, *words, "file/below") == (
        "--out 'file/below' cannot be written (Not a directory); choose another folder"
    )
    assert (folder / "file").read_text() == "kept"
    before = {path: path.read_bytes() for path in trained_run.path.iterdir() if path.is_file()}
    assert refused(capsys, *words, trained_run.path) == (
        f"--out {str(trained_run.path)!r} holds a run already; continue it with vaekit resume, or choose another"
    )
    assert before == {path: path.read_bytes() for path in trained_run.path.iterdir() if path.is_file()}


def test_places_for_images(capsys: Capture, folder: Path, trained_run: Run) -> None:
    (folder / "file").write_text("kept")
    (folder / "folder.png").mkdir()
    words = ["sample", trained_run.path, "--count", "1", "--out"]
    assert refused(capsys, *words, "file/x.png") == "--out 'file/x.png': folder 'file' does not exist; make it first"
    assert refused(capsys, *words, "folder.png") == (
        "--out 'folder.png' cannot be written (Is a directory); choose another place"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["file", "folder.png"]


def test_own_images_that_do_not_fit(capsys: Capture, folder: Path, trained_run: Run) -> None:
    np.save("rgb.npy", np.zeros((3, 8, 8, 3), np.uint8))
    np.save("one.npy", np.zeros((1, 8, 8), np.uint8))
    words = ["reconstruct", trained_run.path, "--out", "x.png", "--images"]
    assert refused(capsys, *words, "rgb.npy") == (
        "--images 'rgb.npy': shape (3, 8, 8) is not the model's (1, 8, 8) (channels, height, width); resize the images"
    )
    for gone in ("gone.npy", "gone.png", "no/where"):
        assert refused(capsys, *words, gone) == f"--images {gone!r} does not exist; check the path"
    assert refused(capsys, "interpolate", trained_run.path, "--out", "x.png", "--images", "one.npy") == (
        "--images 'one.npy': 1 image is too few to walk between; give at least 2"
    )


# failures midway

SMALL = ["--data", "digits", "--preset", "mlp", "--hidden", "8", "--latent-dim", "2", "--epochs", "3"]
SMALL += ["--threads", "1", "--device", "cpu", "--no-report"]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_disk_full_in_training(call: str, capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second checkpoint does not fit: exit 1, the first is whole, and resume ends where it should."""
    good(capsys, "train", "--out", "whole", *SMALL)
    real, seen = getattr(os, call), []

    def full(*arguments: Any) -> Any:
        target = os.readlink(f"/proc/self/fd/{arguments[0]}") if call == "fsync" else str(arguments[1])
        if Path(target).name.lstrip(".").startswith("checkpoint"):
            seen.append(target)
            if len(seen) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    monkeypatch.setattr(os, call, full)
    sentence = refused(capsys, "train", "--out", "run", *SMALL, code=1)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert sentence == (
        "run 'run' could not be written (No space left on device), and what was saved before is intact; "
        "make room and continue: vaekit resume run"
    )
    assert [record["epoch"] for record in Run("run").metrics()] == [1]
    assert not list(Path("run").glob(".*")), "a part of a file was left behind"
    good(capsys, "resume", "run", "--no-report")
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


def test_loss_that_is_not_finite(capsys: Capture, folder: Path) -> None:
    words = ["train", "--out", "run", *SMALL, "--learning-rate", "10", "--beta", "1e6"]
    assert refused(capsys, *words, code=1).startswith("the loss became infinite or NaN at step ")
