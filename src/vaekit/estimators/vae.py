"""`VAE` and `DenoisingVAE`: transformers, densities and detectors of outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from vaekit.corruptions.table import Clean
from vaekit.data.images import Images
from vaekit.errors import InputError
from vaekit.estimators.base import Estimator
from vaekit.estimators.layout import Layout, Scaling
from vaekit.settings import Config

_JUDGED = 1000  # training samples that the threshold is a quantile of


@dataclass(eq=False, repr=False, kw_only=True)
class VAE(OutlierMixin, Estimator):
    """A variational autoencoder of images or of a table: codes, samples, densities and outliers.

    Every parameter but the last six is the setting of `vaekit train` of that name, and None leaves it to the preset.

    Args:
        preset: what the settings start from; None: ``conv`` for images, ``mlp`` for a table.
        latent_dim: dimensions of the latent space.
        network: networks of encoder and decoder, such as ``mlp``, ``conv`` or ``residual``.
        likelihood: how a sample is scored; of a table None chooses ``bernoulli`` where all values are 0 or 1, and else
            ``optimal-gaussian``.
        objective: what is minimized.
        beta: weight of the rate.
        epochs: passes over X.
        batch_size: samples a step; None: the preset's, or all where there are fewer.
        learning_rate: the highest of Adam.
        validation: samples of X that are held out to choose the best weights by; None: a tenth, 5,000 at most.
        device: auto, cpu or cuda.
        contamination: part of the training samples that `predict` calls outliers, above 0 and at most 0.5.
        settings: all other flat settings, such as ``{"hidden": (200, 100), "posterior": "iaf"}``.
        image_shape: (height, width[, channels]) of images that come flattened; None: rows of X are rows of a table.
        importance_samples: for each score.
        random_state: everything random follows from it; None draws a new one for each `fit`.
        verbose: whether a line is written for each epoch, and on a terminal a bar.

    A table's columns are standardized; codes are those of the standardized values, samples and scores are in the table's own
    units. Samples of a table are drawn from p(x | z); samples of images are its means.

    Attributes:
        trained_: the model in vaekit's own terms (`vaekit.trained.Trained`); ``trained_.model`` is an `nn.Module`.
        history_: a record for each epoch, as in a run's ``metrics.jsonl``.
        n_iter_: epochs taken.
        n_features_in_: values of a sample.
        feature_names_in_: of the columns, where X was a frame with names.
        offset_: the score below which a sample is an outlier: a quantile of those of 1,000 training samples.

    >>> from sklearn.datasets import load_digits
    >>> images = load_digits().images / 16
    >>> vae = VAE(preset="mlp", latent_dim=4, epochs=1).fit(images)
    >>> vae.transform(images).shape, vae.sample(5).shape
    ((1797, 4), (5, 8, 8))
    """

    contamination: float = 0.05

    def sample(self, n_samples: int = 1, random_state: int | None = None) -> np.ndarray:
        """New samples (n_samples, ...) in shape and units of what was fitted.

        Args:
            n_samples: how many, from 1 up; the first n are those of any larger number.
            random_state: another number, other samples; None: that of the fit.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, (int, np.integer)) or n_samples < 1:
            raise InputError(f"n_samples: {n_samples!r} is not a whole number from 1 up")
        return self._sampled(int(n_samples), None, random_state)

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` above the threshold, nats (n,): negative for outliers."""
        scores = self.score_samples(X)
        if self.offset_ is None:
            raise InputError("predict: this model has no bound on log p(x) to judge by")
        return scores - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """1 for each sample that looks like those that were fitted, -1 for each outlier; int64 (n,)."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def _begin(self, array: np.ndarray, y: Any) -> tuple[Layout, Config, Scaling]:
        if not isinstance(self.contamination, (int, float, np.number)) or not 0 < self.contamination <= 0.5:
            raise InputError(f"contamination: {self.contamination!r} is not a number above 0 and at most 0.5")
        return super()._begin(array, y)

    def _finish(self, images: Images) -> None:
        self.offset_: float | None = None
        if "log_w" in self.trained_.model.provides:
            self.offset_ = float(np.quantile(self._scores(images.spread(_JUDGED)), self.contamination))


@dataclass(eq=False, repr=False, kw_only=True)
class DenoisingVAE(VAE):
    """A VAE that reads corrupted samples and restores clean ones.

    A table is scaled to the range of its columns in place of being standardized, so that the corruptions keep the meaning
    they have for pixels: white is a column's largest value, black its smallest, and noise is a part of the range.

    Args:
        corruption: what is done to the input in training and for scores, with its settings in `settings`, such as
            ``{"noise_sigma": 0.3}``; see ``vaekit list corruptions``.

    All others are those of `VAE`.

    >>> from sklearn.datasets import load_digits
    >>> images = load_digits().images / 16
    >>> vae = DenoisingVAE(preset="mlp", corruption="mask-pixels", epochs=1).fit(images)
    >>> vae.denoise(images[:3]).shape
    (3, 8, 8)
    """

    corruption: str = "gaussian-noise"

    def denoise(self, X: Any) -> np.ndarray:
        """Corrupted samples restored, (n, ...): through the posterior's mean and back."""
        return self._decoded(self._codes(self._images(X)), None)

    def _begin(self, array: np.ndarray, y: Any) -> tuple[Layout, Config, Scaling]:
        layout, config, scaling = super()._begin(array, y)
        if isinstance(config.data.corruption, Clean):
            raise InputError("corruption: none leaves nothing to restore; choose another, or the estimator VAE")
        return layout, config, scaling
