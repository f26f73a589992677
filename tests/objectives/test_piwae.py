"""One bound for what generates, another for what infers, in one step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import vaekit
from helpers_run import interrupted_at
from vaekit.errors import InputError, RunError
from vaekit.models.draw import Draw
from vaekit.models.vae import VAEModel
from vaekit.objectives import bounds
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.miwae import Miwae
from vaekit.objectives.piwae import Piwae
from vaekit.objectives.table import INFERENCE, MODEL
from vaekit.settings import Config, Training, configure
from vaekit.training.optimization import Optimizers
from vaekit.training.reporting import Silent
from vaekit.training.train import train
from weighted_cases import conditional_draw, conditional_model, gradients, linear_draw, losses_of

CPU = torch.device("cpu")


def stepped(model: VAEModel, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradients with which the optimizers would step."""
    Optimizers({MODEL: model}, Training(), CPU, None, model.inference_parameters()).backward(losses)
    return {name: weight.grad for name, weight in model.named_parameters()}


def pooled(draw: Draw) -> Tensor:
    return -bounds.importance_weighted(draw.log_w, (0, 1)).mean()


def test_it_asks_for_its_samples_and_a_model_of_two_parts() -> None:
    assert Piwae(3, 7).sample_shape == (3, 7)
    assert Piwae().needs == {"log_w", "inference"}
    assert Piwae(gradient="dreg").needs == {"log_w", "inference", "path", "vectors"}


def test_its_losses_are_those_two_bounds() -> None:
    _, draw = linear_draw((3, 4), 0.6, 0.5)
    losses, _ = losses_of(Piwae(3, 4), draw)
    assert set(losses) == {MODEL, INFERENCE}
    torch.testing.assert_close(losses[MODEL], pooled(draw))
    torch.testing.assert_close(losses[INFERENCE], losses_of(Miwae(3, 4), draw).players[MODEL])
    assert losses[MODEL] < losses[INFERENCE] - 0.1


@pytest.mark.parametrize("gradient", ["standard", "dreg"])
def test_each_part_has_the_gradient_of_its_own_bound(gradient: str) -> None:
    """Encoder and posterior that of MIWAE, decoder and the labels' codes that of IWAE over all samples, exactly."""
    model = conditional_model()
    draw = conditional_draw(model, (3, 4))
    infers = gradients(model, losses_of(Miwae(3, 4, gradient), draw).players[MODEL])  # type: ignore[arg-type]
    generates = gradients(model, pooled(draw))
    found = stepped(model, losses_of(Piwae(3, 4, gradient), draw).players)  # type: ignore[arg-type]
    moved_by = {name: infers if name.split(".")[0] in ("encoder", "posterior") else generates for name in found}
    assert {name.split(".")[0] for name in found} == {"encoder", "posterior", "decoder", "conditioning"}
    for name, gradient_of in moved_by.items():
        assert torch.equal(found[name].double(), gradient_of[name]), name
        assert not torch.allclose(infers[name], generates[name], rtol=1e-3), name


def test_over_all_samples_the_decoder_learns_as_under_iwae() -> None:
    """The pooled bound of M * K samples is that of IWAE with so many, on the same noise."""
    model = conditional_model()
    expected = gradients(model, losses_of(Iwae(12), conditional_draw(model, (12,))).players[MODEL])
    found = stepped(model, losses_of(Piwae(3, 4), conditional_draw(model, (3, 4))).players)
    for name, gradient in found.items():
        if name.startswith("decoder"):
            torch.testing.assert_close(gradient.double(), expected[name], rtol=1e-4, atol=1e-5)


def test_one_bound_is_iwae_for_all() -> None:
    model = conditional_model()
    draw = conditional_draw(model, (1, 5))
    found = stepped(model, losses_of(Piwae(1, 5), draw).players)
    for name, expected in gradients(model, pooled(draw)).items():
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-4, atol=1e-5)


def small(**more: object) -> Config:
    common = {"data": "digits", "train_limit": 250, "validation": 51, "batch_size": 32, "device": "cpu", "threads": 1}
    own = {"objective": "piwae", "num_bounds": 2, "num_samples": 3, "hidden": "16", "latent_dim": 3, "epochs": 2}
    return configure("mlp", **{**common, **own, **more})


def test_it_trains_and_logs_both_losses_and_the_pooled_bound(tmp_path: Path) -> None:
    run = train(tmp_path / "run", config=small(epochs=6), observer=Silent())
    records = run.metrics()
    for part in (records[0]["train"], records[-1]["val"]):
        assert part["loss"] == pytest.approx(-part["iw_elbo_nats"], rel=1e-5)
        assert part["loss"] < part["loss_inference"] < -part["elbo_nats"] + 0.5
    assert records[-1]["val"]["iw_elbo_nats"] > records[0]["val"]["iw_elbo_nats"] + 1.0
    best = max(records, key=lambda record: record["val"]["iw_elbo_nats"])
    record = vaekit.evaluate(run.path, split="val", num_importance_samples=20)
    assert record["nll_nats"] < -best["val"]["iw_elbo_nats"]


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", config=small(), observer=Silent())
    with pytest.raises(RunError, match="stopped at step 5"), interrupted_at(5):
        train(tmp_path / "parts", config=small(), observer=Silent())
    vaekit.resume(tmp_path / "parts", observer=Silent())
    assert (tmp_path / "parts" / "model.safetensors").read_bytes() == whole.model.read_bytes()


def test_a_deterministic_code_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^--objective piwae: needs importance weights, which this model does not have"
    ):
        train(tmp_path / "run", config=small(posterior="deterministic"), observer=Silent())
