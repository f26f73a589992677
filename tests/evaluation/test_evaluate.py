"""The record of an evaluation."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from vaekit.data.binarization import Dequantize
from vaekit.data.images import Splits
from vaekit.data.splits import load_splits
from vaekit.errors import InputError
from vaekit.evaluation.evaluate import evaluate
from vaekit.evaluation.likelihood import estimate
from vaekit.noise import Noise
from vaekit.probability.logistic import DiscretizedLogisticImage
from vaekit.runs import Run
from vaekit.settings import configure
from vaekit.storage import load_model, save_model
from vaekit.training.train import seeded_model

PROMISED = {
    "split", "num_images", "likelihood", "measure", "elbo_nats", "rate_nats", "distortion_nats", "nll_nats",
    "num_importance_samples", "effective_sample_size", "standard_error_nats", "bits_per_dim", "active_units",
    "latent_dim",
}  # fmt: skip


@pytest.fixture(scope="module")
def record(trained_run: Run) -> dict[str, Any]:
    return evaluate(trained_run.path, num_importance_samples=20)


def untrained(folder: Path, digits: Splits, **given: Any) -> Path:
    """A model file of a configuration on the digits."""
    config = configure("mlp", data="digits", latent_dim=3, hidden=(16,), **given)
    model = seeded_model(config, digits.info)
    save_model(folder / "m.safetensors", model, config, digits.info, model.state_dict())
    return folder / "m.safetensors"


def test_record_holds_what_is_promised_and_is_json(record: dict[str, Any]) -> None:
    assert set(record) >= PROMISED
    json.dumps(record, allow_nan=False)
    assert record["split"] == "test"
    assert record["num_images"] == 179
    assert record["num_importance_samples"] == 20
    assert record["likelihood"] == "bernoulli"
    assert record["latent_dim"] == 4


def test_quantities_hang_together(record: dict[str, Any]) -> None:
    assert record["elbo_nats"] == -(record["distortion_nats"] + record["rate_nats"])
    assert -record["nll_nats"] > record["elbo_nats"]
    assert 1 < record["effective_sample_size"] < 20
    assert record["rate_nats"] > 0
    assert 0 <= record["active_units"] <= 4


def test_numbers_are_means_over_all_images(trained_run: Run, record: dict[str, Any], digits: Splits) -> None:
    model, config, _ = load_model(trained_run.path)
    found = estimate(model, config.data, digits.test, 20)
    assert record["nll_nats"] == pytest.approx(-found.log_p.mean().item(), rel=1e-6)
    assert record["distortion_nats"] == pytest.approx(found.distortion.mean().item(), rel=1e-6)
    expected = found.log_p.std().item() / math.sqrt(179)
    assert record["standard_error_nats"] == pytest.approx(expected, rel=1e-5)


def test_grey_images_are_a_surrogate_without_bits(record: dict[str, Any]) -> None:
    assert record["measure"] == "surrogate"
    assert record["bits_per_dim"] is None


def test_binary_images_are_a_probability_with_bits(tmp_path: Path, digits: Splits) -> None:
    found = evaluate(untrained(tmp_path, digits, binarization="dynamic"), num_importance_samples=5)
    assert found["measure"] == "discrete"
    assert found["bits_per_dim"] == pytest.approx(found["nll_nats"] / 64 / math.log(2))
    assert 0.5 < found["bits_per_dim"] < 2  # an untrained decoder says a half of every pixel: about one bit


def test_gaussian_is_a_density_and_can_be_negative(tmp_path: Path, digits: Splits) -> None:
    path = untrained(tmp_path, digits, likelihood="gaussian", sigma=0.4)
    found = evaluate(path, num_importance_samples=5)
    assert found["measure"] == "density"
    assert found["bits_per_dim"] is None


def test_dequantized_densities_and_levels_have_bits(tmp_path: Path, digits: Splits) -> None:
    """A density over (k + u) / 256 is 256 times the probability of level k."""
    path = untrained(tmp_path, digits, likelihood="gaussian", sigma=0.4, binarization="dequantize")
    found = evaluate(path, num_importance_samples=5)
    assert found["measure"] == "density"
    assert found["bits_per_dim"] == pytest.approx(found["nll_nats"] / 64 / math.log(2) + 8)
    levels = evaluate(untrained(tmp_path, digits, likelihood="discretized-logistic"), num_importance_samples=5)
    assert levels["measure"] == "discrete"
    assert levels["bits_per_dim"] == pytest.approx(levels["nll_nats"] / 64 / math.log(2))
    assert 7 < levels["bits_per_dim"] < 16  # an untrained decoder knows nothing of 256 levels
    both = evaluate(untrained(tmp_path, digits, binarization="dequantize"), num_importance_samples=2)
    assert both["measure"] == "surrogate"
    assert both["bits_per_dim"] is None


def test_dequantized_bits_bound_those_of_the_levels() -> None:
    """Jensen: with the same logistic, the bits of dequantized pixels are at least those of the levels, and near."""
    loc, scale = torch.linspace(0.1, 0.9, 64).view(1, 1, 8, 8), torch.tensor(0.02)
    levels = torch.randint(1, 255, (400, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 255.0
    discrete = DiscretizedLogisticImage(loc.expand(400, 1, 8, 8), scale.log()).log_prob(levels)
    pixels = Dequantize()(levels, Noise.from_seed(0, 400)).double()
    # the same logistic on the scale of dequantized pixels, where level k / 255 is centred at (k + 1/2) / 256
    wide = (255 * loc.double() + 0.5) / 256, scale.double() * 255 / 256
    density = stats.logistic(*(part.numpy() for part in wide)).logpdf(pixels.numpy()).sum((1, 2, 3))
    bits = [-log_p.mean() / 64 / math.log(2) for log_p in (discrete.double().numpy(), density)]
    assert bits[0] < bits[1] + 8 < bits[0] + 0.005  # the ends, which hold a tail besides, are left out


def test_a_blurred_input_is_measured_against_the_clean_image(tmp_path: Path, digits: Splits) -> None:
    found = evaluate(untrained(tmp_path, digits, corruption="blur"), num_importance_samples=2)
    assert found["input_psnr_db"] > found["psnr_db"]


def test_twice_is_the_same_and_memory_does_not_matter(trained_run: Run, record: dict[str, Any]) -> None:
    again = evaluate(trained_run.path, num_importance_samples=20)
    assert again == record
    small = evaluate(trained_run.path, num_importance_samples=20, decodes_at_once=7)
    for name, value in record.items():
        assert small[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), name
    other = evaluate(trained_run.path, num_importance_samples=20, seed=1)
    assert other["nll_nats"] != record["nll_nats"]
    assert other["nll_nats"] == pytest.approx(record["nll_nats"], abs=0.5)


def test_splits_are_those_named(trained_run: Run) -> None:
    assert evaluate(trained_run.path, "val", 1)["num_images"] == 161
    assert evaluate(trained_run.path, "train", 1, limit=10)["num_images"] == 10
    with pytest.raises(InputError, match=r"^split 'tset' is unknown; did you mean 'test'\?"):
        evaluate(trained_run.path, "tset", 1)


def test_one_image_has_no_standard_error(trained_run: Run) -> None:
    found = evaluate(trained_run.path, num_importance_samples=2, limit=1)
    assert found["standard_error_nats"] is None
    assert found["active_units"] is None
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("name", ["num_importance_samples", "limit", "decodes_at_once"])
@pytest.mark.parametrize("value", [0, -3])
def test_counts_below_one_are_refused(trained_run: Run, name: str, value: int) -> None:
    with pytest.raises(InputError, match=rf"{value} is out of range; it must be at least 1"):
        evaluate(trained_run.path, **{"num_importance_samples": 2, name: value})


def test_a_missing_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        evaluate(tmp_path / "none")
    assert "none" in str(error.value)
    assert "\n" not in str(error.value)


def test_data_that_changed_are_refused(tmp_path: Path) -> None:
    """Another shape cannot be read; another number of images moves images between the splits."""
    file = tmp_path / "faces.npy"
    random = np.random.default_rng(0)
    np.save(file, random.random((60, 8, 8)))
    config = configure("mlp", data=str(file), latent_dim=3, hidden=(16,))
    info = load_splits(str(file), None).info
    model = seeded_model(config, info)
    save_model(tmp_path / "m.safetensors", model, config, info, model.state_dict())
    assert evaluate(tmp_path / "m.safetensors", num_importance_samples=1)["num_images"] == 6
    for shape in ((60, 6, 6), (70, 8, 8)):
        np.save(file, random.random(shape))
        with pytest.raises(InputError, match=r"^data .*faces.npy' changed since the model was trained"):
            evaluate(tmp_path / "m.safetensors", num_importance_samples=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(trained_run: Run) -> None:
    with pytest.raises(InputError, match=r"^--device cuda: this machine has no usable CUDA device"):
        evaluate(trained_run.path, device="cuda")


def test_evaluation_leaves_the_run_and_torchs_generator_alone(trained_run: Run) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in trained_run.path.iterdir()}
    state = torch.get_rng_state()
    evaluate(trained_run.path, num_importance_samples=1, limit=5)
    assert {p.name: p.stat().st_mtime_ns for p in trained_run.path.iterdir()} == before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_description_of_the_data_travels_with_the_weights(trained_run: Run, digits: Splits) -> None:
    assert asdict(load_model(trained_run.path)[2]) == asdict(digits.info)
