"""Attributes as arrays; files of them are tested with the other array files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vaekit.data.attributes import attribute_names, described
from vaekit.data.images import Images
from vaekit.errors import InputError

IMAGES = Images(torch.zeros(3, 2, 2, 1, dtype=torch.uint8), torch.tensor([0, 1, 0]))


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float16, np.float64])
def test_numbers_of_every_kind_become_float32(kind: type) -> None:
    values = np.array([[0, 1], [1, 1], [0, 0]]).astype(kind)
    found = described(IMAGES, values, "own.npz")
    assert found.attributes.dtype == torch.float32
    assert found.attributes.tolist() == [[0, 1], [1, 1], [0, 0]]
    assert found.labels is IMAGES.labels
    assert described(IMAGES, values[:, 0], "own.npz").attributes.tolist() == [[0], [1], [0]]


def test_without_attributes_the_images_are_as_they_were() -> None:
    assert described(IMAGES, None, "own.npz") is IMAGES
    assert attribute_names(IMAGES, None, "own.npz") == ()


def test_names() -> None:
    images = described(IMAGES, np.zeros((3, 2)), "own.npz")
    assert attribute_names(images, None, "own.npz") == ("attribute-0", "attribute-1")
    assert attribute_names(images, np.array([" wide ", "tall"]), "own.npz") == ("wide", "tall")
    for names, words in ((["a", ""], "is empty"), (["a", "b,c"], "'b,c'"), (["a", "a "], "'a' stands twice")):
        with pytest.raises(InputError, match=words):
            attribute_names(images, np.array(names), "own.npz")
