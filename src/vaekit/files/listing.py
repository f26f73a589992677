"""What images a folder or an archive holds; no torch here."""

from __future__ import annotations

import gc
import hashlib
import os
import re
import stat
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from vaekit.errors import InputError
from vaekit.files.decode import ENDINGS, MOST_BYTES, UnreadableError

NOISE = frozenset({"__MACOSX", "@eaDir"})  # folders of previews and forks that machines add


class Entry(NamedTuple):
    """An image that is there by its name.

    Attributes:
        name: relative, with slashes, less the one folder that may wrap everything.
        size: in bytes.
        where: how its container finds it.
    """

    name: str
    size: int
    where: Any


class Contents(NamedTuple):
    """What was found: images in natural order, and (name, reason) of those that are left out."""

    entries: list[Entry]
    odd: list[tuple[str, str]]


class Listing(ABC):
    """The images of a folder or an archive, in natural order (img2 before img10), the same for both.

    A context manager. `read` may be called from several threads.

    Attributes:
        path: the folder or archive.
        root: a folder in it, outside of which nothing counts; or empty.
        signature: a digest that changes when names, sizes or times of change do; of an archive, its own.
    """

    signature: str

    def __init__(self, path: Path, root: str = ""):
        self.path, self.root = path, root.strip("/")

    @cached_property
    def contents(self) -> Contents:
        """The images; an archive is opened when this is first asked for.

        Raises:
            InputError: for a damaged archive.
        """
        entries, odd = self._found()
        return _ordered(entries, odd)

    @property
    def entries(self) -> list[Entry]:
        """The images that are there by their names, in natural order."""
        return self.contents.entries

    @property
    def odd(self) -> list[tuple[str, str]]:
        """(name, reason) of images that are left out unread: links, names that lead out of an archive, doubles, ..."""
        return self.contents.odd

    @abstractmethod
    def _found(self) -> tuple[list[Entry], list[tuple[str, str]]]: ...

    @abstractmethod
    def read(self, entry: Entry) -> bytes:
        """The bytes of an image file.

        Raises:
            UnreadableError: when it cannot be read, or is larger than MOST_BYTES.
        """

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Listing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def shown(name: str) -> str:
    r"""A file's name fit for a sentence: on one line, unprintable characters escaped, the middle of a long one cut.

    >>> shown("a\nb.jpg"), len(shown(1000 * "a"))
    ('a\\nb.jpg', 80)
    """
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)
    return plain if len(plain) <= 80 else f"{plain[:38]}...{plain[-39:]}"


class Folder(Listing):
    """Files under a folder; links are followed, each folder once."""

    def __init__(self, path: Path, root: str):
        super().__init__(path, root)
        below = path / self.root
        if not below.is_dir():
            raise InputError(f"data {str(path)!r} holds no folder {root!r}; check the path")
        self._odd: list[tuple[str, str]] = []
        self._files: list[tuple[str, int, int, int]] = []  # name, size, times of change of content and of its record
        with _no_collection():
            self._walk(str(below), "", set())
            self._files.sort()
            names, *numbers = zip(*self._files, strict=True) if self._files else ((),)
            stamps = array("q", chain.from_iterable(numbers)).tobytes().hex()
            self.signature = digest([str(below.resolve()), *names, stamps, *map(repr, self._odd)])

    def _walk(self, folder: str, prefix: str, seen: set[tuple[int, int]]) -> None:
        """Take in every image below `folder`. For 100,000 of them each statement here counts."""
        folders = []
        try:
            here = os.stat(folder)
            if (here.st_dev, here.st_ino) in seen:
                return
            seen.add((here.st_dev, here.st_ino))
            with os.scandir(folder) as found:
                for item in found:
                    name = item.name
                    if name[0] == "." or name in NOISE:
                        continue
                    if not is_image(name):
                        if item.is_dir():
                            folders.append(name)
                        continue
                    try:
                        about = item.stat()
                    except OSError as error:
                        self._odd.append((prefix + name, f"cannot be opened: {error.strerror}"))
                        continue
                    if stat.S_ISREG(about.st_mode):
                        self._files.append((prefix + name, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
                    elif stat.S_ISDIR(about.st_mode):
                        folders.append(name)
                    else:
                        self._odd.append((prefix + name, "no regular file"))
        except OSError as error:
            self._odd.append((prefix, f"a folder that cannot be opened: {error.strerror}"))
        for name in sorted(folders):  # of two ways to one folder always the same is taken
            self._walk(f"{folder}/{name}", f"{prefix}{name}/", seen)

    def _found(self) -> tuple[list[Entry], list[tuple[str, str]]]:
        below = str(self.path / self.root)
        return [Entry(name, size, f"{below}/{name}") for name, size, _, _ in self._files], list(self._odd)

    def read(self, entry: Entry) -> bytes:
        check_size(entry)
        try:
            # not blocking: should a pipe have taken the file's place
            handle = os.open(entry.where, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(handle, "rb", buffering=0) as file:
                return file.read(MOST_BYTES + 1) or b""
        except OSError as error:
            raise UnreadableError(f"cannot be opened: {error.strerror}") from None

    def close(self) -> None: ...


@contextmanager
def _no_collection() -> Iterator[None]:
    """Within it the collector of garbage does not run: of 100,000 small objects it would look at all, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def is_image(name: str) -> bool:
    """Whether a file's name ends as those of images do."""
    before, _, ending = name.rpartition(".")
    return before != "" and ending.lower() in ENDINGS


def check_size(entry: Entry) -> None:
    """Refuse to read a file that is larger than any image."""
    if entry.size > MOST_BYTES:
        raise UnreadableError(f"{entry.size / 2**20:,.0f} MiB, which is more than {MOST_BYTES >> 20}")


def reason_of(error: Exception) -> str:
    """What an exception says, on one line."""
    text = str(error).split("\n")[0]
    return shown(text) if text else type(error).__name__


def digest(words: Iterable[str]) -> str:
    """32 hexadecimal figures that follow from `words`."""
    return hashlib.blake2b("\n".join(words).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


_NUMBER = re.compile(r"[0-9]+")


def natural(name: str) -> tuple[list[str], str]:
    """A key that sorts paths folder by folder, and numbers in them by value.

    >>> sorted(["b/1.png", "a10.png", "a9.png", "a/x.png"], key=natural)
    ['a/x.png', 'a9.png', 'a10.png', 'b/1.png']
    """
    return _NUMBER.sub(lambda digits: digits[0].zfill(20), name).split("/"), name


def _ordered(entries: list[Entry], odd: list[tuple[str, str]]) -> Contents:
    """Both in natural order, without the folder or folders that wrap all entries."""
    cut = 0
    if entries:
        first = entries[0].name.split("/")[:-1]
        while first and all(entry.name.startswith(first[0] + "/", cut) for entry in entries):
            cut += len(first.pop(0)) + 1
    if cut:
        prefix = entries[0].name[:cut]
        entries = [Entry(entry.name[cut:], entry.size, entry.where) for entry in entries]
        odd = [(name[cut:] if name.startswith(prefix) else name, reason) for name, reason in odd]
    return Contents(
        sorted(entries, key=lambda entry: natural(entry.name)), sorted(odd, key=lambda one: natural(one[0]))
    )
