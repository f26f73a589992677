"""JPEG against Pillow's, which is libjpeg's."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from corruption_cases import noise
from vaekit.corruptions.jpeg import CHROMINANCE, LUMINANCE, Jpeg, quantization

QUALITIES = [1, 5, 20, 49, 50, 75, 92, 100]


def saved(pixels: np.ndarray, quality: int) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2)
    file.seek(0)
    return Image.open(file)


def photographs(height: int, width: int, count: int = 12) -> np.ndarray:
    """Cuts from scikit-learn's two photographs: uint8 (count, height, width, 3)."""
    random, cuts = np.random.default_rng(0), []
    for place in range(count):
        whole = load_sample_image(("china.jpg", "flower.jpg")[place % 2])[:: 1 + place % 3, :: 1 + place % 3]
        top, left = (
            int(random.integers(0, size - side)) for size, side in zip(whole.shape, (height, width), strict=False)
        )
        cuts.append(whole[top : top + height, left : left + width])
    return np.stack(cuts)


def coded(pixels: np.ndarray, quality: int) -> np.ndarray:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255.0
    found = Jpeg(jpeg_quality=quality)(images, noise(len(images))).permute(0, 2, 3, 1) * 255.0
    np.testing.assert_allclose(found, found.round(), atol=1e-4)
    return found.round().numpy()


@pytest.mark.parametrize("quality", range(1, 101))
def test_tables_are_libjpegs(quality: int) -> None:
    tables = saved(np.zeros((16, 16, 3), np.uint8), quality).quantization
    for place, table in ((0, LUMINANCE), (1, CHROMINANCE)):
        assert sorted(sum(quantization(table, quality), ())) == sorted(tables[place])


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), (17, 23), (45, 50)])
def test_grey_images(quality: int, height: int, width: int) -> None:
    """libjpeg rounds inside its integer transform: nearly all levels agree, and what differs is close."""
    pixels = photographs(height, width)[..., 1]
    expected = np.stack([np.asarray(saved(image, quality)) for image in pixels]).astype(int)
    found = coded(pixels[..., None], quality)[..., 0]
    assert (found == expected).mean() > 0.9
    assert np.abs(found - expected).mean() < 0.1


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 30), (17, 23), (45, 50)])
def test_colour_images(quality: int, height: int, width: int) -> None:
    pixels = photographs(height, width)
    expected = np.stack([np.asarray(saved(image, quality)) for image in pixels]).astype(int)
    found = coded(pixels, quality)
    assert (found == expected).mean() > 0.85
    assert np.abs(found - expected).mean() < 0.15


def test_other_numbers_of_channels_are_grey_images_each() -> None:
    images = torch.rand(2, 2, 16, 16)
    found = Jpeg()(images, noise(2))
    for channel in (0, 1):
        assert torch.equal(found[:, channel : channel + 1], Jpeg()(images[:, channel : channel + 1], noise(2)))


def test_an_image_is_coded_alike_in_any_batch() -> None:
    """Ties between two steps are common among whole numbers, and rounding must not depend on the batch."""
    images = torch.from_numpy(photographs(24, 24, 12)).permute(0, 3, 1, 2) / 255.0
    together = Jpeg(jpeg_quality=50)(images, noise(12))
    for place in range(12):
        assert torch.equal(Jpeg(jpeg_quality=50)(images[place : place + 1], noise(1))[0], together[place])
