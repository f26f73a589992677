"""What the figures of an autoencoder say: its codes have no posterior, and need not follow the prior."""

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
