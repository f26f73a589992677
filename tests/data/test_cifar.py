"""CIFAR-10: the official archive in small, hostile archives, and the JPEG copy as archive and as folder."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pickle
import struct
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaekit.data import cifar
from vaekit.data.sizing import Opening
from vaekit.data.sources import load
from vaekit.errors import InputError

RNG = np.random.default_rng(0)
BATCHES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]


def text(value: bytes) -> bytes:
    """A Python 2 string in pickle protocol 2: SHORT_BINSTRING or BINSTRING."""
    return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def array(rows: np.ndarray) -> bytes:
    """A uint8 array as Python 2's NumPy pickled it: _reconstruct, then a state of (version, shape, type, order, bytes)."""
    kind = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R("
    kind += number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"\x87R"
    shape = number(rows.shape[0]) + number(rows.shape[1]) + b"\x86"
    return made + b"(" + number(1) + shape + kind + b"\x89" + text(rows.tobytes()) + b"tb"


def batch(rows: np.ndarray, labels: list[int], data: bytes | None = None) -> bytes:
    """A batch with the keys of the official ones, written opcode by opcode: no Python 2 is needed to make it."""
    items = text(b"batch_label") + text(b"training batch 1 of 5")
    items += text(b"labels") + b"](" + b"".join(map(number, labels)) + b"e"
    items += text(b"data") + (array(rows) if data is None else data)
    items += text(b"filenames") + b"](" + b"".join(text(b"a.png") for _ in labels) + b"e"
    return b"\x80\x02}(" + items + b"u."


def archive(path: Path, contents: dict[str, bytes]) -> str:
    """A tar.gz of the official layout; returns its md5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def small() -> tuple[dict[str, bytes], np.ndarray, list[int]]:
    rows = RNG.integers(0, 256, (24, 3072), dtype=np.uint8)
    labels = [int(label) for label in RNG.integers(0, 10, 24)]
    parts = {name: batch(rows[4 * k : 4 * k + 4], labels[4 * k : 4 * k + 4]) for k, name in enumerate(BATCHES)}
    return {"batches.meta": b"not read", **parts}, rows, labels


def put(folder: Path, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / "cifar-10" / cifar.ARCHIVE
    monkeypatch.setattr(cifar, "MD5", archive(path, contents))
    return path


def test_the_official_layout_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents, rows, labels = small()
    put(tmp_path, contents, monkeypatch)
    loaded = load("cifar-10", tmp_path)
    assert loaded.class_names == cifar.CLASSES
    assert loaded.test is not None
    pixels = torch.cat([loaded.train.pixels, loaded.test.pixels])
    for row, image in zip(rows, pixels, strict=True):  # 1,024 bytes of red, then green, then blue, row by row
        for channel in range(3):
            plane = row[1024 * channel : 1024 * (channel + 1)].reshape(32, 32)
            assert np.array_equal(image[..., channel].numpy(), plane)
    assert [*loaded.train.labels.tolist(), *loaded.test.labels.tolist()] == labels
    assert (len(loaded.train), len(loaded.test)) == (20, 4)


def test_the_hand_written_pickle_is_what_numpy_reads() -> None:
    rows = RNG.integers(0, 256, (3, 3072), dtype=np.uint8)
    content = pickle.loads(batch(rows, [1, 2, 3]), encoding="bytes")
    assert np.array_equal(content[b"data"], rows)
    assert content[b"labels"] == [1, 2, 3]


class Bomb:
    """Pickles into a command that leaves a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.path}",)


def test_a_malicious_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harm = tmp_path / "harm"
    contents, *_ = small()
    bombs = {
        "a command": pickle.dumps(Bomb(harm), protocol=2),
        "a command in the data": batch(np.zeros((1, 3072), np.uint8), [0], pickle.dumps(Bomb(harm), 2)[2:-1]),
        "eval": b"\x80\x02cbuiltins\neval\n" + text(b"1/0") + b"\x85R.",
        "numpy's own loader": b"\x80\x02cnumpy\nload\n" + text(str(harm).encode()) + b"\x85R.",
        "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.fly\x93.",
        "an extension": b"\x80\x02\x82\x01.",
    }
    pickle.loads(bombs["a command"])  # the bomb is live
    assert harm.exists()
    harm.unlink()
    for name, bomb in bombs.items():
        path = put(tmp_path, {**contents, "data_batch_3": bomb}, monkeypatch)
        with pytest.raises(InputError, match="data_batch_3: is no batch of CIFAR-10") as error:
            load("cifar-10", tmp_path)
        assert str(path) in str(error.value), name
        assert "\n" not in str(error.value), name
        assert not harm.exists(), name


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}.",
        b"\x80\x02N.",
        batch(np.zeros((2, 3072), np.uint8), [0, 10]),
        batch(np.zeros((2, 3072), np.uint8), [0]),
        batch(np.zeros((2, 3071), np.uint8), [0, 1]),
        batch(np.zeros((2, 3072), np.uint8), [0, 1])[:-3000],
        batch(np.zeros((1, 3072), np.uint8), [0], b"N"),
    ],
    ids=["empty", "no keys", "no mapping", "label", "labels", "width", "cut", "no array"],
)
def test_other_contents_are_one_sentence(content: bytes) -> None:
    with pytest.raises(
        InputError, match=r"^x: is no batch of CIFAR-10 \(.*\); get the official archive again$"
    ) as error:
        cifar.read_batch(content, "x")
    assert "\n" not in str(error.value)


def test_damaged_archives_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents, *_ = small()
    path = put(tmp_path, contents, monkeypatch)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no archive", b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="checksum"):
            load("cifar-10", tmp_path)
        monkeypatch.setattr(cifar, "MD5", hashlib.md5(damaged).hexdigest())
        with pytest.raises(InputError, match=r"is damaged or no tar archive|holds no cifar-10-batches-py") as error:
            load("cifar-10", tmp_path)
        assert "\n" not in str(error.value)
    put(tmp_path, {name: contents[name] for name in BATCHES[:-1]}, monkeypatch)
    with pytest.raises(InputError, match="holds no cifar-10-batches-py/test_batch"):
        load("cifar-10", tmp_path)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address of a server of the files in a folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_without_a_local_file_it_is_downloaded_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pooch")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    contents, _, labels = small()
    path = put(tmp_path / "served", contents, monkeypatch)
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / cifar.ARCHIVE).write_bytes(path.read_bytes()[:-1])
    with served(tmp_path / "wrong") as wrong, served(path.parent) as right:
        monkeypatch.setattr(cifar, "MIRRORS", (wrong, right))
        assert load("cifar-10", None).train.labels.tolist() == labels[:20]
        monkeypatch.setattr(cifar, "MIRRORS", ("http://127.0.0.1:9/",))
        assert load("cifar-10", None).train.labels.tolist() == labels[:20]  # from the cache


def test_mirrors_serve_the_same_file_name() -> None:
    assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in cifar.MIRRORS)


def jpegs(folder: Path) -> None:
    for part, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(cifar.CLASSES):
            where = folder / part / name
            where.mkdir(parents=True)
            for index in range(count):
                pixels = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1) // 2 + 12 * label
                Image.fromarray(pixels).save(where / f"{index:04}.jpg", quality=75)


def test_jpeg_folder_and_archive_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "cache"))
    unpacked, packed = tmp_path / "unpacked", tmp_path / "packed"
    jpegs(unpacked / "cifar-10")
    (packed / "cifar-10").mkdir(parents=True)
    with tarfile.open(packed / "cifar-10" / cifar.JPEG_ARCHIVE, "w:gz") as tar:
        for part in ("test", "train"):
            tar.add(unpacked / "cifar-10" / part, part)
    quiet = Opening(note=lambda note: None)
    one, other = (load("cifar-10-jpeg", folder, quiet) for folder in (unpacked, packed))
    assert one.class_names == other.class_names == cifar.CLASSES
    for first, second, per_class, part in (
        (one.train, other.train, 3, "train"),
        (one.test, other.test, 2, "test"),
    ):
        assert torch.equal(first.unit(), second.unit())
        assert torch.equal(first.labels, second.labels)
        expected = [
            np.asarray(Image.open(unpacked / "cifar-10" / part / name / f"{index:04}.jpg"))
            for name in cifar.CLASSES
            for index in range(per_class)
        ]
        assert np.array_equal(first.copied().pixels.numpy(), np.stack(expected))
        assert first.labels.tolist() == [label for label in range(10) for _ in range(per_class)]
    assert "do not compare" in one.notes[-1]


def test_missing_jpegs_are_one_sentence(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(InputError, match=r"cifar-10-images\.tar\.gz nor folders train and test are in") as error:
            load("cifar-10-jpeg", folder)
        assert "--data-dir" in str(error.value)


def test_other_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "cache"))
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "cifar-10" / part / name).mkdir(parents=True)
            Image.new("RGB", (32, 32), name == "cat" and "red").save(tmp_path / "cifar-10" / part / name / "0.jpg")
    with pytest.raises(InputError, match="ten classes"):
        load("cifar-10-jpeg", tmp_path)


@pytest.mark.slow
def test_the_real_jpegs(data_folder: Path) -> None:
    if not (data_folder / "cifar-10" / cifar.JPEG_ARCHIVE).is_file():
        pytest.skip("no cifar-10 there")
    loaded = load("cifar-10-jpeg", data_folder)
    assert loaded.train.labels.bincount().tolist() == [5000] * 10
    assert loaded.test is not None
    assert loaded.test.labels.bincount().tolist() == [1000] * 10
    unit = loaded.train.unit()
    assert unit.mean((0, 2, 3)).tolist() == pytest.approx([0.4913, 0.4821, 0.4465], abs=1e-4)
    assert unit.std((0, 2, 3)).tolist() == pytest.approx([0.2452, 0.2428, 0.2606], abs=1e-4)
