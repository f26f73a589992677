"""Dead units are found wherever a ReLU is applied."""

from __future__ import annotations

import pytest
import torch

from vaekit.doctor.units import watched
from vaekit.noise import Noise
from vaekit.settings import configure
from vaekit.training.train import seeded_model


def layers(name: str, kill, digits, **settings):
    config = configure(name, data="digits", **settings)
    model = seeded_model(config, digits.info).eval()
    with torch.no_grad():
        kill(model)
    index = torch.arange(100)
    batch = config.data.batch(digits.train, index, Noise(torch.tensor(0), index))
    return {layer.name: (layer.dead, layer.units) for layer in watched(model, batch)}


def test_dense_units(digits):
    def kill(model):
        model.encoder.layers[0].bias[:5] = -1000.0
        model.decoder.layers[0].bias[2:4] = -1000.0

    plain = layers("mlp", lambda model: None, digits, hidden=(20,))
    assert plain == {"encoder.layers.1": (0, 20), "decoder.layers.1": (0, 20)}
    assert layers("mlp", kill, digits, hidden=(20,)) == {"encoder.layers.1": (5, 20), "decoder.layers.1": (2, 20)}


def test_channels_of_convolutions_and_functions(digits):
    def kill(model):
        model.encoder.convolutions[0].bias[0] = -1000.0
        model.encoder.dense.bias[:7] = -1000.0
        model.decoder.convolutions[1].bias[:3] = -1000.0

    found = layers("conv", kill, digits, channels=(8, 16), dense=24)
    plain = layers("conv", lambda model: None, digits, channels=(8, 16), dense=24)
    more = {name: (found[name][0] - plain[name][0], found[name][1]) for name in plain}
    assert more["encoder.convolutions.0"] == (1, 8)
    assert more["encoder"] == pytest.approx((7, 24), abs=1)  # one may have been dead before
    assert more["decoder.convolutions.1"] == (3, 8)


def test_other_activations_have_no_dead_units(digits):
    assert layers("mlp", lambda model: None, digits, activation="tanh") == {}
