"""Images in archives: zip files and tar files, compressed or not; no torch here.

Nothing is unpacked under a name from an archive: members are read into memory one by one. A compressed tar, which cannot
be read in another order than its own, is spooled into a file without a name that vanishes with the process.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from vaekit.errors import InputError
from vaekit.files.decode import MOST_BYTES, UnreadableError
from vaekit.files.listing import NOISE, Entry, Folder, Listing, check_size, digest, is_image, reason_of, shown

_ARCHIVES = ".tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .zip"

_BOMB = 200  # times its own size that a compressed file may expand to, beyond _SMALL; images hardly compress
_SMALL = 64 << 20


def archive(
    path: Path, root: str, magic: bytes, scratch: Path | None, progress: Callable[[str, float], None] | None
) -> Listing | None:
    """The listing of a file that begins with `magic`; None when it is no archive. For the rest see `list_images`."""
    if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return Zip(path, root)
    for begin, opener in _DECOMPRESSORS:
        if magic.startswith(begin):
            return Tar(path, root, opener, scratch, progress)
    if len(magic) == 512 and (magic[257:262] == b"ustar" or path.suffix.lower() == ".tar"):
        return Tar(path, root)
    return None


class Archive(Listing):
    """What archives share: members' names are not to be trusted, and the last of several with one name counts."""

    def __init__(self, path: Path, root: str):
        super().__init__(path, root)
        about = path.stat()
        self.signature = digest(
            [str(path.resolve()), self.root, str((about.st_size, about.st_mtime_ns, about.st_ctime_ns))]
        )

    def _chosen(self, members: Iterable[tuple[str, int, str, Any]]) -> tuple[list[Entry], list[tuple[str, str]]]:
        """Entries and odd ones of members given as (name, size, reason to leave it out or nothing, where)."""
        found: dict[str, Entry] = {}
        odd = []
        for given, size, reason, where in members:
            parts = [part for part in given.split("/") if part not in ("", ".")]
            if not parts or not is_image(parts[-1]):
                continue
            climbs = ".." in parts or given.startswith("/") or parts[0].endswith(":")
            if not climbs and any(part[0] == "." or part in NOISE for part in parts):
                continue
            name = "/".join(parts)
            if self.root:
                if not name.startswith(self.root + "/"):
                    continue
                name = name[len(self.root) + 1 :]
            if climbs:
                reason = "a name that leads out of the archive"
            if reason:
                odd.append((name, reason))
                continue
            if name in found:
                odd.append((name, "another one of this name follows"))
            found[name] = Entry(name, size, where)
        return list(found.values()), odd

    def _damaged(self, why: str) -> InputError:
        return InputError(f"data {str(self.path)!r} is cut short or damaged ({why}); get it again")


class Zip(Archive):
    def __init__(self, path: Path, root: str):
        super().__init__(path, root)
        self._zip: zipfile.ZipFile | None = None

    def _found(self) -> tuple[list[Entry], list[tuple[str, str]]]:
        try:
            self._zip = zipfile.ZipFile(self.path)
        except Exception as error:  # whatever a damaged directory of contents leads to
            raise self._damaged(reason_of(error)) from None
        return self._chosen(map(self._member, self._zip.infolist()))

    @staticmethod
    def _member(info: zipfile.ZipInfo) -> tuple[str, int, str, Any]:
        kind = stat.S_IFMT(info.external_attr >> 16)
        reason = ""
        if info.flag_bits & 1:
            reason = "encrypted"
        elif kind == stat.S_IFLNK:
            reason = "a link"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            reason = "no regular file"
        elif info.file_size > _SMALL and info.file_size > _BOMB * info.compress_size:
            reason = (
                f"expands to {info.file_size / info.compress_size if info.compress_size else 0:,.0f} times its size"
            )
        # archives made by old Windows programs have backslashes
        return info.filename.replace("\\", "/"), info.file_size, reason, info

    def read(self, entry: Entry) -> bytes:
        check_size(entry)
        assert self._zip is not None
        try:
            with self._zip.open(entry.where) as file:
                return file.read(MOST_BYTES + 1)
        except Exception as error:  # zlib.error, BadZipFile, NotImplementedError, EOFError, ...
            raise UnreadableError(f"cannot be taken out of the archive: {reason_of(error)}") from None

    def close(self) -> None:
        if self._zip is not None:
            self._zip.close()


class Tar(Archive):
    def __init__(
        self,
        path: Path,
        root: str,
        opener: Callable[[IO[bytes]], IO[bytes]] | None = None,
        scratch: Path | None = None,
        progress: Callable[[str, float], None] | None = None,
    ):
        super().__init__(path, root)
        self._opener, self._scratch, self._progress = opener, scratch, progress
        self._file: IO[bytes] | None = None

    def _found(self) -> tuple[list[Entry], list[tuple[str, str]]]:
        self._file = self.path.open("rb") if self._opener is None else self._spooled(self._opener)
        return self._chosen(self._members(self._file))

    def _members(self, file: IO[bytes]) -> Iterator[tuple[str, int, str, Any]]:
        size, before = os.fstat(file.fileno()).st_size, -1
        try:
            with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
                while (member := tar.next()) is not None:
                    if member.offset <= before or member.size < 0:
                        raise self._damaged(f"after {shown(member.name)}")
                    before = member.offset
                    reason = ""
                    if member.issym() or member.islnk():
                        reason = "a link"
                    elif not member.isreg() or member.issparse():
                        reason = "no regular file"
                    elif member.offset_data + member.size > size:
                        raise self._damaged(f"in {shown(member.name)}")
                    yield member.name, member.size, reason, member.offset_data
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                # tarfile takes a header that makes no sense for the end
                file.seek(tar.offset)
                if any(file.read(tarfile.BLOCKSIZE)):
                    raise self._damaged("a header makes no sense")
        except InputError:
            raise
        except Exception as error:  # tarfile lets many kinds through
            raise self._damaged(reason_of(error)) from None

    def _spooled(self, opener: Callable[[IO[bytes]], IO[bytes]]) -> IO[bytes]:
        whole, done = self.path.stat().st_size, 0
        out: IO[bytes] | None = None
        try:
            with self.path.open("rb") as raw, opener(raw) as plain:
                while block := plain.read(1 << 20):
                    done += len(block)
                    if done > _SMALL + _BOMB * whole:
                        raise self._damaged(f"it expands to more than {_BOMB} times its size")
                    try:
                        out = out or tempfile.TemporaryFile(dir=self._scratch, prefix="vaekit-")  # noqa: SIM115
                        out.write(block)
                    except OSError as error:
                        raise InputError(
                            f"data {str(self.path)!r} cannot be decompressed beside the cache ({error.strerror}); "
                            "free some space, or unpack it and give the folder"
                        ) from None
                    if self._progress is not None:
                        self._progress(f"decompressing {shown(self.path.name)}", raw.tell() / max(whole, 1))
        except Exception as error:  # EOFError, zlib.error, BadGzipFile, LZMAError, ...
            if out is not None:
                out.close()
            raise error if isinstance(error, InputError) else self._damaged(reason_of(error)) from None
        if out is None:
            raise self._damaged("it is empty")
        out.seek(0)
        return out

    def read(self, entry: Entry) -> bytes:
        check_size(entry)
        assert self._file is not None
        try:
            content = os.pread(self._file.fileno(), entry.size, entry.where)
        except OSError as error:
            raise UnreadableError(f"cannot be read: {error.strerror}") from None
        return content

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


_DECOMPRESSORS: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)


def list_images(
    path: Path, root: str = "", scratch: Path | None = None, progress: Callable[[str, float], None] | None = None
) -> Listing:
    """The images of a folder or an archive, which is told by its first bytes.

    Args:
        path: the folder, or a .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .zip file.
        root: a folder inside it: only what lies below counts, and names are relative to it.
        scratch: where a compressed tar may be spooled; None takes the system's folder for temporary files.
        progress: is told of spooling, and the fraction done.

    Raises:
        InputError: for a missing path, or a file that is no archive.
    """
    try:
        if path.is_dir():
            return Folder(path, root)
        with path.open("rb") as file:
            magic = file.read(512)
    except FileNotFoundError:
        raise InputError(f"data {str(path)!r} does not exist; check the path") from None
    except OSError as error:
        raise InputError(f"data {str(path)!r} cannot be opened ({error.strerror}); check the path") from None
    found = archive(path, root, magic, scratch, progress)
    if found is not None:
        return found
    raise InputError(f"data {str(path)!r} is no folder and no {_ARCHIVES} file, or is damaged; give one of these")
