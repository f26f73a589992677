"""How well corrupted images are restored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cases
from vaekit.data.batches import Data
from vaekit.data.corruptions import DownUp
from vaekit.evaluation.restoration import psnr, restoration
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
