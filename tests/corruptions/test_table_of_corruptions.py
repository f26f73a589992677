"""Corruptions against independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import cases
from corruption_cases import STRENGTHS, at, noise, smooth
from oracles import bilinear_blur
from vaekit.corruptions.table import CORRUPTIONS, Clean, DownUp
from vaekit.data.batches import Data
from vaekit.data.images import Splits
from vaekit.evaluation.restoration import as_target, psnr
from vaekit.noise import Noise


@pytest.mark.parametrize("shape", cases.SHAPES, ids=str)
@pytest.mark.parametrize("factor", [2.0, 1.5, 3.0, 4.0, 64.0])
def test_blur_is_bilinear_down_and_up(shape: tuple[int, int, int], factor: float) -> None:
    images = cases.random_images(shape, 3).unit()
    found = DownUp(blur_factor=factor)(images, Noise.from_seed(0, 3))
    np.testing.assert_allclose(found, bilinear_blur(images.numpy(), factor), atol=2e-6)


def test_blur_by_two_in_plain_numbers() -> None:
    """Down is the mean of each 2x2 block; up mixes 3:1 and repeats the edge."""
    row = torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 4).expand(1, 1, 2, 4)
    assert DownUp()(row, Noise.from_seed(0, 1))[0, 0, 0].tolist() == [0.5, 0.5, 0.5, 0.5]
    row = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 1, 4).expand(1, 1, 2, 4)
    assert DownUp()(row, Noise.from_seed(0, 1))[0, 0, 0].tolist() == [0.0, 0.25, 0.75, 1.0]


def test_blur_of_mnist_test_images_has_the_published_psnr(mnist: Splits) -> None:
    """18.5 dB is the mean of each image's decibels; the decibels of the mean squared error are fewer."""
    index = torch.arange(len(mnist.test))
    batch = Data(corruption=DownUp()).batch(mnist.test, index, Noise.from_seed(0, len(index)))
    of_each = psnr(batch.input, batch.target).mean().item()
    of_mean = -10 * (batch.input - batch.target).square().mean().log10().item()
    assert of_each == pytest.approx(18.5, abs=0.1)
    assert of_mean == pytest.approx(18.35, abs=0.05)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
@pytest.mark.parametrize("shape", [(1, 9, 7), (2, 9, 7), (3, 20, 17)], ids=str)
def test_entry_keeps_the_contract(name: str, shape: tuple[int, int, int]) -> None:
    """The target stays clean, the shape is the one announced, and an image is the same in any batch."""
    images, entry = cases.random_images(shape, 4).unit(), CORRUPTIONS[name]()
    before = images.clone()
    found = entry(images, Noise(torch.tensor(1), torch.arange(4)))
    assert torch.equal(images, before)
    assert tuple(found.shape[1:]) == entry.shape(shape)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.min() >= 0
    assert found.max() <= 1
    alone = entry(images[2:3], Noise(torch.tensor(1), torch.tensor([2])))
    torch.testing.assert_close(alone, found[2:3])
    assert isinstance(entry, Clean) == torch.equal(found, images)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_other_types_and_layouts_are_kept(name: str) -> None:
    images = torch.rand(2, 3, 9, 7, dtype=torch.float64)
    found = CORRUPTIONS[name]()(images, noise(2))
    assert found.dtype == torch.float64
    assert found.is_contiguous()


RANDOM = [
    name for name in CORRUPTIONS if name not in ("none", "blur", "downsample", "gaussian-blur", "defocus", "jpeg")
]


@pytest.mark.parametrize("name", RANDOM)
def test_noise_is_drawn_anew_for_each_key_and_image(name: str) -> None:
    images, entry = cases.random_images((1, 12, 12), 1).unit().expand(3, -1, -1, -1), CORRUPTIONS[name]()
    found = entry(images, Noise(torch.tensor(1), torch.arange(3)))
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found, entry(images, Noise(torch.tensor(2), torch.arange(3))))
    assert torch.equal(found, entry(images, Noise(torch.tensor(1), torch.arange(3))))


@pytest.mark.parametrize("name", STRENGTHS)
def test_a_stronger_corruption_has_a_lower_psnr(name: str) -> None:
    images = smooth((3, 24, 20), 8)
    found = [as_target(at(name, strength)(images, noise(8)), images.shape) for strength in STRENGTHS[name]]
    quality = [psnr(one, images).mean().item() for one in found]
    assert quality == sorted(quality, reverse=True)
    assert quality[0] > quality[-1] + 2


def test_every_entry_with_a_strength_is_in_these_tests() -> None:
    assert set(STRENGTHS) | {"none", "chain"} == set(CORRUPTIONS)


NEUTRAL = {
    "gaussian-blur": 0.0,
    "defocus": 0.0,
    "motion-blur": 0.0,
    "gaussian-noise": 0.0,
    "speckle": 0.0,
    "salt-and-pepper": 0.0,
    "mask-pixels": 0.0,
    "mask-blocks": 0.0,
    "mask-stripes": 0.0,
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_strength_zero_leaves_the_image_as_it_is(name: str) -> None:
    images = cases.random_images((3, 11, 6), 3).unit()
    torch.testing.assert_close(at(name, NEUTRAL[name])(images, noise(3)), images, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_nothing_waits_for_the_device(name: str) -> None:
    """Under FakeTensorMode reading a value is an error, whatever the number of channels."""
    with FakeTensorMode():
        for channels in (1, 3):
            images = torch.empty(4, channels, 20, 18).contiguous(memory_format=torch.channels_last)
            key, index = torch.empty((), dtype=torch.int64), torch.empty(4, dtype=torch.int64)
            found = CORRUPTIONS[name]()(images, Noise(key, index))
            assert tuple(found.shape[1:]) == CORRUPTIONS[name]().shape((channels, 20, 18))
