"""Packed images: what is taken, what is refused and in which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vaekit.data.images import DataInfo, Images, Splits, checksum, is_binary, pack
from vaekit.errors import InputError

G = np.random.default_rng(0)
BYTES = G.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
FLOATS = G.random((5, 6, 7, 3))


def test_bytes_and_fractions_become_unit_images() -> None:
    images = pack(BYTES, None, "x")
    assert images.pixels.dtype == torch.uint8
    assert len(images) == 5
    torch.testing.assert_close(images.unit(), torch.from_numpy(BYTES.transpose(0, 3, 1, 2) / np.float32(255)))
    assert images.unit().max() <= 1.0
    assert images.unit().min() >= 0.0
    floats = pack(FLOATS, None, "x")
    assert floats.pixels.dtype == torch.float32
    torch.testing.assert_close(floats.unit(), torch.from_numpy(FLOATS.transpose(0, 3, 1, 2)).float())


def test_white_is_one_exactly() -> None:
    assert pack(np.full((1, 2, 2), 255, np.uint8), None, "x").unit().unique().tolist() == [1.0]


def test_unit_images_are_chosen_by_index_and_lie_channels_last() -> None:
    images = pack(BYTES, np.arange(5), "x")
    index = torch.tensor([4, 0, 0])
    assert torch.equal(images.unit(index), images.unit()[index])
    assert images.unit(index).is_contiguous(memory_format=torch.channels_last)
    assert images.select(index).labels.tolist() == [4, 0, 0]


def test_a_unit_image_may_be_changed_without_changing_the_set() -> None:
    images = pack(BYTES, None, "x")
    images.unit().zero_()
    images.unit(torch.tensor([1])).zero_()
    assert np.array_equal(images.pixels.numpy(), BYTES)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64, ">u2"])
def test_whole_numbers_of_any_type(dtype: Any) -> None:
    assert np.array_equal(pack(BYTES.astype(dtype), None, "x").pixels.numpy(), BYTES)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_fractions_of_any_type(dtype: Any) -> None:
    torch.testing.assert_close(
        pack(FLOATS.astype(dtype), None, "x").pixels, torch.from_numpy(FLOATS).float(), atol=1e-3, rtol=0
    )


def test_booleans_are_black_and_white() -> None:
    images = pack(FLOATS > 0.5, None, "x")
    assert is_binary(images)
    assert set(images.unit().unique().tolist()) == {0.0, 1.0}


def test_whole_numbers_of_zero_and_one_are_black_and_white() -> None:
    """As published binary sets have them; read as grey values of 0 to 255 they would be all but black."""
    for dtype in (np.uint8, np.int64):
        images = pack((FLOATS > 0.5).astype(dtype), None, "x")
        assert is_binary(images)
        assert set(images.unit().unique().tolist()) == {0.0, 1.0}
    assert pack(np.zeros((2, 3, 3), np.uint8), None, "x").unit().max() == 0.0


def test_grey_images_without_a_channel_axis_get_one() -> None:
    assert pack(BYTES[..., 0], None, "x").pixels.shape == (5, 6, 7, 1)


def test_the_array_given_is_not_shared() -> None:
    array = BYTES.copy()
    images = pack(array, None, "x")
    array[:] = 0
    assert images.pixels.sum() > 0
    pack(BYTES[::-1, :, ::-1], None, "x")  # negative strides


def with_nan(value: float) -> np.ndarray:
    array = FLOATS.copy()
    array[3, 2, 1, 0] = value
    return array


REFUSED = {
    "empty": (np.zeros((0, 6, 7), np.uint8), r"shape \(0, 6, 7, 1\)"),
    "no pixels": (np.zeros((5, 0, 7), np.uint8), "shape"),
    "flat": (np.zeros((5, 42), np.uint8), r"shape \(5, 42\) is not \(images, height, width\)"),
    "one number": (np.uint8(3), r"shape \(\)"),
    "five axes": (np.zeros((1, 2, 3, 4, 5), np.uint8), "shape"),
    "channels first": (BYTES.transpose(0, 3, 1, 2), r"shape \(5, 3, 6, 7\).*channels last"),
    "grey channels first": (np.zeros((2, 1, 28, 28), np.uint8), r"shape \(2, 1, 28, 28\).*channels last"),
    "large channels first": (np.zeros((1, 3, 256, 256), np.float32), "channels last"),
    "NaN": (with_nan(np.nan), "image 3 holds NaN or infinity"),
    "infinity": (with_nan(np.inf), "image 3 holds NaN or infinity"),
    "0 to 255 as fractions": (
        BYTES.astype(np.float32),
        "values from 0 to 255 are out of range; scale them to 0 to 1",
    ),
    "-1 to 1": (2 * FLOATS - 1, "values from -0.9.* are out of range"),
    "sixteen bits": (BYTES.astype(np.uint16) * 257, "values from .* to 65.* are out of range; give 0 to 255"),
    "negative": (BYTES.astype(int) - 1, "values from -1 to 254 are out of range"),
    "complex": (FLOATS.astype(complex), "values of type complex128 are not numbers"),
    "texts": (np.full((2, 3, 3), "a"), "are not numbers"),
    "objects": (np.full((2, 3, 3), None, object), "values of type object are not numbers"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_unsuitable_images_are_named(name: str) -> None:
    array, words = REFUSED[name]
    with pytest.raises(InputError, match=f"^faces: .*{words}") as error:
        pack(array, None, "faces")
    assert "\n" not in str(error.value)


LABELS = {
    "too few": (np.arange(4), r"5 images but labels of shape \(4,\)"),
    "too many": (np.arange(6), r"5 images but labels of shape \(6,\)"),
    "one-hot": (np.eye(5, dtype=int), r"5 images but labels of shape \(5, 5\)"),
    "fractions": (np.arange(5) / 2, "labels must be whole numbers"),
    "negative": (np.arange(5) - 1, "labels must be whole numbers.* from -1"),
    "texts": (np.array(list("abcde")), "labels must be whole numbers"),
    "objects": (np.array([1, None, 2, 3, 4], object), "labels must be whole numbers"),
}


@pytest.mark.parametrize("name", list(LABELS))
def test_unsuitable_labels_are_named(name: str) -> None:
    labels, words = LABELS[name]
    with pytest.raises(InputError, match=f"^faces: .*{words}") as error:
        pack(BYTES, labels, "faces")
    assert "\n" not in str(error.value)


def test_labels_may_be_bytes() -> None:
    assert pack(BYTES, np.arange(5, dtype=np.uint8), "x").labels.tolist() == [0, 1, 2, 3, 4]


def test_binary_means_black_and_white_only() -> None:
    assert is_binary(pack(np.where(BYTES > 128, np.uint8(255), np.uint8(0)), None, "x"))
    assert is_binary(pack((FLOATS > 0.5).astype(np.float32), None, "x"))
    assert not is_binary(pack(BYTES, None, "x"))
    assert not is_binary(pack(FLOATS, None, "x"))
    nearly = np.where(BYTES > 128, np.uint8(255), np.uint8(0))
    nearly[2, 2, 2, 2] = 1
    assert not is_binary(pack(nearly, None, "x"))


def test_a_split_that_is_not_there_is_named() -> None:
    images = pack(BYTES, None, "x")
    splits = Splits(DataInfo("faces", (3, 6, 7)), images, None, images)
    assert splits.named("train") is images is splits.named("test")
    with pytest.raises(InputError, match=r"^split 'val' is empty for 'faces'"):
        splits.named("val")
    with pytest.raises(InputError, match=r"^split 'tset' is unknown; did you mean 'test'\?$"):
        splits.named("tset")


def test_images_move_whole() -> None:
    images = Images(torch.zeros(2, 3, 3, 1, dtype=torch.uint8), torch.tensor([0, 1]))
    moved = images.to("cpu")
    assert torch.equal(moved.pixels, images.pixels)
    assert torch.equal(moved.labels, images.labels)


def test_the_fingerprint_follows_from_all_that_a_set_holds() -> None:
    pixels = torch.arange(24, dtype=torch.uint8).view(2, 3, 4, 1)
    labels, attributes = torch.tensor([0, 1]), torch.tensor([[0.5], [1.5]])
    plain = Images(pixels)
    others = [
        Images(pixels.flip(0)),
        Images(pixels, labels),
        Images(pixels, labels.flip(0)),
        Images(pixels, None, attributes),
        Images(pixels, None, None, pixels),
    ]
    sums = [checksum(images) for images in (plain, *others)]
    assert len(set(sums)) == len(sums)
    viewed = Images(torch.cat([pixels.flip(0), pixels]), rows=torch.tensor([2, 3]))
    assert checksum(viewed) == checksum(plain)


def test_a_part_of_a_set_is_spread_over_it() -> None:
    images = Images(torch.zeros(10, 1, 1, 1, dtype=torch.uint8), torch.arange(10))
    assert images.spread(4).labels.tolist() == [0, 2, 5, 7]
    assert images.spread(10) is images is images.spread(99) is images.spread(None)
