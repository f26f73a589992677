"""Every preset takes its first steps with kernels as it does without, on images that are large enough for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vaekit
from vaekit.settings import PRESETS
from vaekit.training.reporting import Silent

COLOUR = {"cifar": 32, "hierarchical-cifar": 32, "faces": 64, "folder": 64}  # sides of those that are made for it
HEAVY = {"hierarchical-cifar"}


@pytest.mark.parametrize("preset", [pytest.param(p, marks=pytest.mark.slow if p in HEAVY else ()) for p in PRESETS])
def test_the_first_steps(preset: str, tmp_path: Path, kernels_here: None) -> None:
    side, channels = COLOUR.get(preset, 28), 3 if preset in COLOUR else 1
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        images=rng.integers(0, 256, (48, side, side, channels), dtype=np.uint8),
        labels=rng.integers(0, 4, 48),
    )
    losses = []
    for kernels in ("torch", "native"):
        run = vaekit.train(
            tmp_path / kernels, preset, data=str(tmp_path / "data.npz"), validation=0, batch_size=16, epochs=1.5,
            precision="bfloat16", kernels=kernels, device="cpu", threads=1, observer=Silent(),
        )  # fmt: skip
        losses.append(run.metrics()[-1]["train"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
