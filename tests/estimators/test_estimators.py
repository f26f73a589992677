"""What the estimators promise of images: shapes, scores, files, passes over new data, conditions."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

import vaekit
from helpers_run import interrupted_at
from vaekit import VAE, ConditionalVAE, DenoisingVAE
from vaekit.errors import InputError

DIGITS = load_digits()
IMAGES, LABELS = DIGITS.images / 16, DIGITS.target
TINY: dict[str, Any] = {"preset": "mlp", "latent_dim": 3, "importance_samples": 4, "settings": {"hidden": (32,)}}


@pytest.fixture(scope="module")
def fitted() -> VAE:
    return VAE(**TINY, epochs=2).fit(IMAGES)


def test_scores_and_codes_of_a_sample_depend_on_no_other(fitted: VAE) -> None:
    order = np.random.default_rng(0).permutation(300)
    scores, codes = fitted.score_samples(IMAGES[:300]), fitted.transform(IMAGES[:300])
    np.testing.assert_array_equal(fitted.score_samples(IMAGES[order]), scores[order])
    np.testing.assert_array_equal(fitted.transform(IMAGES[order[:7]]), codes[order[:7]])
    twice = fitted.score_samples(np.concatenate([IMAGES[:1], IMAGES[:1]]))
    assert twice[0] == twice[1] == scores[0]


def test_scores_are_those_of_evaluate(fitted: VAE) -> None:
    """The same bound, but for the noise: their means over many images differ by its error alone."""
    fitted = copy.deepcopy(fitted).set_params(importance_samples=50)
    images = fitted.layout_.images(IMAGES[:400], vaekit.estimators.layout.Scaling())
    from vaekit.evaluation.likelihood import estimate

    found = estimate(fitted.trained_.model, fitted.trained_.config.data, images, 50)
    assert found.log_p is not None
    assert fitted.score_samples(IMAGES[:400]).mean() == pytest.approx(float(found.log_p.mean()), abs=0.02)


def test_whole_numbers_mean_the_same_in_any_company() -> None:
    grey = np.rint(IMAGES * 255).astype(np.uint8)
    vae = VAE(**TINY, epochs=1).fit(grey)
    dark = np.zeros((1, 8, 8), np.uint8)
    dark[0, 0, 0] = 1  # alone it might pass for black and white
    np.testing.assert_array_equal(vae.transform(dark), vae.transform(np.concatenate([dark, grey[:5]]))[:1])
    np.testing.assert_array_equal(vae.transform(grey), vae.transform(grey * np.float32(1 / 255)))


def test_outliers_are_the_part_asked_for_and_noise(fitted: VAE) -> None:
    judged = np.arange(1000) * len(IMAGES) // 1000  # spread over all that were fitted
    assert (fitted.predict(IMAGES[judged]) == -1).mean() == pytest.approx(0.05, abs=1e-3)
    noise = np.random.default_rng(0).random((50, 8, 8))
    assert (fitted.predict(noise) == -1).all()
    np.testing.assert_array_equal(fitted.decision_function(noise), fitted.score_samples(noise) - fitted.offset_)


@pytest.mark.parametrize("kind", [VAE, DenoisingVAE, ConditionalVAE])
def test_a_file_keeps_every_bit(kind: Any, tmp_path: Path) -> None:
    vae = kind(**TINY, epochs=1).fit(IMAGES[:200], np.array(["even", "odd"])[LABELS[:200] % 2])
    vae.save(tmp_path / "model.safetensors")
    back = kind.load(tmp_path / "model.safetensors")
    for again in (back, pickle.loads(pickle.dumps(vae)), copy.deepcopy(vae)):
        np.testing.assert_array_equal(again.transform(IMAGES[:50]), vae.transform(IMAGES[:50]))
        np.testing.assert_array_equal(again.score_samples(IMAGES[:50]), vae.score_samples(IMAGES[:50]))
    learned = {name for name in vars(vae) if name.endswith("_")}
    assert learned <= set(vars(back))
    assert back.history_ == vae.history_
    assert back.get_params()["settings"] == {"hidden": [32]}
    assert vaekit.load(tmp_path / "model.safetensors").latent_dim == 3
    if kind is ConditionalVAE:
        np.testing.assert_array_equal(back.sample(["odd"]), vae.sample(["odd"]))
    other = VAE if kind is not VAE else DenoisingVAE
    with pytest.raises(InputError, match=f"is a {kind.__name__} and not a {other.__name__}; use {kind.__name__}.load"):
        other.load(tmp_path / "model.safetensors")


def test_a_model_of_a_run_is_no_estimator(trained_run: vaekit.runs.Run) -> None:
    with pytest.raises(InputError, match=r"is a model but no estimator; use vaekit\.load"):
        VAE.load(trained_run.model)


def test_passes_over_new_data_go_on_with_the_moments(tmp_path: Path) -> None:
    straight = VAE(**TINY).partial_fit(IMAGES[:300])
    before = straight.score(IMAGES[600:])
    carried = pickle.loads(pickle.dumps(straight))
    straight.save(tmp_path / "model.safetensors")
    loaded = VAE.load(tmp_path / "model.safetensors")
    for vae in (straight, carried, loaded):
        for start in (0, 300, 0):
            vae.partial_fit(IMAGES[start : start + 300])
    np.testing.assert_array_equal(straight.transform(IMAGES), carried.transform(IMAGES))
    assert not np.array_equal(straight.transform(IMAGES), loaded.transform(IMAGES)), "Adam began anew"
    assert straight.n_partial_fits_ == loaded.n_partial_fits_ == 4
    assert min(straight.score(IMAGES[600:]), loaded.score(IMAGES[600:])) > before + 1
    assert straight.trained_.config.training.epochs == 10, "the file tells of the settings that were given"
    fitted = VAE(**TINY, epochs=2).fit(IMAGES[:300])
    before = fitted.score(IMAGES[600:])
    assert fitted.partial_fit(IMAGES[300:600]).score(IMAGES[600:]) > before


def test_samples_of_a_label_look_like_it() -> None:
    names = np.array(["dark", "light"])
    bright = np.where(np.arange(600) % 2 == 0, 0.1, 0.9)
    images = np.clip(bright[:, None, None] + 0.05 * np.random.default_rng(0).normal(size=(600, 4, 4)), 0, 1)
    labels = names[np.arange(600) % 2]
    vae = ConditionalVAE(**TINY, epochs=15, batch_size=50).fit(images, pd.Series(labels))
    assert list(vae.classes_) == ["dark", "light"]
    drawn = vae.sample(["light", "dark", "light"]).mean((1, 2))
    np.testing.assert_allclose(drawn, [0.9, 0.1, 0.9], atol=0.1)
    assert vae.score(images, labels) > vae.score(images) > vae.score(images, labels[::-1])
    assert vae.inverse_transform(vae.transform(images[:2], labels[:2]), labels[:2]).shape == (2, 4, 4)
    with pytest.raises(InputError, match="y: label 'bright' is unknown; did you mean 'light'"):
        vae.sample(["bright"])


def test_attributes_are_a_matrix() -> None:
    level = np.random.default_rng(0).uniform(size=(600, 1))
    images = np.repeat(level, 16, 1).reshape(600, 4, 4)
    vae = ConditionalVAE(**TINY, epochs=8, batch_size=20).fit(images, pd.DataFrame(level, columns=["grey"]))
    assert vae.trained_.info.attribute_names == ("grey",)
    np.testing.assert_allclose(vae.sample([[0.2], [0.8]]).mean((1, 2)), [0.2, 0.8], atol=0.1)
    with pytest.raises(InputError, match="attributes"):
        vae.transform(images, np.zeros((600, 2)))


def test_without_label_dropout_labels_must_come() -> None:
    vae = ConditionalVAE(**TINY, epochs=1, label_dropout=0).fit(IMAGES[:100], LABELS[:100])
    assert vae.transform(IMAGES[:3], LABELS[:3]).shape == (3, 3)
    with pytest.raises(InputError, match="the model is conditional"):
        vae.transform(IMAGES[:3])


def test_restored_images_are_nearer_to_the_clean_ones() -> None:
    vae = DenoisingVAE(
        preset="mlp", latent_dim=16, epochs=10, batch_size=16, beta=0.2, settings={"noise_sigma": 0.3, "hidden": (64,)}
    ).fit(IMAGES[:1500])
    clean = IMAGES[1500:]
    noisy = np.clip(clean + 0.3 * np.random.default_rng(0).normal(size=clean.shape), 0, 1)
    assert np.square(vae.denoise(noisy) - clean).mean() < 0.7 * np.square(noisy - clean).mean()


def test_an_interrupt_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with interrupted_at(2), pytest.raises(KeyboardInterrupt):
        VAE(**TINY, epochs=1).fit(IMAGES)


def test_the_process_keeps_its_threads_and_its_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(2)
    VAE(**TINY, epochs=1).fit(IMAGES[:100])
    assert torch.get_num_threads() == 2
    assert capsys.readouterr().err == ""
    VAE(**TINY, epochs=1, verbose=True).fit(IMAGES[:100])
    assert capsys.readouterr().err.startswith("epoch   1/1")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"settings": {"beta": 2.0}}, "settings: 'beta' has a parameter of its own; give beta="),
        ({"settings": {"seed": 2}}, "settings: 'seed' has a parameter of its own; give random_state="),
        ({"settings": {"image_size": 2}}, "settings: 'image_size' is for data and runs in files"),
        ({"settings": {"hiden": 2}}, "did you mean '--hidden'"),
        ({"settings": "hidden=3"}, "settings: 'hidden=3' is not a dictionary"),
        ({"latent_dim": 0}, "--latent-dim: 0 is out of range"),
        ({"batch_size": 500}, "--batch-size: 500 is more than the 90 training images"),
        ({"contamination": 0.7}, "contamination: 0.7 is not a number above 0 and at most 0.5"),
        ({"importance_samples": 0}, "importance_samples: 0 is not a whole number from 1 up"),
        ({"image_shape": (8, 8)}, "image_shape: .* is for flattened images"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VAE(**{**TINY, **parameters}).fit(IMAGES[:100])


def test_other_refusals() -> None:
    with pytest.raises(InputError, match=r"makes 63 pixels and X has 64 columns"):
        VAE(image_shape=(9, 7)).fit(DIGITS.data / 16)
    with pytest.raises(InputError, match=r"values from 0 to 16 are out of range; scale them to 0 to 1"):
        VAE(image_shape=(8, 8)).fit(DIGITS.data)
    with pytest.raises(InputError, match=r"choose network='mlp'"):
        VAE(preset="conv").fit(DIGITS.data)
    with pytest.raises(InputError, match="none leaves nothing to restore"):
        DenoisingVAE(corruption="none").fit(IMAGES)
    coder = VAE(
        **{**TINY, "settings": {"hidden": (8,), "posterior": "deterministic"}}, objective="autoencoder", epochs=1
    )
    assert coder.fit(IMAGES[:100]).transform(IMAGES[:2]).shape == (2, 3)
    with pytest.raises(InputError, match=r"no bound on log p\(x\)"):
        coder.predict(IMAGES[:2])
