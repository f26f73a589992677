"""Bounds by importance sampling: independent of the batch size, against direct computation."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import cases
from vaekit.config import replace
from vaekit.corruptions.table import DownUp
from vaekit.data.batches import Data
from vaekit.data.binarization import Dynamic
from vaekit.evaluation.likelihood import Estimate, estimate
from vaekit.models.draw import Draw, Latent
from vaekit.models.table import Model
from vaekit.models.vae import VAEConfig
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise, seed_key
from vaekit.probability.likelihoods import BernoulliImage

MODELS = dict(cases.models())
FIELDS = ("distortion", "rate", "log_p", "effective_samples", "codes")


def build(config: VAEConfig, shape: tuple[int, int, int] = (1, 8, 8)) -> Model:
    torch.manual_seed(0)
    model = config.build(cases.info(shape, attributes=cases.reads_attributes(config)))
    with torch.no_grad():  # spread the weights, so that importance weights differ
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


@pytest.mark.parametrize("name", list(MODELS))
def test_memory_does_not_change_the_result(name: str) -> None:
    attributes = cases.reads_attributes(MODELS[name])
    model, images = build(MODELS[name]), cases.random_images((1, 8, 8), 11, attributes=attributes)
    data = Data(binarization=Dynamic(), corruption=DownUp())
    whole = estimate(model, data, images, 12, decodes_at_once=1000)
    for at_once in (1, 7, 24, 50):
        found = estimate(model, data, images, 12, decodes_at_once=at_once)
        for field in FIELDS:
            first, second = getattr(found, field), getattr(whole, field)
            torch.testing.assert_close(first, second, rtol=2e-6, atol=2e-4, msg=f"{field} at {at_once}")


def direct(model: Model, data: Data, images: object, samples: int, seed: int) -> dict[str, Tensor]:
    """The same quantities in one piece, in float64, from their definitions."""
    index = torch.arange(len(images))
    noise = Noise(torch.tensor(seed_key(seed, "evaluate")), index)
    with torch.no_grad():
        draw = model.draw(data.batch(images, index, noise), (samples,), noise)
    log_w = draw.log_w.double()
    w = (log_w - log_w.max(0).values).exp()
    return {
        "distortion": -draw.log_p_x.double().mean(0),
        "rate": draw.rate.double(),
        "log_p": w.mean(0).log() + log_w.max(0).values,
        "effective_samples": w.sum(0) ** 2 / (w**2).sum(0),
        "codes": draw.latents[0].posterior.mean.double(),
    }


@pytest.mark.parametrize("samples", [1, 2, 30])
def test_quantities_are_their_definitions(samples: int) -> None:
    model, images = (
        build(VAEConfig(latent_dim=3, network=MLP(hidden=(9,)))),
        cases.random_images((1, 8, 8), 11),
    )
    found = estimate(model, Data(), images, samples, seed=5, decodes_at_once=8)
    for field, expected in direct(model, Data(), images, samples, 5).items():
        torch.testing.assert_close(getattr(found, field), expected, rtol=2e-6, atol=2e-4)
        assert getattr(found, field).dtype == torch.float64
    assert (found.effective_samples >= 1 - 1e-9).all()
    assert (found.effective_samples <= samples + 1e-6).all()
    assert (found.rate > 0).all()


def test_the_seed_is_the_only_randomness() -> None:
    model, images = (
        build(VAEConfig(latent_dim=3, network=MLP(hidden=(9,)))),
        cases.random_images((1, 8, 8), 11),
    )
    torch.manual_seed(1)
    first = estimate(model, Data(), images, 3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second, other = estimate(model, Data(), images, 3), estimate(model, Data(), images, 3, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.log_p, second.log_p)
    assert not torch.equal(first.log_p, other.log_p)


def test_each_image_is_its_own_whatever_stands_beside_it() -> None:
    """The first images of a larger set have the numbers they had alone."""
    model, images = build(VAEConfig(latent_dim=3)), cases.random_images((1, 8, 8), 11)
    whole = estimate(model, Data(), images, 4)
    few = estimate(model, Data(), images.select(torch.arange(5)), 4)
    torch.testing.assert_close(few.log_p, whole.log_p[:5], rtol=2e-6, atol=2e-4)


def test_bounds_do_not_fall_with_more_samples() -> None:
    model, images = build(VAEConfig(latent_dim=3)), cases.random_images((1, 8, 8), 40)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(2.0)  # a posterior far from exact: the bound has far to climb
    means = [estimate(model, Data(), images, samples).log_p.mean().item() for samples in (1, 4, 16, 64, 256)]
    assert all(before < after for before, after in pairwise(means))


def test_extreme_weights_neither_overflow_nor_vanish() -> None:
    """log-weights far below the smallest float: one sample carries the sum."""
    config = VAEConfig(latent_dim=3, network=MLP(hidden=(9,)))
    model = build(config, (1, 28, 28))
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(300.0)
    found = estimate(model, Data(), cases.random_images((1, 28, 28), 4), 20)
    assert (found.log_p < -1000).all()
    assert torch.isfinite(found.log_p).all()
    assert ((found.effective_samples >= 1 - 1e-9) & (found.effective_samples < 2)).all()


def test_active_units_are_means_that_vary() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(5000, 4, generator=generator).double() * torch.tensor([1.0, 0.11, 0.09, 0.0]) + 3
    assert Estimate(codes[:, 0], None, None, None, None, codes, True, 1).active_units() == 2
    assert Estimate(codes[:, 0], None, None, None, None, codes, False, 1).active_units() is None
    assert Estimate(codes[:1, 0], None, None, None, None, codes[:1], True, 1).active_units() is None


class Autoencoder(Model):
    """A code without a density."""

    provides = frozenset()

    def draw(self, batch: object, sample_shape: tuple[int, ...] = (), noise: Noise | None = None) -> Draw:
        code = batch.input.flatten(1)[:, :3]
        logits = batch.input.expand(*sample_shape, *batch.input.shape)
        return Draw((Latent(code.expand(*sample_shape, *code.shape)),), BernoulliImage(logits), batch.target)


def test_a_plain_autoencoder_has_a_distortion_and_no_bound() -> None:
    images = cases.random_images((1, 8, 8), 5)
    found = estimate(Autoencoder(), Data(), images, 3, decodes_at_once=2)
    assert found.rate is None
    assert found.log_p is None
    assert found.effective_samples is None
    assert found.codes.shape == (5, 3)
    assert found.active_units() is None
    expected = -BernoulliImage(images.unit()).log_prob(images.unit())
    torch.testing.assert_close(found.distortion, expected.double(), rtol=1e-6, atol=1e-5)


def test_progress_ends_at_one() -> None:
    seen: list[float] = []
    images = cases.random_images((1, 8, 8), 5)
    estimate(Autoencoder(), Data(), images, 3, decodes_at_once=6, progress=seen.append)
    assert seen == [0.4, 0.8, 1.0]


def test_a_standard_normal_posterior_and_a_decoder_that_does_not_read_it_are_known_exactly() -> None:
    """Rate 0, all weights equal, and log p(x) = -pixels log 2."""
    config = replace(VAEConfig(latent_dim=3), ("network",), MLP(hidden=(9,)))
    model = build(config)
    with torch.no_grad():
        for parameter in [*model.posterior.parameters(), *model.decoder.parameters()]:
            parameter.zero_()
    found = estimate(model, Data(), cases.random_images((1, 8, 8), 5), 10)
    torch.testing.assert_close(found.log_p, torch.full((5,), -64 * math.log(2)).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.effective_samples, torch.full((5,), 10.0).double())
    assert found.rate.abs().max() == 0
    assert found.active_units() == 0
