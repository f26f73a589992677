"""The models of the field as settings, and what goes with what."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import vaekit
from vaekit.errors import InputError
from vaekit.families import FAMILIES, OWN, fits, fitting_priors, latents
from vaekit.latents.table import POSTERIORS, PRIORS
from vaekit.objectives.table import OBJECTIVES
from vaekit.settings import configure
from vaekit.training.reporting import Silent
from vaekit.training.train import train

DOCS = Path(__file__).parents[1] / "docs"
TINY: dict[str, Any] = {
    "data": "digits", "train_limit": 64, "validation": 51, "batch_size": 32, "epochs": 1, "device": "cpu", "threads": 1,
}  # fmt: skip
DENSE: dict[str, Any] = {"network": "mlp", "hidden": "16", "latent_dim": 3}
OF_MODELS: dict[str, dict[str, Any]] = {
    "vq": {"channels": "4,6", "width": 8, "layers": 1},
    "hierarchical": {"latent_dim": 3, "widths": "4,6"},
}


def tiny(settings: dict[str, Any]) -> Any:
    small = {**TINY, **OF_MODELS.get(settings.get("model", "vae"), DENSE), **settings}
    if settings.get("prior") == "vamp":
        small["pseudo_inputs"] = 5
    return configure("mlp", **{key: value for key, value in small.items() if value != OWN})


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_trains_resumes_and_evaluates(name: str, tmp_path: Path) -> None:
    config = tiny(FAMILIES[name].settings)
    run = train(tmp_path / "run", config=config, observer=Silent())
    assert vaekit.resume(run.path, observer=Silent()).metrics() == run.metrics()
    found = vaekit.evaluate(run.path, "val", 3)
    bound = found["elbo_nats"]
    assert (bound is None) == (FAMILIES[name].settings.get("posterior") == "deterministic")
    if bound is not None:
        assert bound == pytest.approx(-(found["distortion_nats"] + found["rate_nats"]))
    model, _, _ = vaekit.load_model(run.path)
    label = torch.tensor(3) if model.conditional else None
    images = vaekit.sample(model, 4, label)
    assert images.shape == (4, 1, 8, 8)
    assert torch.isfinite(images).all()


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_what_is_said_to_go_together_is_what_training_takes(objective: str, tmp_path: Path) -> None:
    """Of each way to infer latents, the first prior that fits and the first that does not."""
    for name, _ in latents():
        priors, lacking = fits(objective, name)
        known = [OWN] if fitting_priors(name) == [OWN] else PRIORS
        others = [prior for prior in known if prior not in priors]
        assert bool(lacking) == (set(priors) != set(fitting_priors(name)))
        choices = {"posterior": name} if name in POSTERIORS else {"model": name}
        for prior, good in [*((p, True) for p in priors[:1]), *((p, False) for p in others[:1])]:
            settings = {**choices, "objective": objective, "prior": prior}
            out = tmp_path / f"{name}-{prior}"
            if good:
                train(out, config=tiny(settings), observer=Silent())
            else:
                with pytest.raises(InputError) as refusal:
                    train(out, config=tiny(settings), observer=Silent())
                assert str(refusal.value).startswith(("--objective", "--prior", "--posterior", "--code-prior"))
                assert not out.exists()


def test_the_page_is_what_the_tables_say() -> None:
    spec = importlib.util.spec_from_file_location("families_page", DOCS / "families.py")
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    text = page.PAGE.read_text()
    if os.environ.get("VAEKIT_GOLDEN") == "write":
        page.PAGE.write_text(page.written(text))
    assert page.written(text) == text, "python docs/families.py writes it anew"
