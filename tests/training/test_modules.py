"""Modules of one's own as encoder and decoder: the examples of docs/own-modules.md, and what does not fit."""

from __future__ import annotations

import importlib.util
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import vaekit
from vaekit.errors import InputError
from vaekit.models.vae import VAEModel
from vaekit.objectives.adversarial.factor import FactorVAE
from vaekit.probability.optimal_gaussian import OptimalGaussian
from vaekit.training.modules import assemble, fit_model

EXAMPLES = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "own-modules.md").read_text(), re.S)


def images(count: int = 96) -> np.ndarray:
    """Squares at one of four places: a code of two bits tells all."""
    found = np.zeros((count, 8, 8), np.uint8)
    for number in range(count):
        top, left = 4 * (number % 2), 4 * (number // 2 % 2)
        found[number, top : top + 4, left : left + 4] = 255
    return found


def pair(features: int = 32, latent_dim: int = 2, channels: int = 1) -> tuple[nn.Module, nn.Module]:
    size = 64 * channels
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, features), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(latent_dim, features), nn.ReLU(), nn.Linear(features, size))
    return encoder, nn.Sequential(decoder, nn.Unflatten(1, (channels, 8, 8)))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_pages_examples(number: int) -> None:
    if "keras" in EXAMPLES[number] and importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    torch.manual_seed(0)
    random.seed(0)  # Keras draws its seeds from it
    found: dict[str, Any] = {}
    exec(compile(EXAMPLES[number], "own-modules.md", "exec"), found)
    assert found["samples"].shape == (16, 1, 8, 8)
    model, shown = found["model"], torch.from_numpy(found["images"])[:, None] / 255
    error = (vaekit.reconstruct(model, shown) - shown).square().mean()
    assert error < 0.9 * (shown.mean(0) - shown).square().mean()  # better than the mean image: both halves have learned
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def test_both_modules_learn_and_the_seed_decides() -> None:
    def trained() -> tuple[VAEModel, list[float]]:
        torch.manual_seed(0)
        model, losses = assemble(*pair(), (1, 8, 8), 2), []
        fit_model(
            model, images(), epochs=60, batch_size=32, learning_rate=2e-2, told=lambda _, loss: losses.append(loss)
        )
        return model, losses

    (first, losses), (second, _) = trained(), trained()
    assert len(losses) == 60
    assert losses[-1] < 12 < losses[0]  # log 4 = 1.4 nats tell the place; without a code the pixels cost 36
    assert not first.training
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_other_parts_of_the_tables() -> None:
    torch.manual_seed(0)
    model = assemble(*pair(), (1, 8, 8), 2, likelihood=OptimalGaussian())
    fit_model(model, images(), epochs=1, batch_size=32, objective=FactorVAE())
    assert float(model.likelihood.square_error) > 0  # type: ignore[operator, arg-type]
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(16))
    assert assemble(lazy, pair()[1], (1, 8, 8), 2).encode(torch.rand(3, 1, 8, 8)).mean.shape == (3, 2)  # type: ignore[attr-defined]


def test_what_does_not_fit_is_one_sentence() -> None:
    encoder, decoder = pair()
    cases: list[tuple[Any, str]] = [
        (lambda: assemble(nn.Identity(), decoder, (1, 8, 8), 2), r"the encoder makes \(2, 1, 8, 8\) of 2 images"),
        (lambda: assemble(encoder, decoder, (1, 9, 8), 2), r"the encoder cannot take an input of shape \(2, 1, 9, 8\)"),
        (lambda: assemble(encoder, decoder, (1, 8, 8), 3), r"the decoder cannot take an input of shape \(2, 3\)"),
        (lambda: assemble(encoder, decoder[0], (1, 8, 8), 2), r"it must make \(2, 1, 8, 8\), channels before rows"),
        (lambda: assemble(nn.LSTM(8, 4), decoder, (8, 8), 2), "the encoder returns a tuple"),  # type: ignore[arg-type]
        (lambda: fit_model(assemble(encoder, decoder, (1, 8, 8), 2), images(8)), "128 is more than the 8 images"),
        (
            lambda: fit_model(assemble(encoder, decoder, (1, 8, 8), 2), images(), epochs=-1),
            "epochs: -1.0 is out of range",
        ),
    ]
    for make, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            make()
