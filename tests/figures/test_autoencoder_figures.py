"""What the figures of autoencoders say, of vectors and of grids of codes: these have no posterior mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaekit.figures import make_figures
from vaekit.settings import configure
from vaekit.training.reporting import Silent
from vaekit.training.train import train


@pytest.mark.parametrize("posterior", ["deterministic", "gaussian"])
def test_captions_speak_of_what_the_model_has(posterior: str, tmp_path: Path) -> None:
    config = configure(
        "mlp", data="digits", posterior=posterior, objective="autoencoder", hidden="16", latent_dim=3, epochs=1,
        train_limit=250, validation=51, batch_size=32, device="cpu", threads=1,
    )  # fmt: skip
    run = train(tmp_path / "run", config=config, observer=Silent())
    captions = {figure.path.stem: figure.caption for figure in make_figures(run)}
    alone = posterior == "deterministic"
    assert ("vaekit fit-sampler" in captions["samples"]) is alone
    assert ("its code" in captions["reconstructions"]) is alone
    assert ("mean of its posterior" in captions["reconstructions"]) is not alone
    assert ("one image's code, " in captions["latents"]) is alone
    assert ("one image's posterior mean, of 3 latents" in captions["latents"]) is not alone


def test_captions_of_grids_of_codes(tmp_path: Path) -> None:
    """Here the prior alone reads the class, and a latent is a number of a code's vector."""
    config = configure(
        "vq", data="digits", conditioning="onehot", channels="4,8", num_codes=8, code_dim=3, epochs=3,
        train_limit=250, validation=51, batch_size=32, device="cpu", threads=1,
    )  # fmt: skip
    run = train(tmp_path / "run", config=config, observer=Silent())
    captions = {figure.path.stem: figure.caption for figure in make_figures(run)}
    numbers = 2 * 2 * 3
    assert f"one image's grid of codes, of {numbers} numbers" in captions["latents"]
    assert "The encoder never saw the classes" in captions["latents"]
    assert "images of a column share nothing" in captions["class-samples"]
    assert not any("posterior mean" in caption for caption in captions.values()), captions
