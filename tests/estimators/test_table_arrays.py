"""Tables: densities in their own units, against closed forms."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone

from oracles import LinearGaussian
from vaekit import VAE, DenoisingVAE

TINY: dict[str, Any] = {"latent_dim": 2, "epochs": 1, "importance_samples": 8, "settings": {"hidden": (16,)}}
UNITS, CENTRE = np.array([1.0, 100.0, 0.01, 5.0, 1.0]), np.array([0.0, 300.0, -2.0, 7.0, 1.0])


def correlated(count: int, seed: int) -> np.ndarray:
    """Rows of a probabilistic PCA, each column in a unit of its own."""
    rng = np.random.default_rng(seed)
    loadings = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]])
    return (rng.normal(size=(count, 2)) @ loadings.T + 0.5 * rng.normal(size=(count, 5))) * UNITS + CENTRE


def test_scores_are_log_densities_in_the_units_of_the_table() -> None:
    """With an exact model of the scaled columns in its place, the score is the normal density of the table itself."""
    table = correlated(500, 0)
    vae = VAE(**TINY).fit(table)
    mean, deviation = table.mean(0), table.std(0)
    exact = LinearGaussian.fit(((table - mean) / deviation)[:, None, None, :], 2)
    vae.trained_ = dataclasses.replace(vae.trained_, model=exact.model().eval())
    covariance = exact.loadings @ exact.loadings.T + exact.sigma**2 * np.eye(5)
    law = multivariate_normal(mean + deviation * exact.mean, np.outer(deviation, deviation) * covariance)
    np.testing.assert_allclose(vae.score_samples(table), law.logpdf(table), atol=1e-3)
    drawn = vae.sample(20_000)
    np.testing.assert_allclose(drawn.mean(0), law.mean, atol=0.03 * deviation.max())
    np.testing.assert_allclose(np.cov((drawn / deviation).T), covariance, atol=0.05)


def test_the_unit_moves_scores_by_its_logarithm_and_nothing_else() -> None:
    table = correlated(300, 0)
    one, other = VAE(**TINY).fit(table), VAE(**TINY).fit(table * 8.0 - 4.0)
    np.testing.assert_allclose(
        other.score_samples(table * 8.0 - 4.0), one.score_samples(table) - 5 * np.log(8.0), atol=1e-4
    )
    np.testing.assert_allclose(other.transform(table * 8.0 - 4.0), one.transform(table), atol=1e-5)
    np.testing.assert_allclose(
        other.inverse_transform(np.zeros((1, 2))), one.inverse_transform(np.zeros((1, 2))) * 8.0 - 4.0, rtol=1e-4
    )


def test_the_mean_score_approaches_minus_the_entropy_from_below() -> None:
    """E log p(x) of a model is the entropy's negative less a KL divergence: near 0 when it has learned, never below."""
    covariance = np.full((4, 4), 1.0) + 0.25 * np.eye(4)
    rng = np.random.default_rng(0)
    train, test = (rng.multivariate_normal(np.zeros(4), covariance, 3000) * 10.0 for _ in range(2))
    vae = VAE(latent_dim=1, epochs=30, learning_rate=4e-3, settings={"hidden": (32,)}).fit(train)
    lacking = multivariate_normal(np.zeros(4), 100.0 * covariance).logpdf(test) - vae.score_samples(test)
    error = lacking.std() / np.sqrt(len(test))
    assert -3 * error < lacking.mean() < 0.1
    assert vae.score(test) < VAE(latent_dim=1, epochs=1, settings={"hidden": (32,)}).fit(train).score(test) + 2.0


def test_likelihoods_follow_the_values_or_the_wish() -> None:
    rng = np.random.default_rng(0)
    binary = (rng.random((200, 12)) < np.linspace(0.1, 0.9, 12)).astype(int)
    vae = VAE(**{**TINY, "epochs": 10}, batch_size=10).fit(binary)
    assert type(vae.trained_.config.model.likelihood).__name__ == "Bernoulli"
    assert (vae.score_samples(binary) < 0).all(), "probabilities"
    assert set(np.unique(vae.sample(50))) == {0.0, 1.0}
    np.testing.assert_allclose(vae.inverse_transform(np.zeros((1, 2)))[0], np.linspace(0.1, 0.9, 12), atol=0.15)
    assert vae.transform(np.zeros((2, 12))).shape == (2, 2)
    asked = clone(vae).set_params(likelihood="laplace", epochs=1).fit(binary)
    assert type(asked.trained_.config.model.likelihood).__name__ == "Laplace"
    grey = clone(vae).set_params(likelihood="bernoulli", epochs=1).fit(rng.random((50, 3)))
    assert grey.trained_.info.scales == ()


def test_what_lies_far_outside_is_an_outlier_and_no_nan() -> None:
    table = correlated(300, 0)
    vae = VAE(**TINY).fit(table)
    far = np.full((3, 5), 1e30) * np.array([[1.0], [-1.0], [1e200]])
    scores = vae.score_samples(far)
    assert not np.isnan(scores).any()
    assert (vae.predict(far) == -1).all()
    assert (vae.predict(table[:50]) == 1).mean() > 0.8


def test_a_constant_column_is_kept_as_it_is() -> None:
    table = correlated(200, 0)
    table[:, 2] = 0.1
    vae = VAE(**TINY).fit(table)
    assert vae.trained_.info.scales[2] == 1.0
    assert np.isfinite(vae.score_samples(table)).all()


def test_noise_of_a_table_is_a_part_of_its_range() -> None:
    table = correlated(1000, 0)
    vae = DenoisingVAE(latent_dim=2, epochs=20, settings={"hidden": (32,), "noise_sigma": 0.2}, batch_size=50).fit(
        table
    )
    span = table.max(0) - table.min(0)
    np.testing.assert_allclose(vae.trained_.info.scales, span)
    noisy = table + 0.2 * span * np.random.default_rng(1).normal(size=table.shape)
    restored, given = (np.square((rows - table) / span).mean() for rows in (vae.denoise(noisy), noisy))
    assert restored < 0.6 * given


@pytest.mark.parametrize("spread", [1e-30, 1e30])
def test_tiny_and_huge_units_are_scaled_in_double_precision(spread: float) -> None:
    table = correlated(200, 0) * spread
    assert np.isfinite(VAE(**TINY).fit(table).score_samples(table)).all()
