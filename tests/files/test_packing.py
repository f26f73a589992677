"""The cache: packed once, found again, continued when cut short, never half-written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers_files import noise, numbered, saved, write_folder, write_tar, write_zip
from helpers_run import environment
from vaekit.cache import VARIABLE, cache_folder
from vaekit.data.folders import load_folder, open_packed
from vaekit.data.sizing import Opening, Sizing
from vaekit.errors import InputError
from vaekit.files import packed, packing
from vaekit.files.archives import list_images


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def silent(sizing: Sizing | None = None) -> Opening:
    return Opening(sizing or Sizing(), lambda what, fraction: None)


def numbers(found: packed.Packed) -> list[int]:
    """What each image of `numbered` shows."""
    pixels = found.pixels if found.rows is None else found.pixels[found.rows]
    return pixels[:, 0, 0, 0].tolist()


class Counted:
    """Counts the files that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path):
        with list_images(folder) as listing:
            kind: Any = type(listing)
        original, self.count = kind.read, 0

        def read(listing: Any, entry: Any) -> bytes:
            self.count += 1
            return original(listing, entry)

        monkeypatch.setattr(kind, "read", read)

    def during(self, act: Callable[[], Any]) -> int:
        before = self.count
        act()
        return self.count - before


def files_of(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


def test_a_second_opening_reads_no_image_and_gives_the_same(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "f", numbered(40))
    reads = Counted(monkeypatch, folder)
    first = open_packed(folder, silent())
    assert reads.count > 0
    again: list[packed.Packed] = []
    assert reads.during(lambda: again.append(open_packed(folder, silent()))) == 0
    assert numbers(first) == numbers(again[0]) == list(range(40))
    assert first.names == again[0].names == [f"{n}.png" for n in range(40)]
    assert first.digest == again[0].digest
    assert len(files_of(cache)) == 3  # pixels, index, signature: nothing that is only for packing


def test_large_sets_are_mapped_and_small_ones_read(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    files = numbered(30) | {"13.png": b"damaged"}
    folder = write_folder(tmp_path / "f", files)
    small = load_folder(folder, silent()).train
    assert small.rows is None
    assert len(small.pixels) == 29
    monkeypatch.setattr(packed, "IN_MEMORY", 0)
    large = load_folder(folder, silent()).train
    assert large.rows is not None
    assert len(large.pixels) == 30
    assert torch.equal(large.copied().pixels, small.pixels)
    index = torch.tensor([28, 0, 13])
    assert torch.equal(large.unit(index), small.unit(index))
    before = (cache / "packed").rglob("pixels.u8").__next__().read_bytes()
    large.pixels.fill_(7)  # the mapping is private
    assert (cache / "packed").rglob("pixels.u8").__next__().read_bytes() == before
    assert not list(recwarn)


def test_a_folder_and_its_archives_share_one_packed_set(tmp_path: Path, cache: Path) -> None:
    files = {f"{kind}/{n}.png": saved(noise(9, 9, seed=n)) for n, kind in enumerate(("b", "a", "b", "a", "c"))}
    paths = [write_folder(tmp_path / "f", files), write_tar(tmp_path / "f.tar", files)]
    paths += [write_tar(tmp_path / "f.tgz", files, "w:gz"), write_zip(tmp_path / "f.zip", files)]
    found = [open_packed(path, silent()) for path in paths]
    assert len({one.digest for one in found}) == 1
    assert len(list((cache / "packed").iterdir())) == 1
    assert all(torch.equal(one.pixels, found[0].pixels) and one.names == found[0].names for one in found)


def test_what_is_asked_and_what_the_files_hold_is_part_of_the_key(tmp_path: Path, cache: Path) -> None:
    folder = write_folder(tmp_path / "f", {"1.png": saved(noise(12, 18)), "2.png": saved(noise(12, 18, seed=1))})
    sizings = [Sizing(), Sizing(image_size=8), Sizing(image_size=8, resize="pad"), Sizing(colour="grey")]
    digests = {open_packed(folder, silent(sizing)).digest for sizing in sizings}
    digests.add(open_packed(folder, silent(), centre=4).digest)
    write_folder(folder, {"2.png": saved(noise(12, 18, seed=2))})
    digests.add(open_packed(folder, silent()).digest)
    (folder / "2.png").rename(folder / "3.png")
    digests.add(open_packed(folder, silent()).digest)
    assert len(digests) == 7


@pytest.mark.parametrize("harm", ["shorter", "changed", "gone", "no index", "garbage", "other version", "no folder"])
def test_a_damaged_cache_is_packed_again(tmp_path: Path, cache: Path, harm: str) -> None:
    folder = write_folder(tmp_path / "f", numbered(20))
    first = open_packed(folder, silent())
    place = next((cache / "packed").iterdir())
    pixels, index = place / "pixels.u8", place / "index.json"
    if harm == "shorter":
        os.truncate(pixels, 100)
    elif harm == "changed":
        pixels.write_bytes(bytes(pixels.stat().st_size))
    elif harm == "gone":
        pixels.unlink()
    elif harm == "no index":
        index.unlink()
    elif harm == "garbage":
        index.write_text(index.read_text()[:50])
    elif harm == "other version":
        index.write_text(json.dumps({**json.loads(index.read_text()), "version": -1}))
    else:
        for file in (pixels, index):
            file.unlink()
        place.rmdir()
    again = open_packed(folder, silent())
    assert numbers(again) == numbers(first) == list(range(20))
    assert again.digest == first.digest
    assert len(files_of(cache)) == 3


def test_few_bad_files_are_left_out_with_a_reason_each(tmp_path: Path, cache: Path) -> None:
    files = numbered(20) | {"5.png": b"", "7.png": b"text", "9.png": saved(noise(8, 8, 1))[:-40]}
    folder = write_folder(tmp_path / "f", files)
    for _ in range(2):  # also from the cache
        found = open_packed(folder, silent())
        assert found.skipped == [("5.png", "empty"), ("7.png", "no image of a known format"), ("9.png", "truncated")]
        assert numbers(found) == [n for n in range(20) if n not in (5, 7, 9)]
        assert len(found.names) == 17


def test_an_archive_with_oddities_beside_the_same_images_without(tmp_path: Path, cache: Path) -> None:
    files = numbered(5)
    plain = write_folder(tmp_path / "f", files)
    odd = write_tar(tmp_path / "odd.tar", {**files, "../x.png": files["0.png"]})
    first, second, third = (open_packed(path, silent()) for path in (odd, plain, odd))
    assert first.skipped == third.skipped == [("../x.png", "a name that leads out of the archive")]
    assert second.skipped == []
    assert first.digest == second.digest


@pytest.mark.parametrize(("good", "bad", "stops"), [(100, 10, False), (100, 11, True), (1300, 13, False), (0, 3, True)])
def test_too_many_bad_files_stop_and_leave_nothing(
    tmp_path: Path, cache: Path, good: int, bad: int, stops: bool
) -> None:
    image = saved(noise(2, 2))
    files = {f"{n:04}.png": image for n in range(good)} | {f"z{n}.png": b"text" for n in range(bad)}
    folder = write_folder(tmp_path / "f", files)
    if not stops:
        assert len(open_packed(folder, silent()).skipped) == bad
        return
    with pytest.raises(InputError, match=r"images cannot be used: z0.png \(no image of a known format\), z1") as error:
        open_packed(folder, silent())
    assert "\n" not in str(error.value)
    assert f" {bad:,} of " in str(error.value)
    assert files_of(cache) == []


def test_nothing_to_read_is_said(tmp_path: Path, cache: Path) -> None:
    folder = write_folder(tmp_path / "f", {"notes.txt": b"x"})
    with pytest.raises(InputError, match=r"f' holds no images that can be read; give files that end in"):
        open_packed(folder, silent())
    assert files_of(cache) == []


KILLED = """
import sys
sys.path[:0] = [{tests!r}]
from helpers_run import plant
from vaekit.files import packing
packing._COMMIT = 32
if {fault!r}:
    plant(**{fault!r})
from pathlib import Path
from vaekit.data.folders import open_packed
from vaekit.data.sizing import Opening
open_packed(Path({folder!r}), Opening(progress=lambda what, fraction: None))
"""


def packing_process(folder: Path, fault: dict[str, Any] | None = None) -> subprocess.Popen[bytes]:
    script = KILLED.format(tests=str(Path(__file__).parents[1]), fault=fault, folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", script], env=environment(**os.environ))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "call", "kept"),
    [
        ("vaekit.files.packing._Journal.add", 4, 96),
        ("os.fdatasync", 3, 64),
        ("os.replace", 1, 200),  # of the index
        ("os.replace", 2, None),  # of the folder: the images are whole, but the journal is gone
    ],
)
def test_killed_packing_is_continued(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, at: str, call: int, kept: int | None
) -> None:
    folder = write_folder(tmp_path / "f", numbered(200) | {"77.png": b"text"})
    child = packing_process(folder, {"at": at, "call": call, "signal": "KILL"})
    assert child.wait(60) == -9
    reads = Counted(monkeypatch, folder)
    found = open_packed(folder, silent())
    assert numbers(found) == [n for n in range(200) if n != 77]
    assert found.skipped == [("77.png", "no image of a known format")]
    assert not any("packing" in file for file in files_of(cache))
    if kept is not None:
        assert reads.count == 100 + 200 - kept  # the sample that decides on the shape, and what was not yet safe
    fresh = write_tar(tmp_path / "same.tar", {path.name: path.read_bytes() for path in folder.iterdir()})
    assert open_packed(fresh, silent()).digest == found.digest


def test_an_interrupted_packing_is_continued(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_COMMIT", 32)
    folder = write_folder(tmp_path / "f", numbered(200))

    def interrupt(what: str, fraction: float) -> None:
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_packed(folder, Opening(progress=interrupt))
    journal = next((cache / "packing").rglob("journal"))
    with journal.open("a") as file:
        file.write('{"hashes": ["cut sho')  # as a power failure may leave it
    reads = Counted(monkeypatch, folder)
    assert numbers(open_packed(folder, silent())) == list(range(200))
    assert 100 < reads.count < 100 + 200 - 64


def test_a_journal_without_its_pixels_is_not_believed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_COMMIT", 32)
    folder = write_folder(tmp_path / "f", numbered(100))

    def interrupt(what: str, fraction: float) -> None:
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_packed(folder, Opening(progress=interrupt))
    next((cache / "packing").rglob("pixels.u8")).unlink()
    assert numbers(open_packed(folder, silent())) == list(range(100))


@pytest.mark.slow
def test_two_processes_that_pack_at_once_do_not_disturb_each_other(tmp_path: Path, cache: Path) -> None:
    folder = write_folder(tmp_path / "f", numbered(250))
    children = [packing_process(folder) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert numbers(open_packed(folder, silent())) == list(range(250))
    assert len(files_of(cache)) == 3


def test_a_second_process_waits_for_the_first(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "f", numbered(50))
    begun, go_on = threading.Event(), threading.Event()

    def wait(what: str, fraction: float) -> None:
        begun.set()
        assert go_on.wait(20)

    found: list[packed.Packed] = []
    first = threading.Thread(target=lambda: found.append(open_packed(folder, Opening(progress=wait))))
    second = threading.Thread(target=lambda: found.append(open_packed(folder, silent())))
    reads = Counted(monkeypatch, folder)
    first.start()
    assert begun.wait(20)
    second.start()
    time.sleep(0.1)
    assert second.is_alive()
    go_on.set()
    first.join(20)
    second.join(20)
    assert len(found) == 2
    assert reads.count == 2 * 50  # by the first alone: for the sample, and to pack


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fdatasync"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = write_folder(tmp_path / "f", numbered(50))

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(InputError, match=r"^VAEKIT_CACHE .*No space left on device.*free some space") as error:
            open_packed(folder, silent())
    assert "\n" not in str(error.value)
    assert files_of(cache) == []
    assert numbers(open_packed(folder, silent())) == list(range(50))


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "cache"))
    folder = write_folder(tmp_path / "f", numbered(3))
    with pytest.raises(InputError, match=r"^VAEKIT_CACHE '.*/file/cache': .*set it to a folder that can be written"):
        open_packed(folder, silent())


def test_what_nobody_continued_for_long_is_swept_away(tmp_path: Path, cache: Path) -> None:
    old, fresh = cache / "packing/old", cache / "packing/fresh"
    for path in (old, fresh):
        write_folder(path, {"pixels.u8": b"x"})
    os.utime(old, (1, 1))
    open_packed(write_folder(tmp_path / "f", numbered(3)), silent())
    assert not old.exists()
    assert fresh.exists()


def test_progress_rises_from_none_to_all(tmp_path: Path, cache: Path) -> None:
    seen: list[tuple[str, float]] = []
    folder = write_folder(tmp_path / "photos", numbered(100))
    open_packed(folder, Opening(progress=lambda what, fraction: seen.append((what, fraction))))
    assert {what for what, _ in seen} == {"packing photos"}
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_black_and_white_is_noticed(tmp_path: Path, cache: Path) -> None:
    both = {f"{n}.png": saved(np.where(noise(6, 6, 1, n) > 99, 255, 0).astype(np.uint8)) for n in range(40)}
    assert open_packed(write_folder(tmp_path / "f", both), silent()).binary
    one_grey = both | {"39.png": saved(np.full((6, 6), 254, np.uint8))}
    assert not open_packed(write_folder(tmp_path / "g", one_grey), silent()).binary


def test_the_cache_is_where_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert cache_folder().name == "vaekit"
