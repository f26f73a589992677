"""Named sets and array files."""

from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from vaekit.data.loaded import SOURCES
from vaekit.data.sources import load
from vaekit.data.splits import load_splits
from vaekit.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 4), dtype=np.uint8)
LABELS = np.arange(12) % 3


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    loaded, original = load("digits", None), load_digits()
    assert loaded.test is None
    assert loaded.class_names == tuple("0123456789")
    np.testing.assert_allclose(loaded.train.unit()[:, 0], original.images / 16, atol=0.5 / 255 + 1e-6)
    assert np.array_equal(loaded.train.labels, original.target)


def test_unknown_names_are_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data set, file or folder 'mnits' is unknown; did you mean 'mnist'\?$"):
        load("mnits", None)
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="photos"):
        load(str(tmp_path / "photos"), None)


def test_arrays_with_and_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    loaded = load(str(tmp_path / "a.npy"), None)
    assert np.array_equal(loaded.train.pixels[..., 0], IMAGES)
    assert loaded.train.labels is None
    assert loaded.test is None
    assert loaded.class_names == ()
    for images, labels in (("images", "labels"), ("x", "y"), ("x_train", "y_train")):
        np.savez(tmp_path / "a.npz", **{images: IMAGES, labels: LABELS})
        loaded = load(str(tmp_path / "a.npz"), None)
        assert np.array_equal(loaded.train.labels, LABELS)
        assert loaded.class_names == ("0", "1", "2")


def test_keras_style_files_bring_a_test_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:3], y_test=LABELS[:3])
    loaded = load(str(tmp_path / "a.npz"), None)
    assert len(loaded.train) == 12
    assert len(loaded.test) == 3
    assert loaded.test.labels.tolist() == [0, 1, 2]


def test_arrays_with_attributes(tmp_path: Path) -> None:
    values = np.arange(24.0).reshape(12, 2)
    values[3, 1] = np.nan
    file = str(tmp_path / "a.npz")
    np.savez(file, images=IMAGES, attributes=values, attribute_names=["width", "slant"])
    loaded = load(file, None)
    assert loaded.attribute_names == ("width", "slant")
    assert loaded.train.attributes.dtype == torch.float32
    np.testing.assert_array_equal(loaded.train.attributes, values.astype(np.float32))
    assert loaded.train.labels is None
    np.savez(file, x_train=IMAGES, x_test=IMAGES[:5], attributes=values[:, 0] > 9, attributes_test=np.arange(5) % 2)
    loaded = load(file, None)
    assert loaded.attribute_names == ("attribute-0",)
    assert loaded.train.attributes[:, 0].tolist() == [0.0] * 5 + [1.0] * 7
    assert loaded.test.attributes[:, 0].tolist() == [0, 1, 0, 1, 0]


def test_moments_of_attributes_are_those_of_the_training_images(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, (200, 3))
    values[::7, 0], values[:, 2] = np.nan, 5.0
    images = np.random.default_rng(0).integers(0, 256, (200, 3, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, attributes=values)
    splits = load_splits(str(tmp_path / "a.npz"), None)
    info, known = splits.info, splits.train.attributes.numpy()
    assert len(known) == info.num_train < 200
    np.testing.assert_allclose(info.attribute_means, np.nanmean(known, 0), rtol=1e-6)
    np.testing.assert_allclose(info.attribute_scales[:2], np.nanstd(known, 0)[:2], rtol=1e-6)
    assert info.attribute_scales[2] == 1.0  # a column that does not vary


def _write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def bad_files(folder: Path) -> dict[str, tuple[str, str]]:
    np.save(folder / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(folder / "empty.npy", IMAGES[:0])
    np.save(folder / "whole.npy", IMAGES)
    np.savez(folder / "names.npz", pictures=IMAGES)
    np.savez(folder / "labels.npz", images=IMAGES, labels=LABELS[:-1])
    np.savez(folder / "sizes.npz", x_train=IMAGES, x_test=IMAGES[:, :4])
    np.savez(folder / "classes.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS + 1)
    np.savez(folder / "none.npz")
    rows = np.zeros((12, 2))
    np.savez(folder / "rows.npz", images=IMAGES, attributes=rows[:-1])
    np.savez(folder / "words.npz", images=IMAGES, attributes=rows.astype(str))
    np.savez(folder / "infinite.npz", images=IMAGES, attributes=np.where(np.arange(12)[:, None] == 4, np.inf, rows))
    np.savez(folder / "huge.npz", images=IMAGES, attributes=rows + 1e300)
    np.savez(folder / "few.npz", images=IMAGES, attributes=rows, attribute_names=["a"])
    np.savez(folder / "lone.npz", images=IMAGES, attribute_names=["a"])
    np.savez(folder / "twice.npz", images=IMAGES, attributes=rows, attribute_names=["a", "a"])
    np.savez(folder / "signs.npz", images=IMAGES, attributes=rows, attribute_names=["a=1", "b"])
    np.savez(folder / "halves.npz", x_train=IMAGES, x_test=IMAGES, attributes=rows)
    whole = (folder / "whole.npy").read_bytes()
    zipped = (folder / "labels.npz").read_bytes()
    return {
        "missing": (str(folder / "gone.npy"), "does not exist"),
        "objects": (str(folder / "objects.npy"), "holds Python objects"),
        "cut": (_write(folder / "cut.npy", whole[:-5]), "damaged or of another format"),
        "cut in the header": (_write(folder / "head.npy", whole[:20]), "damaged or of another format"),
        "nothing": (_write(folder / "nothing.npy", b""), "damaged or of another format"),
        "text": (_write(folder / "text.npy", b"hello"), "damaged|Python objects"),
        "cut zip": (_write(folder / "cut.npz", zipped[: len(zipped) // 2]), "damaged or of another format"),
        "no images": (str(folder / "empty.npy"), "shape"),
        "other names": (str(folder / "names.npz"), "no array named images, x or x_train among pictures"),
        "no arrays": (str(folder / "none.npz"), "no array named images"),
        "labels differ": (str(folder / "labels.npz"), r"12 images but labels of shape \(11,\)"),
        "test of another size": (str(folder / "sizes.npz"), r"test images of shape \(4, 4, 1\)"),
        "attributes of other images": (str(folder / "rows.npz"), r"12 images but attributes of shape \(11, 2\)"),
        "attributes in words": (str(folder / "words.npz"), "attributes must be numbers"),
        "an infinite attribute": (str(folder / "infinite.npz"), "attribute 0 of image 4 is infinite"),
        "attributes beyond float32": (str(folder / "huge.npz"), "attribute 0 of image 0 is infinite"),
        "too few names": (str(folder / "few.npz"), "1 attribute_names for 2 attributes"),
        "names of nothing": (str(folder / "lone.npz"), "1 attribute_names for 0 attributes"),
        "a name twice": (str(folder / "twice.npz"), "'a' stands twice"),
        "a name with a sign": (str(folder / "signs.npz"), "'a=1' is empty or holds a comma or equals sign"),
        "test images without attributes": (str(folder / "halves.npz"), "0 attributes_test beside 2 attributes"),
        "test labels unseen in training": (str(folder / "classes.npz"), "label 3"),
    }


def test_bad_files_are_one_sentence(tmp_path: Path) -> None:
    for name, (path, words) in bad_files(tmp_path).items():
        with pytest.raises(InputError, match=words) as error:
            load(path, None)
        assert "\n" not in str(error.value), name
        assert Path(path).name in str(error.value), name


def idx(array: np.ndarray) -> bytes:
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_local_files_that_are_not_the_published_ones_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for part, array in (
        ("train-images-idx3", IMAGES),
        ("train-labels-idx1", LABELS.astype(np.uint8)),
        ("t10k-images-idx3", IMAGES),
        ("t10k-labels-idx1", LABELS.astype(np.uint8)),
    ):
        (folder / f"{part}-ubyte.gz").write_bytes(idx(array))
    with pytest.raises(InputError, match=r"checksum .* is not the official") as error:
        load(name, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_published_files_load_and_a_changed_byte_is_found(name: str, data_folder: Path, tmp_path: Path) -> None:
    if not (data_folder / name).is_dir():
        pytest.skip(f"no {name} there")
    loaded = load(name, data_folder)
    assert loaded.train.pixels.shape == (60000, 28, 28, 1)
    assert loaded.test.pixels.shape == (10000, 28, 28, 1)
    assert len(loaded.class_names) == 10
    assert int(loaded.train.labels.max()) == 9
    shutil.copytree(data_folder / name, tmp_path / name)
    file = tmp_path / name / "t10k-labels-idx1-ubyte.gz"
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[4] ^= 1  # the time stamp in gzip's header: the values are the same, the file is not
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"t10k-labels.*checksum"):
        load(name, tmp_path)


def test_every_source_is_named_and_described() -> None:
    assert {"digits", "mnist", "fashion-mnist"} <= set(SOURCES)
