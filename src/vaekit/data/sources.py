"""Where images come from: named sets, arrays in ``.npy`` or ``.npz`` files, folders and archives of images."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaekit.data.attributes import attribute_names, described
from vaekit.data.download import fetch, verify
from vaekit.data.idx import read_idx
from vaekit.data.images import Images, pack
from vaekit.data.loaded import SOURCES, Loaded, Source
from vaekit.data.resizing import resized
from vaekit.data.sizing import Opening
from vaekit.errors import InputError, unknown

DIGITS = tuple(str(digit) for digit in range(10))


@SOURCES.register("digits")
@dataclass(frozen=True)
class Digits:
    """1,797 real handwritten digits of 8x8 pixels, 17 grey levels, embedded in scikit-learn (no official split)."""

    def load(self, folder: Path | None, opening: Opening) -> Loaded:
        from sklearn.datasets import load_digits

        digits = load_digits()
        grey = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)
        return Loaded(pack(grey, digits.target, "digits"), None, DIGITS)


_PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def _load_idx_set(
    name: str, md5s: tuple[str, ...], mirrors: tuple[str, ...], classes: tuple[str, ...], folder: Path | None
) -> Loaded:
    arrays = []
    for part, md5 in zip(_PARTS, md5s, strict=True):
        path = fetch(name, f"{part}-ubyte.gz", md5, mirrors, folder)
        arrays.append(read_idx(path))
        verify(path, md5)
    return Loaded(pack(arrays[0], arrays[1], name), pack(arrays[2], arrays[3], name), classes)


@SOURCES.register("mnist")
@dataclass(frozen=True)
class Mnist:
    """MNIST handwritten digits (LeCun and Cortes): 60,000 training and 10,000 test images, 28x28 grey, 10 classes."""

    def load(self, folder: Path | None, opening: Opening) -> Loaded:
        md5s = (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        )
        mirrors = (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        )
        return _load_idx_set("mnist", md5s, mirrors, DIGITS, folder)


@SOURCES.register("fashion-mnist")
@dataclass(frozen=True)
class FashionMnist:
    """Fashion-MNIST clothing (Xiao, Rasul and Vollgraf 2017): 60,000 + 10,000 images, 28x28 grey, 10 classes."""

    def load(self, folder: Path | None, opening: Opening) -> Loaded:
        md5s = (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        )
        mirrors = (
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        )
        classes = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
        return _load_idx_set("fashion-mnist", md5s, mirrors, classes, folder)


_MOST_CLASSES = 65536
_TRAIN_KEYS = (("x_train", "y_train"), ("images", "labels"), ("x", "y"))


def load_array(path: Path) -> Loaded:
    """Images of a ``.npy`` file, or of a ``.npz`` with `images` and `labels`, `x` and `y`, or Keras' x_train, y_train, ...

    A ``.npz`` may describe its images by `attributes` (n, k), NaN where unknown, and the columns by `attribute_names`;
    those of x_test are `attributes_test`.

    Raises:
        InputError: for a missing, damaged or unsuitable file.
    """
    name = str(path)
    try:
        content = np.load(path, allow_pickle=False)
        arrays = {key: content[key] for key in content.files} if isinstance(content, np.lib.npyio.NpzFile) else content
    except FileNotFoundError:
        raise InputError(f"data file {name!r} does not exist; check the path") from None
    except (ValueError, EOFError, zipfile.BadZipFile, OSError, KeyError) as error:
        objects = isinstance(error, ValueError) and "Object arrays" in str(error)
        reason = "it holds Python objects" if objects else "it is damaged or of another format"
        raise InputError(f"{name}: cannot be read as a NumPy array, {reason}; save it with numpy.save") from None
    if isinstance(arrays, np.ndarray):
        return Loaded(pack(arrays, None, name), None)
    for images, labels in _TRAIN_KEYS:
        if images in arrays:
            train = described(pack(arrays[images], arrays.get(labels), name), arrays.get("attributes"), name)
            test = pack(arrays["x_test"], arrays.get("y_test"), name) if "x_test" in arrays else None
            test = None if test is None else described(test, arrays.get("attributes_test"), name)
            classes = 0 if train.labels is None else int(train.labels.max()) + 1
            if classes > _MOST_CLASSES:
                raise InputError(f"{name}: label {classes - 1} is out of range; number the classes from 0 up")
            if test is not None:
                _check_same_kind(train, test, classes, name)
            columns = attribute_names(train, arrays.get("attribute_names"), name)
            return Loaded(train, test, tuple(str(label) for label in range(classes)), columns)
    raise InputError(f"{name}: no array named images, x or x_train among {', '.join(arrays) or 'none'}; rename one")


def _check_same_kind(train: Images, test: Images, classes: int, name: str) -> None:
    """Refuse test images that a model of the training images could not read."""
    size, other = tuple(train.pixels.shape[1:]), tuple(test.pixels.shape[1:])
    if size != other:
        raise InputError(f"{name}: test images of shape {other} beside training images of shape {size}; give one shape")
    columns, others = (0 if part.attributes is None else part.attributes.shape[1] for part in (train, test))
    if columns != others:
        raise InputError(f"{name}: {others} attributes_test beside {columns} attributes; give the same of both")
    if classes and test.labels is not None and (top := int(test.labels.max())) >= classes:
        raise InputError(f"{name}: test images of label {top} beside training labels up to {classes - 1}; divide anew")


def is_array(name: str) -> bool:
    """Whether a data set is given as a file of arrays."""
    return Path(name).suffix in (".npy", ".npz")


def is_path(name: str) -> bool:
    """Whether a data set is given as a file or a folder, not by name."""
    return is_array(name) or (name not in SOURCES and Path(name).expanduser().exists())


def load(name: str, folder: Path | None, opening: Opening | None = None) -> Loaded:
    """A named set, the arrays of a ``.npy`` or ``.npz`` file, or the images of a folder or archive.

    Raises:
        InputError: for an unknown name, or data that cannot be read.
    """
    opening = opening or Opening()
    path = Path(name).expanduser()
    if is_array(name):
        return resized(load_array(path), opening.sizing)
    if name in SOURCES:
        source: Source = SOURCES[name]()
        return resized(source.load(folder, opening), opening.sizing)
    if path.exists() or "/" in name or path.suffix in (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zip"):
        from vaekit.data.folders import load_folder  # imported late: it builds on this module

        return load_folder(path, opening)
    if path.suffix:  # no set has an ending
        raise InputError(f"data {name!r} does not exist; check the path")
    raise unknown("data set, file or folder", name, SOURCES)
