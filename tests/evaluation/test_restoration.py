"""How well corrupted images are restored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import cases
from corruption_cases import smooth
from vaekit.corruptions.blurs import Downsample
from vaekit.corruptions.table import DownUp
from vaekit.data.batches import Data
from vaekit.data.images import Images
from vaekit.evaluation.restoration import as_target, psnr, restoration, ssim
from vaekit.generation import reconstruct
from vaekit.models.vae import VAEConfig
from vaekit.networks.conditioning import OneHot
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise


def test_psnr_is_its_definition() -> None:
    first, second = cases.random_images((2, 9, 7), 5).unit(), cases.random_images((2, 9, 7), 5, seed=1).unit()
    error = ((first - second).double().numpy() ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(psnr(first, second), 10 * np.log10(1 / error), rtol=1e-5)


def test_psnr_of_equal_images_is_finite() -> None:
    images = torch.ones(2, 1, 3, 3)
    assert psnr(images, images).tolist() == [120.0, 120.0]


def test_restoration_is_the_mean_over_images_whatever_the_batch() -> None:
    torch.manual_seed(0)
    config = VAEConfig(latent_dim=3, network=MLP(hidden=(9,)), conditioning=OneHot())
    model = config.build(cases.info((1, 8, 8))).eval()
    images, data = cases.random_images((1, 8, 8), 11), Data(corruption=DownUp())
    blurred = DownUp()(images.unit(), Noise.from_seed(0, 11))
    expected = psnr(reconstruct(model, blurred, images.labels), images.unit()).mean().item()
    for size in (1, 4, 500):
        found = restoration(model, data, images, batch_size=size)
        assert found["psnr_db"] == pytest.approx(expected, abs=1e-4)
        assert found["input_psnr_db"] == pytest.approx(psnr(blurred, images.unit()).mean().item(), abs=1e-4)


def expected_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2004, eq. 13, for one channel, by scipy's Gaussian filter."""

    def mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, mode="mirror", radius=5)

    a, b = mean(first), mean(second)
    variances = mean((first - second) ** 2) - (a - b) ** 2  # of the difference: var a + var b - 2 cov
    covariance = mean(first * second) - a * b
    total = variances + 2 * covariance
    return float(np.mean((2 * a * b + 1e-4) * (2 * covariance + 9e-4) / ((a**2 + b**2 + 1e-4) * (total + 9e-4))))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 13), (2, 8, 8), (1, 3, 4)], ids=str)
def test_ssim_is_its_definition(shape: tuple[int, int, int]) -> None:
    first = cases.random_images(shape, 4).unit()
    second = (0.7 * first + 0.3 * cases.random_images(shape, 4, seed=1).unit()).clamp(0, 1)
    pairs = zip(first.double().numpy(), second.double().numpy(), strict=True)
    expected = [np.mean([expected_ssim(a, b) for a, b in zip(*pair, strict=True)]) for pair in pairs]
    np.testing.assert_allclose(ssim(first, second), expected, rtol=1e-5)
    np.testing.assert_allclose(ssim(second, first), expected, rtol=1e-5)


def test_ssim_orders_what_psnr_cannot() -> None:
    """Two errors of equal size: a shift of the brightness keeps the structure, noise does not."""
    images = smooth((1, 32, 32), 4) * 0.5 + 0.25
    noisy = images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).sign()
    lighter = images + 0.1
    torch.testing.assert_close(psnr(noisy, images), psnr(lighter, images), rtol=1e-4, atol=1e-4)
    assert (ssim(lighter, images) > ssim(noisy, images) + 0.2).all()
    assert ssim(images, images).tolist() == [1.0] * 4
    assert ssim(torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5)).tolist() == [1.0]


def test_inputs_of_another_size_or_colour_are_compared_when_brought_to_the_target() -> None:
    images = torch.rand(2, 1, 7, 5)
    large = as_target(images, torch.Size((2, 3, 14, 10)))
    assert large.shape == (2, 3, 14, 10)
    assert torch.equal(large[:, 0], large[:, 2])
    constant = as_target(torch.full((1, 3, 4, 4), 0.3), torch.Size((1, 1, 9, 9)))
    torch.testing.assert_close(constant, torch.full((1, 1, 9, 9), 0.3))
    small = as_target(torch.arange(16.0).view(1, 1, 4, 4) / 16, torch.Size((1, 1, 2, 2)))
    assert (small * 16).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert as_target(images, images.shape) is images


def test_restoration_of_smaller_inputs_and_of_pairs() -> None:
    """The baseline is the enlarged input; pairs are measured against their targets, not against themselves."""
    torch.manual_seed(0)
    info = replace(cases.info((1, 12, 12), labels=False), input_shape=(1, 6, 6))
    model = VAEConfig(latent_dim=3, network=MLP(hidden=(9,))).build(info).eval()
    images = cases.random_images((1, 12, 12), 7, labels=False)
    small = Downsample()(images.unit(), Noise.from_seed(0, 7))
    rebuilt, enlarged = reconstruct(model, small), as_target(small, torch.Size((7, 1, 12, 12)))
    found = restoration(model, Data(corruption=Downsample()), images)
    assert found["psnr_db"] == pytest.approx(psnr(rebuilt, images.unit()).mean().item(), abs=1e-4)
    assert found["input_psnr_db"] == pytest.approx(psnr(enlarged, images.unit()).mean().item(), abs=1e-4)
    assert found["ssim"] == pytest.approx(ssim(rebuilt, images.unit()).mean().item(), abs=1e-5)
    assert found["input_ssim"] == pytest.approx(ssim(enlarged, images.unit()).mean().item(), abs=1e-5)

    levels = (small * 255).round().byte().permute(0, 2, 3, 1)
    pairs = Images(images.pixels, inputs=levels)
    given = levels.permute(0, 3, 1, 2) / 255.0
    found = restoration(model, Data(target="clean"), pairs)
    assert found["psnr_db"] == pytest.approx(psnr(reconstruct(model, given), images.unit()).mean().item(), abs=1e-4)
    assert found["input_psnr_db"] == pytest.approx(
        psnr(as_target(given, torch.Size((7, 1, 12, 12))), images.unit()).mean().item(), abs=1e-4
    )
