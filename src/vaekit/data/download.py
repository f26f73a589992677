"""Files of named data sets: a local folder first, else a verified download into the user's cache.

pooch does the fetching: it is maintained by the scientific Python community, verifies hashes, writes atomically and
keeps a per-user cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from vaekit.errors import InputError

VARIABLE = "VAEKIT_DATA"


def data_folder(given: str | os.PathLike[str] | None) -> Path | None:
    """The folder of local data sets: the argument, else the variable ``VAEKIT_DATA``, else none."""
    value = given or os.environ.get(VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        source = "--data-dir" if given else VARIABLE
        raise InputError(f"{source}: folder {str(value)!r} does not exist; give the folder that holds the data sets")
    return folder


def fetch(name: str, file: str, md5: str, mirrors: Sequence[str], folder: Path | None) -> Path:
    """Path of one verified file of the set `name`.

    Looks for ``folder/name/file``; without it downloads from the first mirror that answers, and checks the hash.

    Raises:
        InputError: when no source has the file.
    """
    if folder is not None and (local := folder / name / file).is_file():
        return local
    import pooch  # imported late: a machine with local data needs no downloader

    pooch.get_logger().setLevel("ERROR")
    failures = []
    for mirror in mirrors:
        try:
            cached = pooch.retrieve(
                mirror + file, f"md5:{md5}", fname=file, path=pooch.os_cache("vaekit") / name, progressbar=False
            )
            return Path(cached)
        except Exception as error:  # requests, urllib3, pooch and the file system each have their own
            failures.append(f"{mirror.split('/')[2]}: {type(error).__name__}")
    wanted = "" if folder is None else f" is not in {folder / name} and"
    raise InputError(
        f"{name}: {file}{wanted} could not be downloaded ({'; '.join(failures)}); "
        f"put the file under DIR/{name}/ and give --data-dir DIR"
    )


def verify(path: Path, md5: str) -> None:
    """Check a file against its published hash.

    Raises:
        InputError: when it differs.
    """
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != md5:
        raise InputError(f"{path}: checksum {found} is not the official {md5}; get the file again")
