"""What goes together: each combination that cannot be right is refused, each that misleads has its sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaekit
from vaekit.data.binarization import BINARIZATIONS
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.fit import check_fit
from vaekit.probability.likelihoods import LIKELIHOODS
from vaekit.settings import PRESETS, configure
from vaekit.training.reporting import Silent

GREY = DataInfo("own", (1, 28, 28))
COLOUR = DataInfo("own", (3, 32, 32))
BINARY = DataInfo("own", (1, 28, 28), binary=True)
FRACTIONS = DataInfo("own", (1, 28, 28), whole=False)


def found(info: DataInfo, **given: Any) -> list[str]:
    return check_fit(configure("conv", **given), info)


REFUSED = [
    (FRACTIONS, {"likelihood": "discretized-logistic"}, "'own' has fractional pixels"),
    (BINARY, {"likelihood": "discretized-logistic"}, "choose bernoulli"),
    (GREY, {"likelihood": "discretized-logistic", "binarization": "dynamic"}, "choose bernoulli"),
    (GREY, {"likelihood": "discretized-logistic", "binarization": "dequantize"}, "choose --binarization none"),
    (FRACTIONS, {"likelihood": "logistic-mixture"}, "--likelihood logistic-mixture: 'own' has fractional pixels"),
    (BINARY, {"likelihood": "logistic-mixture"}, "--likelihood logistic-mixture: the targets are only black and white"),
    (
        GREY,
        {"likelihood": "logistic-mixture", "binarization": "dequantize"},
        "logistic-mixture scores whole grey levels",
    ),
    (FRACTIONS, {"likelihood": "gaussian", "binarization": "dequantize"}, "'own' has fractional pixels"),
    (BINARY, {"likelihood": "gaussian", "binarization": "dequantize"}, "--likelihood bernoulli"),
    (BINARY, {"likelihood": "continuous-bernoulli"}, "choose bernoulli"),
    (GREY, {"likelihood": "continuous-bernoulli", "binarization": "threshold"}, "choose bernoulli"),
]
MISLEADING = [
    (COLOUR, {"likelihood": "bernoulli"}, "--likelihood bernoulli: on colour", "discretized-logistic is a prob"),
    (replace(COLOUR, whole=False), {"likelihood": "bernoulli"}, "--likelihood bernoulli: on colour", "continuous-b"),
    (GREY, {"likelihood": "bernoulli", "binarization": "dequantize"}, "on dequantized pixels", "continuous-bern"),
    (GREY, {"beta_schedule": "linear", "epochs": 4.0}, "--beta-warmup-epochs 5: beta still grows", "--epochs 4"),
    (GREY, {"objective": "capacity", "epochs": 4.0}, "--capacity-epochs 10: capacity still grows", "--epochs 4"),
    (GREY, {"objective": "balanced", "epochs": 1.5}, "--even-epochs 2: evenness and beta still grow", "--epochs 1.5"),
    (GREY, {"likelihood": "continuous-bernoulli"}, "black or white throughout", "--binarization dequantize"),
    (BINARY, {"likelihood": "gaussian"}, "--likelihood gaussian: the targets are only black", "--likelihood bernoulli"),
    (BINARY, {"likelihood": "optimal-gaussian"}, "no upper limit", "--likelihood bernoulli"),
    (GREY, {"likelihood": "laplace", "binarization": "dynamic"}, "--likelihood laplace", "--likelihood bernoulli"),
    (
        GREY,
        {"likelihood": "gaussian", "sigma": 0.001, "learn_sigma": False},
        "--sigma 0.001: is fixed",
        "--learn-sigma",
    ),
    (GREY, {"likelihood": "gaussian", "sigma": 1.0, "learn_sigma": False}, "--sigma 1: is fixed", "--learn-sigma true"),
    (
        GREY,
        {"likelihood": "laplace", "laplace_scale": 0.003, "learn_laplace_scale": False},
        "--laplace-scale 0.003: is fixed below",
        "--learn-laplace-scale true",
    ),
]


@pytest.mark.parametrize(("info", "given", "mend"), REFUSED, ids=str)
def test_what_cannot_be_right_is_refused(info: DataInfo, given: dict[str, Any], mend: str) -> None:
    with pytest.raises(InputError) as error:
        found(info, **given)
    sentence = str(error.value)
    assert mend in sentence
    assert sentence.startswith("--")
    assert "\n" not in sentence


@pytest.mark.parametrize(("info", "given", "what", "better"), MISLEADING, ids=str)
def test_what_misleads_has_one_sentence(info: DataInfo, given: dict[str, Any], what: str, better: str) -> None:
    (sentence,) = found(info, **given)
    assert what in sentence
    assert better in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("cycle", [3.0, 5.0, 7.0])
def test_a_schedule_that_comes_again_is_no_schedule_that_was_cut_off(cycle: float) -> None:
    for epochs in (1.0, 5.0, 21.0):
        assert found(GREY, beta_schedule="cyclical", beta_cycle_epochs=cycle, epochs=epochs) == []


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_fit_what_they_are_for(name: str) -> None:
    """Grey images, and black and white ones under a Bernoulli; colour under anything else."""
    config = PRESETS[name][1]
    bernoulli = LIKELIHOODS.name_of(config.model.likelihood) == "bernoulli"
    for info in (GREY, BINARY if bernoulli else COLOUR):
        assert check_fit(config, replace(info, class_names=("a", "b"))) == []


def test_what_fits_has_no_word() -> None:
    for info in (GREY, COLOUR, FRACTIONS):
        for likelihood in ("gaussian", "laplace", "optimal-gaussian"):
            assert found(info, likelihood=likelihood) == []
    for info in (GREY, COLOUR):
        assert found(info, likelihood="discretized-logistic") == []
        assert found(info, likelihood="continuous-bernoulli", binarization="dequantize") == []
    assert found(FRACTIONS, likelihood="continuous-bernoulli") == []
    assert found(COLOUR, likelihood="bernoulli", binarization="dynamic") == []
    assert found(GREY, likelihood="gaussian", sigma=0.001) == []  # learned


@pytest.mark.parametrize("likelihood", list(LIKELIHOODS))
@pytest.mark.parametrize("binarization", list(BINARIZATIONS))
def test_every_measure_is_what_the_targets_make_it(likelihood: str, binarization: str) -> None:
    """What passes without a word is a probability of the targets, a density of continuous ones, or the usual surrogate."""
    config = configure("conv", likelihood=likelihood, binarization=binarization)
    try:
        silent = not check_fit(config, GREY)
    except InputError:
        return
    binary = config.data.is_binary(GREY)
    measure = config.model.likelihood.measure(binary)
    if silent and binary:
        assert measure == "discrete"
    if silent and binarization == "dequantize":
        assert measure == "density"


def test_training_says_it_once_and_refuses_before_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given: dict[str, Any] = {
        "data": str(tmp_path / "a.npy"),
        "epochs": 1,
        "batch_size": 10,
        "hidden": "8",
        "threads": 1,
    }
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((60, 4, 4, 3)))
    vaekit.train(tmp_path / "run", "mlp", observer=Silent(), **given)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "vaekit: note: " + check_fit(configure("mlp"), DataInfo("a", (3, 4, 4), whole=False))[0]
    ]
    with pytest.raises(InputError, match="fractional pixels"):
        vaekit.train(tmp_path / "other", "mlp", observer=Silent(), likelihood="discretized-logistic", **given)
    assert not (tmp_path / "other").exists()
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), dtype=np.uint8))
    run = vaekit.train(tmp_path / "other", "mlp", observer=Silent(), likelihood="discretized-logistic", **given)
    assert capsys.readouterr().err == ""
    assert run.info.whole
