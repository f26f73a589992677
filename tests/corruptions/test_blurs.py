"""Blurs and fewer pixels, against scipy, Pillow and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image

from corruption_cases import noise, smooth
from vaekit.corruptions.blurs import Defocus, Downsample, GaussianBlur, MotionBlur, filter_axes, gaussian_window
from vaekit.noise import Noise


@pytest.mark.parametrize(("height", "width"), [(28, 28), (17, 40), (5, 3), (1, 4)])
@pytest.mark.parametrize("sigma", [0.4, 1.5, 6.0])
def test_gaussian_blur_is_scipys(height: int, width: int, sigma: float) -> None:
    images = torch.rand(2, 3, height, width)
    found = GaussianBlur(blur_sigma=sigma)(images, noise(2))
    radius = math.ceil(4 * sigma)
    expected = scipy.ndimage.gaussian_filter(
        images.double().numpy(), (0, 0, sigma, sigma), mode="nearest", radius=(0, 0, radius, radius)
    )
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("side", [1, 2, 3, 6, 30])
def test_a_mirrored_border_is_scipys(side: int) -> None:
    images = torch.rand(2, 1, side, 9, dtype=torch.float64)
    found = filter_axes(images, gaussian_window(1.5, 5, images.device, torch.float64), "mirror")
    expected = scipy.ndimage.gaussian_filter(images.numpy(), (0, 0, 1.5, 1.5), mode="mirror", radius=(0, 0, 5, 5))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("radius", [0.0, 0.7, 2.0, 3.5])
def test_defocus_spreads_a_point_over_a_disc(radius: float) -> None:
    """Each weight is the part of the pixel that the disc covers, to a tenth of a pixel; sampled 40 by 40."""
    image = torch.zeros(1, 2, 15, 15)
    image[:, :, 7, 7] = 1.0
    found = Defocus(defocus_radius=radius)(image, noise(1))[0]
    assert torch.equal(found[0], found[1])
    fine = (np.arange(15 * 40) + 0.5) / 40 - 7.5
    inside = fine[:, None] ** 2 + fine**2 <= max(radius, 0.5) ** 2
    covered = inside.reshape(15, 40, 15, 40).mean((1, 3))
    np.testing.assert_allclose(found[0] / found[0].max(), covered / covered.max(), atol=0.15)
    assert found[0].sum().item() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(found[0], found[0].T, atol=1e-7)


def test_defocus_is_a_convolution_with_its_disc() -> None:
    images, entry = torch.rand(2, 3, 12, 17), Defocus(defocus_radius=2.5)
    point = torch.zeros(1, 1, 9, 9)
    point[..., 4, 4] = 1.0
    disc = entry(point, noise(1))[0, 0].numpy()
    found = entry(images, noise(2))
    for place in np.ndindex(2, 3):
        expected = scipy.ndimage.convolve(images[place].numpy(), disc, mode="nearest")
        np.testing.assert_allclose(found[place], expected, atol=2e-6)


@pytest.mark.parametrize("length", [1.0, 4.0, 9.5])
def test_motion_blur_is_the_mean_of_the_image_moved_along_a_line(length: float) -> None:
    """The angle is read from the draw; scipy moves the image by fractions of a pixel."""
    images = torch.rand(3, 2, 20, 24)
    angles = Noise.from_seed(0, 3, "test").uniform("motion", (1,))[:, 0].double().numpy() * np.pi
    found = MotionBlur(motion_length=length)(images, noise(3)).numpy()
    points = math.ceil(4 * length)
    places = ((np.arange(points) + 0.5) / points - 0.5) * length
    for image, angle, moved in zip(images.double().numpy(), angles, found, strict=True):
        shifts = [(0, place * np.sin(angle), place * np.cos(angle)) for place in places]
        inner = np.mean([scipy.ndimage.shift(image, shift, order=1, mode="nearest") for shift in shifts], 0)
        np.testing.assert_allclose(moved, inner, atol=1e-5)


def test_motion_blur_takes_every_angle() -> None:
    kernels = MotionBlur(motion_length=9.0).kernels(noise(400))
    assert kernels.sum((1, 2)).allclose(torch.ones(400))
    across = kernels[:, 5, :].sum(1)  # the path's part in the middle row: large for level paths, small for steep ones
    down = kernels[:, :, 5].sum(1)
    assert (across > 0.9).float().mean().item() == pytest.approx((down > 0.9).float().mean().item(), abs=0.06)
    assert (across > 0.9).any()
    assert (down > 0.9).any()


@pytest.mark.parametrize(("shape", "factor"), [((28, 28), 2.0), ((32, 20), 3.0), ((17, 13), 1.5), ((8, 8), 64.0)])
def test_downsample_by_bicubic_is_pillows(shape: tuple[int, int], factor: float) -> None:
    images = torch.rand(2, 3, *shape)
    entry = Downsample(downsample_factor=factor)
    found = entry(images, noise(2))
    _, height, width = entry.shape((3, *shape))
    assert (height, width) == tuple(max(1, round(side / factor)) for side in shape)
    for place in np.ndindex(2, 3):
        small = Image.fromarray(images[place].numpy(), "F").resize((width, height), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(found[place], np.asarray(small).clip(0, 1), atol=1e-5)


def test_downsample_by_area_is_the_mean_of_blocks() -> None:
    images = smooth((2, 12, 9), 2)
    found = Downsample(downsample_factor=3.0, downsample_filter="area")(images, noise(2))
    np.testing.assert_allclose(found, images.numpy().reshape(2, 2, 4, 3, 3, 3).mean((3, 5)), atol=1e-6)
