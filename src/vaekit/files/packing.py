"""Packing own images into the cache: in parallel, to be continued where it was cut short, by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vaekit.errors import InputError
from vaekit.files.decode import Rule, UnreadableError, quiet
from vaekit.files.listing import digest, shown

VERSION = 1  # of the format and of the rules of decoding; another one packs anew
FILES = ("pixels.u8", "inputs.u8")
_PART = 16  # images decoded by a thread at a time
_COMMIT = 1024  # images, or seconds (below), after which what was written is made safe
_COMMIT_SECONDS = 5.0
_STALE = 7 * 86400.0  # seconds after which packing that nobody continued is removed
_MOST_SKIPPED = 10, 0.01  # images, and share of all; more than both stop


class Job(NamedTuple):
    """What is to be packed.

    Attributes:
        names: of all images that might be, in natural order.
        odd: (name, reason) of those that were left out already.
        rules: of the pixels, and of pairs that of the inputs too.
        read: the contents of the file, or of the two, of an image; may raise UnreadableError.
        decode: its arrays from them, as `rules` order them; may raise UnreadableError.
        notes: sentences on how the shape was chosen.
    """

    names: Sequence[str]
    odd: Sequence[tuple[str, str]]
    rules: Sequence[Rule]
    read: Callable[[int], tuple[bytes, ...]]
    decode: Callable[[tuple[bytes, ...]], tuple[np.ndarray, ...]]
    notes: Sequence[str] = ()


def stamp(file: Path) -> list[int]:
    """Size and time of change: what shows that a file of the cache is not as it was written."""
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]


@contextmanager
def held(parent: Path, signature: str) -> Iterator[Path]:
    """The folder ``parent/signature``, made if need be, which no other process holds; waits until that is so."""
    folder = parent / signature
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _same(folder, handle):  # else whoever held it has moved it to its place
                yield folder
                return
        finally:
            if _same(folder, handle) and not any(folder.iterdir()):
                folder.rmdir()
            os.close(handle)


def _same(folder: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(handle))
    except FileNotFoundError:
        return False


def sweep(mine: Path) -> None:
    """Remove what others began to pack beside `mine` long ago and nobody continued."""
    for folder in mine.parent.iterdir():
        with suppress(OSError):  # gone meanwhile, or held
            if folder != mine and time.time() - folder.stat().st_mtime > _STALE:
                handle = os.open(folder, os.O_RDONLY)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(handle)


def pack_into(folder: Path, job: Job, title: str, progress: Callable[[str, float], None]) -> str:
    """Pack into a folder that is held; returns the digest of names, file contents and rules.

    Raises:
        InputError: when too many images cannot be read.
        OSError: when the folder cannot be written. In both cases nothing is left of it.
    """
    try:
        journal = _fill(folder, job, title, progress)
        _finish(folder, job, journal)
    except (InputError, OSError):
        shutil.rmtree(folder, ignore_errors=True)  # only a process that is stopped leaves something to continue
        raise
    return digest([str(VERSION), *map(repr, job.rules), *job.names, *journal.hashes])


def _finish(folder: Path, job: Job, journal: _Journal) -> None:
    count = len(job.names)
    files = FILES[: len(job.rules)]
    index = {
        "version": VERSION,
        "shapes": [(count, rule.height, rule.width, rule.channels) for rule in job.rules],
        "rules": list(map(repr, job.rules)),
        "binary": journal.binary,
        "stamps": {file: stamp(folder / file) for file in files},
        "skipped": journal.skipped,
        "notes": list(job.notes),
        "names": list(job.names),
    }
    write(folder / "index.json", json.dumps(index))
    journal.file.unlink()


class _Journal:
    """What is on disk for good: the hashes of the images that are, which were skipped, and whether all is black or white.

    Args:
        file: where it is kept, a JSON record a line.
        begin: its first line; what stands under another one is forgotten.
        whole: whether the files that it tells of are there.
    """

    def __init__(self, file: Path, begin: str, whole: bool):
        self.file, self.hashes, self.binary = file, list[str](), True
        self.skipped: dict[int, str] = {}
        lines = file.read_bytes().split(b"\n")[:-1] if whole and file.exists() else []
        kept = [begin.encode()]
        if lines[:1] == kept:
            with suppress(ValueError, LookupError, TypeError):
                for line in lines[1:]:
                    self._take(json.loads(line))
                    kept.append(line)
        with file.open("wb") as out:  # without a line that was cut short
            out.write(b"".join(line + b"\n" for line in kept))

    def _take(self, record: dict[str, Any]) -> None:
        self.hashes += record["hashes"]
        self.skipped.update({int(row): reason for row, reason in record["skipped"].items()})
        self.binary = self.binary and record["binary"]

    def add(self, record: dict[str, Any]) -> None:
        """Note what has just been made safe."""
        self._take(record)
        with self.file.open("ab") as out:
            out.write(json.dumps(record).encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())


_Part = tuple[list[np.ndarray], list[str], dict[int, str], bool]


def _fill(folder: Path, job: Job, title: str, progress: Callable[[str, float], None]) -> _Journal:
    """Decode and write what the journal does not have yet."""
    count, what = len(job.names), f"packing {shown(Path(title).name)}"
    sizes = [rule.height * rule.width * rule.channels for rule in job.rules]
    files = [folder / file for file in FILES[: len(sizes)]]
    whole = all(file.exists() and file.stat().st_size == size * count for file, size in zip(files, sizes, strict=True))
    begin = json.dumps([VERSION, digest([*map(repr, job.rules), *job.names])])
    journal = _Journal(folder / "journal", begin, whole)
    handles = [os.open(file, os.O_RDWR | os.O_CREAT, 0o644) for file in files]
    try:
        for handle, size in zip(handles, sizes, strict=True):
            _reserve(handle, size * count)
        fresh: dict[str, Any] = {"hashes": [], "skipped": {}, "binary": True}
        committed = time.monotonic()
        progress(what, len(journal.hashes) / count)
        with quiet():
            for first, (arrays, hashes, skipped, binary) in _parts(job, len(journal.hashes)):
                for handle, size, array in zip(handles, sizes, arrays, strict=True):
                    _write_at(handle, array, first * size)
                fresh["hashes"] += hashes
                fresh["skipped"].update(skipped)
                fresh["binary"] = fresh["binary"] and binary
                done = first + len(hashes)
                bad = {**journal.skipped, **fresh["skipped"]}
                _check_skipped(job, bad, done, title)
                late = time.monotonic() - committed > _COMMIT_SECONDS
                if late or done == count or len(fresh["hashes"]) >= _COMMIT:
                    for handle in handles:
                        os.fdatasync(handle)
                    journal.add(fresh)
                    fresh, committed = {"hashes": [], "skipped": {}, "binary": True}, time.monotonic()
                progress(what, done / count)
    finally:
        for handle in handles:
            os.close(handle)
    return journal


def _parts(job: Job, first: int) -> Iterator[tuple[int, _Part]]:
    """Runs of images from `first` on, in order, decoded by as many threads as there are cores to use."""
    # Threads, not processes: Pillow lets others run while it decodes and resizes. Measured on two busy cores, images/s
    # of 64x64 JPEGs (of 3-megapixel ones): one thread 2,190 (64), two 2,690 (71), two processes 2,420 (52).
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers, "vaekit-packing")
    waiting: deque[tuple[int, Future[_Part]]] = deque()
    try:
        for start in range(first, len(job.names), _PART):
            waiting.append((start, pool.submit(_part, job, start)))
            if len(waiting) > 4 * workers:
                begin, future = waiting.popleft()
                yield begin, future.result()
        for begin, future in waiting:
            yield begin, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _part(job: Job, first: int) -> _Part:
    last = min(first + _PART, len(job.names))
    arrays = [np.zeros((last - first, rule.height, rule.width, rule.channels), np.uint8) for rule in job.rules]
    hashes, skipped = [], {}
    for row in range(first, last):
        hashed = ""
        try:
            contents = job.read(row)
            hashed = " ".join(hashlib.blake2b(content, digest_size=16).hexdigest() for content in contents)
            for array, one in zip(arrays, job.decode(contents), strict=True):
                array[row - first] = one
        except UnreadableError as error:
            skipped[row] = str(error)
        hashes.append(hashed)
    return arrays, hashes, skipped, _black_or_white(arrays[0])


def _black_or_white(pixels: np.ndarray) -> bool:
    return bool(((pixels == 0) | (pixels == 255)).all())


def _check_skipped(job: Job, bad: dict[int, str], done: int, title: str) -> None:
    total = len(job.names) + len(job.odd)
    least, share = _MOST_SKIPPED
    number = len(bad) + len(job.odd)
    if not (number > max(least, share * total) or (done == len(job.names) and len(bad) == done)):
        return
    named = left_out([*job.odd, *((job.names[row], reason) for row, reason in sorted(bad.items()))])
    seen = f"{number:,} of {total:,}" if done == len(job.names) else f"{number:,} of the first {done + len(job.odd):,}"
    raise InputError(f"data {title!r}: {seen} images cannot be used: {named}; repair or remove them")


def left_out(skipped: Sequence[tuple[str, str]], most: int = 5) -> str:
    """The first few of a list of (name, reason) in words.

    >>> left_out([("a.jpg", "truncated"), ("b.jpg", "empty")], 1)
    'a.jpg (truncated) and 1 more'
    """
    named = ", ".join(f"{shown(name)} ({reason})" for name, reason in skipped[:most])
    return named if len(skipped) <= most else f"{named} and {len(skipped) - most:,} more"


def _reserve(handle: int, size: int) -> None:
    """Take the space at once, so that a full disk is noticed before hours of work."""
    try:
        os.posix_fallocate(handle, 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
            raise
    os.truncate(handle, size)


def _write_at(handle: int, array: np.ndarray, offset: int) -> None:
    view = array.reshape(-1).data
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


def write(path: Path, content: str) -> None:
    """Replace a file by one with this content, atomically."""
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
