"""Presets and how flat settings change them: preset < choice < leaf."""

from __future__ import annotations

import json

import pytest

from vaekit.config import check, decode, encode
from vaekit.corruptions.table import DownUp
from vaekit.errors import InputError
from vaekit.networks.conditioning import Embedding, OneHot, Unconditional
from vaekit.networks.conv import Conv
from vaekit.networks.mlp import MLP
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.schedules import Linear
from vaekit.settings import PRESETS, Config, configure, preset


@pytest.mark.parametrize("name", list(PRESETS))
def test_preset_is_a_complete_valid_configuration(name: str) -> None:
    config = preset(name)
    check(config)
    config.check_combination()
    assert decode(Config, json.loads(json.dumps(encode(config)))) == config
    assert PRESETS[name][0]
    assert "\n" not in PRESETS[name][0]


@pytest.mark.parametrize("name", ["conv-seed", "cvae-onehot", "cvae-embedding", "denoising"])
def test_seed_presets_follow_their_sources(name: str) -> None:
    """All 60,000 images, no selection, last weights, batch 128."""
    config = preset(name)
    assert config.data.data == "mnist"
    assert config.data.validation == 0
    assert not config.training.select_best
    assert config.training.batch_size == 128
    assert config.model.network == Conv(channels=(32, 64), dense=128)


def test_seed_presets_have_the_published_weights() -> None:
    assert preset("cvae-onehot").objective == Elbo(beta=1.0)
    assert preset("cvae-onehot").model.conditioning == OneHot()
    assert preset("cvae-onehot").training.epochs == 10
    assert preset("cvae-embedding").objective == Elbo(beta=1 / 128)
    assert preset("cvae-embedding").model.conditioning == Embedding()
    denoising = preset("denoising")
    assert denoising.objective == Elbo(beta=1 / 128)
    assert denoising.data.corruption == DownUp(blur_factor=2.0)
    assert denoising.model.latent_dim == 16
    assert denoising.training.epochs == 5
    assert denoising.model.conditioning == Unconditional()


def test_leaf_beats_preset() -> None:
    config = configure("cvae-embedding", beta=2, latent_dim="5")
    assert config.objective == Elbo(beta=2.0)
    assert config.model.latent_dim == 5
    assert config.model.conditioning == Embedding()  # the rest of the preset stays


def test_choice_beats_preset_and_leaf_beats_choice() -> None:
    assert configure("cvae-embedding", objective="iwae").objective == Iwae()
    assert configure("cvae-embedding", objective="iwae", num_samples=3).objective == Iwae(num_samples=3)
    assert configure("cvae-embedding", objective="elbo").objective == Elbo(beta=1 / 128)
    assert configure("mlp", network="conv", channels="8,16").model.network == Conv(channels=(8, 16))
    assert configure("mlp", hidden="20,10").model.network == MLP(hidden=(20, 10))


def test_a_leaf_that_the_choice_does_not_have_is_refused() -> None:
    with pytest.raises(
        InputError,
        match=r"^option --beta belongs to --objective balanced, dip-vae, .* or vae-gan, which is",
    ):
        configure("conv", objective="iwae", beta=2)


def test_settings_do_not_change_the_preset() -> None:
    configure("conv", latent_dim=3)
    assert preset("conv") == Config()


def test_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^preset 'cvae-onehto' is unknown; did you mean 'cvae-onehot'\?$"):
        configure("cvae-onehto")


def test_a_schedule_of_beta_needs_a_beta() -> None:
    assert configure("conv", beta_schedule="linear", beta_warmup_epochs=2).beta_schedule == Linear(2.0)
    with pytest.raises(InputError, match=r"^--beta-schedule linear: objective 'iwae' has no beta to schedule") as error:
        configure("conv", objective="iwae", beta_schedule="linear")
    assert "\n" not in str(error.value)
