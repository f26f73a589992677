"""Corruptions against independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cases
from oracles import bilinear_blur
from vaekit.data.batches import Data
from vaekit.data.corruptions import CORRUPTIONS, Clean, DownUp
from vaekit.data.images import Splits
from vaekit.evaluation.restoration import psnr
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
def test_entry_keeps_the_contract(name: str) -> None:
    images = cases.random_images((2, 9, 7), 4).unit()
    before = images.clone()
    noise = Noise(torch.tensor(1), torch.arange(4))
    found = CORRUPTIONS[name]()(images, noise)
    assert torch.equal(images, before), "the target stays clean"
    assert found.shape == images.shape
    assert found.min() >= 0
    assert found.max() <= 1
    alone = CORRUPTIONS[name]()(images[2:3], Noise(torch.tensor(1), torch.tensor([2])))
    torch.testing.assert_close(alone, found[2:3])
    assert isinstance(CORRUPTIONS[name](), Clean) == torch.equal(found, images)
