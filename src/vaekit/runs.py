"""The run folder: one place for a run's configuration, metrics, weights, checkpoint, figures and report.

Every file is replaced whole, by a rename, so that a process killed at any moment leaves either the old or the new one.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vaekit import __version__
from vaekit.config import decode, encode
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.records import to_json
from vaekit.settings import Config

_FAILURE = "failure.json"


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace `path` by a file that holds `content`: written beside it, flushed to disk, then renamed."""
    raw = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def hold(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder for this process; the system lets go when the process ends, however it ends.

    Args:
        folder: where the file ``lock`` stands.
        what: a word for it in messages.

    Raises:
        InputError: when another process holds it.
    """
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{what} {str(folder)!r} is in use by another process; wait for it or stop it") from None
        yield


@dataclass(frozen=True)
class Resolved:
    """Choices made once, when the run began, and kept when it is resumed."""

    device: str
    precision: str
    threads: int
    processes: int
    kernels: str = "torch"  # runs of before they could be chosen say nothing


class Run:
    """A run folder that exists.

    Args:
        path: the folder.

    Raises:
        InputError: when there is no run in it, or its configuration is damaged.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        file = self.path / "config.json"
        try:
            stored = json.loads(file.read_text())
            self.config: Config = decode(Config, stored["config"])
            self.info = DataInfo.from_json(stored["info"])
            self.resolved = Resolved(**stored["resolved"])
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"run {str(self.path)!r} has no config.json; give a folder made by vaekit train") from None
        except OSError as error:
            raise InputError(f"run {str(self.path)!r} cannot be read ({error.strerror}); check the path") from None
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file}: the configuration is damaged; restore it or train anew") from None

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: Config, info: DataInfo, resolved: Resolved) -> Run:
        """Make the folder and write its configuration.

        Raises:
            InputError: when the folder holds a run already, or cannot be written.
        """
        folder = Path(path)
        check_new(folder)
        import torch

        content = {
            "vaekit": __version__,
            "config": encode(config),
            "info": asdict(info),
            "resolved": asdict(resolved),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        try:
            (folder / "figures").mkdir(parents=True, exist_ok=True)
            write_atomically(folder / "config.json", json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise InputError(
                f"--out {str(path)!r} cannot be written ({error.strerror}); choose another folder"
            ) from None
        return cls(folder)

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; see `hold`."""
        with hold(self.path, "run"):
            yield

    def clean(self) -> None:
        """Remove what writes that were killed between file and rename have left; call it holding the lock."""
        for leftover in (*self.path.glob(".*.????????"), *self.figures.glob(".*.????????"), self.path / _FAILURE):
            leftover.unlink(missing_ok=True)

    def note_failure(self, reason: str) -> None:
        """Remember that training ended because numbers were no longer finite."""
        write_atomically(self.path / _FAILURE, to_json({"reason": reason}) + "\n")

    def failure(self) -> str | None:
        """Why training ended without a result, where it did so by itself and was not continued since."""
        file = self.path / _FAILURE
        try:
            return str(json.loads(file.read_text())["reason"]) if file.exists() else None
        except (ValueError, KeyError, TypeError):
            return "the reason is unreadable"

    def metrics(self) -> list[dict[str, Any]]:
        """The records of `metrics.jsonl`, one an epoch; a line cut short by a crash is left out."""
        file = self.path / "metrics.jsonl"
        records = []
        for line in file.read_text().splitlines() if file.exists() else []:
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Replace `metrics.jsonl`."""
        write_atomically(
            self.path / "metrics.jsonl", "".join(to_json(record, indent=None) + "\n" for record in records)
        )


def check_new(folder: Path) -> None:
    """Refuse a folder that a new run would overwrite.

    Raises:
        InputError: when it holds a run, or is a file.
    """
    if (folder / "config.json").exists():
        raise InputError(
            f"--out {str(folder)!r} holds a run already; continue it with vaekit resume, or choose another"
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {str(folder)!r} is a file; choose a folder")
