"""Structural similarity over scales, against loops over pixels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import cases
from vaekit.evaluation.restoration import ssim
from vaekit.features.similarity import EXPONENTS, ms_ssim, num_scales

Image = np.ndarray


def local_mean(image: Image, row: int, column: int) -> float:
    """Mean of an image (height, width) around a pixel, by a Gaussian of 1.5 pixels, 11 wide, mirrored at the border."""

    def place(at: int, side: int) -> int:
        while not 0 <= at < side:
            at = -at if at < 0 else 2 * (side - 1) - at
        return at

    total = weights = 0.0
    for down, right in itertools.product(range(-5, 6), repeat=2):
        weight = math.exp(-(down**2 + right**2) / (2 * 1.5**2))
        total += weight * image[place(row + down, image.shape[0]), place(column + right, image.shape[1])]
        weights += weight
    return total / weights


def similarities(a: Image, b: Image) -> tuple[float, float]:
    """Mean structure and mean SSIM over the pixels of two images (height, width)."""
    structures, both = [], []
    for row, column in itertools.product(*map(range, a.shape)):
        x, y, xx, yy, xy = (local_mean(image, row, column) for image in (a, b, a * a, b * b, a * b))
        structure = (2 * (xy - x * y) + 9e-4) / (xx - x * x + yy - y * y + 9e-4)
        structures.append(structure)
        both.append(structure * (2 * x * y + 1e-4) / (x * x + y * y + 1e-4))
    return float(np.mean(structures)), float(np.mean(both))


def test_two_scales_are_their_definition() -> None:
    """22x23 pixels: the least with two scales, and an odd width, of which the second drops the last column."""
    first = cases.random_images((1, 22, 23), 1).unit().double()
    second = (0.7 * first + 0.3 * cases.random_images((1, 22, 23), 1, seed=1).unit().double()) ** 1.2
    a, b = first[0, 0].numpy(), second[0, 0].numpy()

    def halved(image: Image) -> Image:
        return np.array([[image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(11)] for i in range(11)])

    fine, _ = similarities(a, b)
    _, coarse = similarities(halved(a), halved(b))
    weights = np.array(EXPONENTS[:2]) / sum(EXPONENTS[:2])
    assert 0.3 < coarse < 0.98
    assert ms_ssim(first, second).item() == pytest.approx(fine ** weights[0] * coarse ** weights[1], rel=1e-9)


def test_small_images_have_one_scale_which_is_ssim() -> None:
    first, second = (cases.random_images((3, 9, 15), 4, seed=seed).unit() for seed in (0, 1))
    blend = 0.5 * (first + second)
    torch.testing.assert_close(ms_ssim(first, blend), ssim(first, blend), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("side", "scales"), [(1, 1), (8, 1), (21, 1), (22, 2), (44, 3), (88, 4), (176, 5), (999, 5)])
def test_there_are_as_many_scales_as_hold_the_window(side: int, scales: int) -> None:
    assert num_scales(side, 2 * side) == num_scales(2 * side, side) == scales


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 90, 64)])
def test_equal_images_are_alike_and_others_less_from_0_to_1(shape: tuple[int, int, int]) -> None:
    first, second = (cases.random_images(shape, 3, seed=seed).unit() for seed in (0, 1))
    torch.testing.assert_close(ms_ssim(first, first), torch.ones(3))
    for other in (second, 1.0 - first):
        found = ms_ssim(first, other)
        assert ((found >= 0) & (found < 0.5)).all()
        torch.testing.assert_close(found, ms_ssim(other, first))


def test_a_shift_of_brightness_changes_the_coarsest_scale_only() -> None:
    first = 0.25 + 0.25 * cases.random_images((1, 32, 32), 3).unit().double()
    shifted = first + 0.25
    coarse, other = (torch.nn.functional.avg_pool2d(images, 2) for images in (first, shifted))
    exponent = EXPONENTS[1] / sum(EXPONENTS[:2])
    expected = ssim(coarse, other).double() ** exponent
    assert (expected < 0.97).all()
    torch.testing.assert_close(ms_ssim(first, shifted), expected, rtol=1e-6, atol=0)


def test_noise_makes_images_less_alike_the_more_there_is() -> None:
    images = cases.random_images((1, 32, 32), 8).unit()
    smooth = torch.nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    found = torch.stack([ms_ssim(smooth, smooth + sigma * noise) for sigma in (0.0, 0.01, 0.03, 0.1, 0.3)])
    assert (found.diff(dim=0) < 0).all()


@pytest.mark.parametrize("case", ["equal", "black", "negative", "random"])
def test_the_gradient_is_finite(case: str) -> None:
    target = cases.random_images((1, 28, 28), 2).unit()
    made = {"equal": target, "black": torch.zeros_like(target), "negative": 1 - target, "random": target.flip(3)}
    images = made[case].clone().requires_grad_()
    (slope,) = torch.autograd.grad(ms_ssim(images, target).sum(), images)
    assert slope.isfinite().all()
    assert (slope.abs().max() > 1e-6) == (case in ("black", "random"))  # below the floor of a scale there is none


def test_float32_is_as_good_as_float64() -> None:
    first, second = (cases.random_images((3, 64, 64), 3, seed=seed).unit() for seed in (0, 1))
    blend = 0.9 * first + 0.1 * second
    exact = ms_ssim(first.double(), blend.double())
    torch.testing.assert_close(ms_ssim(first, blend).double(), exact, rtol=0, atol=2e-6)
