"""CIFAR-10: the official archive of Python pickles, read without running anything in it, and its copy in JPEG."""

from __future__ import annotations

import pickle
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.download import fetch, verify
from vaekit.data.images import Images, pack
from vaekit.data.loaded import SOURCES, Loaded
from vaekit.data.sizing import Opening
from vaekit.errors import InputError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE, MD5 = "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://dataset.bj.bcebos.com/cifar/",  # PaddlePaddle's copy of the same file
)
JPEG_ARCHIVE = "cifar-10-images.tar.gz"
_INSIDE = "cifar-10-batches-py/"
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = "test_batch"
_LARGEST = 64 << 20  # bytes of a batch; the official ones have 31 million


class _Record:
    """What stands in for an object of a pickle: its state, and nothing that acts."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Reads containers, numbers and texts; arrays and their types become records, and every other name is refused."""

    def find_class(self, module: str, name: str) -> Callable[..., _Record]:
        if (module, name) in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        ):
            return lambda *_: _Record()
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_batch(raw: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int64 (n,) of one pickled batch, as Krizhevsky's page describes it.

    Raises:
        InputError: when it holds something else, or asks for more than arrays.
    """
    try:
        content = _Unpickler(BytesIO(raw), encoding="bytes").load()
        _, shape, _, fortran, flat = content[b"data"].state  # ndarray's state: version, shape, type, order, bytes
        rows = np.frombuffer(flat, np.uint8).reshape(shape, order="F" if fortran else "C")
        pixels = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = np.array(content[b"labels"], np.int64)
        if labels.shape != (len(pixels),) or not all(0 <= label < len(CLASSES) for label in labels):
            raise ValueError("its labels do not fit its images")
    except Exception as error:  # a pickle that is not the expected one can fail in any way
        reason = str(error) if isinstance(error, pickle.UnpicklingError | ValueError) else "its layout is another"
        raise InputError(f"{name}: is no batch of CIFAR-10 ({reason}); get the official archive again") from None
    return pixels, labels


def _members(path: Path) -> dict[str, bytes]:
    """The batches of the archive by name."""
    wanted, found = {_INSIDE + batch for batch in (*_TRAIN, _TEST)}, {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if member.name in wanted and member.isfile() and member.size <= _LARGEST:
                    content = archive.extractfile(member)
                    assert content is not None
                    found[member.name.removeprefix(_INSIDE)] = content.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError):
        raise InputError(f"{path}: is damaged or no tar archive; get {ARCHIVE} again") from None
    for batch in (*_TRAIN, _TEST):
        if batch not in found:
            raise InputError(f"{path}: holds no {_INSIDE}{batch}; get {ARCHIVE} again")
    return found


@SOURCES.register("cifar-10")
@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10 photographs (Krizhevsky 2009): 50,000 training and 10,000 test images, 32x32 in colour, 10 classes."""

    def load(self, folder: Path | None, opening: Opening) -> Loaded:
        path = fetch("cifar-10", ARCHIVE, MD5, MIRRORS, folder)
        verify(path, MD5)  # before anything is read: a pickle is a program
        raw = _members(path)

        def images(batches: tuple[str, ...]) -> Images:
            pixels, labels = zip(*(read_batch(raw[batch], f"{path}: {batch}") for batch in batches), strict=True)
            return pack(np.concatenate(pixels), np.concatenate(labels), "cifar-10")

        return Loaded(images(_TRAIN), images((_TEST,)), CLASSES, fingerprint=int(MD5[:8], 16), binary=False)


@SOURCES.register("cifar-10-jpeg")
@dataclass(frozen=True)
class Cifar10Jpeg:
    """CIFAR-10 re-encoded as JPEG, so with other pixels than the original: numbers do not compare with published ones.

    The files are those of ``cifar-10-images.tar.gz`` (``train/<class>/<number>.jpg`` and ``test/...``), or the same
    unpacked. JPEG at about quality 75 with colour at half resolution removes fine detail, which makes likelihoods
    better and sharpness worse than on the lossless set.
    """

    def load(self, folder: Path | None, opening: Opening) -> Loaded:
        from vaekit.data.folders import load_folder

        where = None if folder is None else folder / "cifar-10"
        if where is not None and (where / JPEG_ARCHIVE).is_file():
            return self._checked(load_folder(where / JPEG_ARCHIVE, opening))
        if where is not None and (where / "train").is_dir() and (where / "test").is_dir():
            return self._checked(load_folder(where, opening))
        raise InputError(
            f"cifar-10-jpeg: neither {JPEG_ARCHIVE} nor folders train and test are in {where or 'DIR/cifar-10'}; "
            "put the files there and give --data-dir DIR, or use cifar-10"
        )

    def _checked(self, loaded: Loaded) -> Loaded:
        if loaded.class_names != CLASSES or loaded.test is None:
            raise InputError("cifar-10-jpeg: the folders are not train and test with the ten classes; unpack it again")
        note = "JPEG re-encodings of CIFAR-10: numbers do not compare with published ones."
        return replace(loaded, notes=(*loaded.notes, note))
