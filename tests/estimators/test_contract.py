"""scikit-learn's own checks, and what its other parts do with the estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from vaekit import VAE, ConditionalVAE, DenoisingVAE

TINY: dict[str, Any] = {"latent_dim": 2, "epochs": 1, "importance_samples": 4, "settings": {"hidden": (16,)}}
DIGITS = load_digits()
IMAGES, FLAT = DIGITS.images[:400] / 16, DIGITS.data[:400] / 16


@pytest.mark.parametrize(
    "estimator",
    [VAE(**TINY), pytest.param(DenoisingVAE(**TINY), marks=pytest.mark.slow), ConditionalVAE(**TINY)],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.filterwarnings("ignore")
def test_every_check_of_scikit_learn_passes(estimator: Any) -> None:
    found = check_estimator(estimator, on_skip=None)  # raises at the first that fails; none is expected to
    skipped = [str(each["exception"]) for each in found if each["status"] == "skipped"]
    assert all("SCIPY_ARRAY_API" in reason for reason in skipped), "only what this process was not started for"
    names = [each["check_name"] for each in found]
    assert len(names) > 40
    # what knows outliers is checked as a detector of them, too
    assert ("check_outliers_train" in names) == hasattr(estimator, "predict")


def test_a_grid_is_searched_for_the_highest_likelihood() -> None:
    vae = VAE(
        preset="mlp",
        likelihood="optimal-gaussian",
        epochs=6,
        batch_size=10,
        image_shape=(8, 8),
        importance_samples=8,
        settings={"hidden": (32,)},
    )
    search = GridSearchCV(vae, {"latent_dim": [1, 4], "beta": [1.0, 50.0]}, cv=2).fit(FLAT[:300])
    assert search.best_params_ == {"latent_dim": 4, "beta": 1.0}
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    assert search.best_estimator_.score(FLAT) == pytest.approx(search.best_estimator_.score_samples(FLAT).mean())


def test_a_pipeline_of_flattened_images_classifies() -> None:
    network = {"channels": (4, 8), "dense": 16}
    vae = VAE(likelihood="optimal-gaussian", epochs=6, batch_size=10, image_shape=(8, 8), settings=network)
    chain = make_pipeline(vae, LogisticRegression(max_iter=500)).fit(FLAT, DIGITS.target[:400])
    assert chain.score(DIGITS.data[400:] / 16, DIGITS.target[400:]) > 0.3  # 0.1 by chance
    stacked = clone(vae).set_params(image_shape=None).fit(IMAGES)
    np.testing.assert_array_equal(stacked.transform(IMAGES), chain[0].transform(FLAT))
    assert stacked.sample(3).shape == (3, 8, 8)
    np.testing.assert_array_equal(stacked.sample(3).reshape(3, 64), chain[0].sample(3))


def test_frames_come_and_go() -> None:
    values = np.random.default_rng(0).normal(size=(60, 3))
    frame = pd.DataFrame(values, columns=["a", "b", "c"], index=range(100, 160))
    vae = VAE(**TINY).set_output(transform="pandas").fit(frame)
    codes = vae.transform(frame)
    assert list(codes.columns) == list(vae.get_feature_names_out()) == ["vae0", "vae1"]
    assert list(codes.index) == list(frame.index)
    assert list(vae.feature_names_in_) == ["a", "b", "c"]
    np.testing.assert_array_equal(codes, VAE(**TINY).fit(values).transform(values))
    with pytest.raises(ValueError, match="feature names should match"):
        vae.transform(frame[["b", "a", "c"]])
    assert vae.inverse_transform(codes).shape == (60, 3)


def test_a_clone_is_unfitted_and_fits_to_the_same_bits() -> None:
    vae = DenoisingVAE(**TINY, corruption="mask-pixels").fit(FLAT)
    copy = clone(vae)
    assert not hasattr(copy, "trained_")
    np.testing.assert_array_equal(copy.fit(FLAT).denoise(FLAT), vae.denoise(FLAT))
