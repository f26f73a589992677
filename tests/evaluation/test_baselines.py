"""Classical restoration: against brute force, and on problems whose best answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch

from corruption_cases import noise, smooth
from vaekit.corruptions.blurs import Defocus, Downsample, GaussianBlur, MotionBlur
from vaekit.corruptions.chain import Chain
from vaekit.corruptions.jpeg import Jpeg
from vaekit.corruptions.noises import GaussianNoise, LowLight, SaltAndPepper
from vaekit.corruptions.table import DownUp
from vaekit.data.images import Splits
from vaekit.evaluation.baselines import NAMES, back_projection, baselines, bicubic, brighten, gaussian, median
from vaekit.evaluation.restoration import as_target, psnr


@pytest.mark.parametrize("size", [3, 5])
def test_median_is_that_of_the_window(size: int) -> None:
    images = torch.rand(2, 2, 6, 5)
    found, reach = median(images, images.shape, size), size // 2
    around = np.pad(images.numpy(), ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    for row, column in np.ndindex(6, 5):
        expected = np.median(around[:, :, row : row + size, column : column + size], axis=(2, 3))
        np.testing.assert_array_equal(found[:, :, row, column], expected.astype(np.float32))


def test_gaussian_is_scipys() -> None:
    images = torch.rand(2, 3, 9, 12)
    expected = scipy.ndimage.gaussian_filter(images.numpy(), (0, 0, 1.4, 1.4), mode="nearest")
    np.testing.assert_allclose(gaussian(images, images.shape, 1.4), expected, atol=1e-6)


def test_smaller_inputs_are_enlarged_first() -> None:
    images = torch.rand(2, 1, 6, 6)
    large = torch.Size((2, 1, 12, 12))
    enlarged = bicubic(images, large, 0.0)
    assert torch.equal(enlarged, as_target(images, large))
    assert torch.equal(median(images, large, 3), median(enlarged, large, 3))


def test_each_corruption_has_its_methods() -> None:
    def names(corruption: Any, smaller: bool = False) -> list[str]:
        found = [method.name for method in baselines(corruption, smaller)]
        assert sorted(found, key=NAMES.index) == found
        return found

    filters = ["median", "gaussian"]
    assert names(GaussianNoise()) == names(MotionBlur()) == names(Jpeg()) == filters
    assert names(DownUp()) == names(GaussianBlur()) == names(Defocus()) == [*filters, "back-projection"]
    assert names(Downsample(), True) == ["bicubic", *filters, "back-projection"]
    assert names(Chain("gaussian-blur,defocus")) == [*filters, "back-projection"]
    assert names(Chain("gaussian-blur,gaussian-noise")) == filters
    assert names(LowLight()) == names(Chain("blur,low-light")) == [*filters, "brighten"]


@pytest.mark.parametrize(
    "corruption", [DownUp(), DownUp(3.0), DownUp(1.5), Downsample(), Downsample(3.0), GaussianBlur(0.8), Defocus(1.0)]
)
def test_back_projection_agrees_with_what_was_seen(corruption: Any) -> None:
    """What is restored, corrupted again, comes ever closer to the input, and is nearer to the clean image."""
    images = smooth((2, 24, 18), 4)
    seen = corruption(images, noise(4))
    restore = back_projection(corruption)
    assert restore is not None
    gaps = [
        (corruption(restore(seen, images.shape, steps), noise(4)) - seen).abs().mean().item() for steps in (0, 4, 64)
    ]
    assert gaps[2] <= gaps[1] <= gaps[0]
    assert gaps[2] < 2e-3
    before = psnr(as_target(seen, images.shape), images).mean()
    assert psnr(restore(seen, images.shape, 16), images).mean() > before + 1


def test_parameters_are_those_of_the_highest_psnr() -> None:
    """A broken pixel among nine wants the smallest median; noise on a flat image the widest Gaussian."""
    images = smooth((1, 24, 24), 6)
    methods = {method.name: method for method in baselines(SaltAndPepper(), False)}
    seen = SaltAndPepper(0.05)(images, noise(6))
    assert methods["median"].chosen(seen, images) == 3
    flat = torch.full((4, 1, 24, 24), 0.5)
    seen = GaussianNoise(0.2)(flat, noise(4))
    for name in ("median", "gaussian"):
        assert methods[name].chosen(seen, flat) == max(methods[name].values)
    dark = 0.25 * images
    gain = next(method for method in baselines(LowLight(), False) if method.name == "brighten").chosen(dark, images)
    assert gain == 4
    torch.testing.assert_close(brighten(dark, images.shape, gain), images)


def test_back_projection_of_mnists_blur_has_the_published_psnr(mnist: Splits) -> None:
    images = mnist.test.unit(torch.arange(0, 10_000, 10))
    seen = DownUp()(images, noise(1000))
    restore = back_projection(DownUp())
    assert restore is not None
    assert psnr(restore(seen, images.shape, 32), images).mean().item() == pytest.approx(23.8, abs=0.15)
