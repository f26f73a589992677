"""`ConditionalVAE`: samples and densities under class labels or attributes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from vaekit.data.attributes import attribute_names, described
from vaekit.data.images import Images
from vaekit.data.loaded import Loaded
from vaekit.errors import InputError, unknown
from vaekit.estimators.base import Estimator
from vaekit.estimators.layout import axes
from vaekit.networks.conditioning import Unconditional
from vaekit.settings import preset


@dataclass(eq=False, repr=False, kw_only=True)
class ConditionalVAE(Estimator):
    """A VAE that reads class labels of any type, or attributes, beside the samples.

    Args:
        conditioning: ``onehot`` or ``embedding`` for labels, ``attributes`` for a matrix y; None: as the preset has it, or
            ``onehot`` or ``attributes`` as y is.
        label_dropout: chance that training hides a condition, so that the model also learns to do without: `transform` and
            `score_samples` without y then are those of the sample alone. At 0 they must be given y.

    All others are those of `vaekit.VAE`; there is no `predict`.

    Attributes:
        classes_: the labels, sorted; not for attributes.
        trained_, history_, n_iter_, n_features_in_, feature_names_in_: as for `vaekit.VAE`.

    >>> from sklearn.datasets import load_digits
    >>> digits = load_digits()
    >>> names = np.array(["even", "odd"])[digits.target % 2]
    >>> vae = ConditionalVAE(preset="mlp", epochs=1).fit(digits.images / 16, names)
    >>> vae.sample(["odd", "odd", "even"]).shape
    (3, 8, 8)
    """

    conditioning: str | None = None
    label_dropout: float = 0.1

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on samples X with y: labels (n,) of any type, or attributes (n, k), numbers, NaN where unknown.

        Raises:
            InputError: for data or settings that do not fit.
            RunError: when a loss became infinite or NaN.
        """
        self._required(y)
        return super().fit(X, y)

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None) -> Self:
        """Take one pass over X and y; see `VAE.partial_fit`. The first call needs all `classes` that will ever come."""
        self._required(y)
        if classes is not None and not hasattr(self, "trained_"):
            self._announced = np.unique(classes)
        return super().partial_fit(X, y)

    def transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Codes (n, latent_dim), float32, under the conditions y, or without."""
        return self._codes(self._conditioned(self._images(X), y))

    def inverse_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Mean samples (n, ...) of codes X (n, latent_dim) under the conditions y, or without."""
        check_is_fitted(self)
        return self._decoded(X, self._condition(y, len(X)))

    def score_samples(self, X: Any, y: Any = None) -> np.ndarray:
        """log p(x | y) of each sample, or log p(x) without y, nats, float64 (n,); see `VAE.score_samples`."""
        return self._scores(self._conditioned(self._images(X), y))

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`, nats: higher is better."""
        return float(self.score_samples(X, y).mean())

    def sample(self, y: Any, random_state: int | None = None) -> np.ndarray:
        """A new sample for each of the labels y (n,), or of the rows of attributes (n, k); one alone is one sample."""
        check_is_fitted(self)
        labels = self.trained_.model.num_attributes is None
        given = np.atleast_1d(_values(y)) if labels else np.atleast_2d(_values(y))
        return self._sampled(len(given), self._condition(given, len(given)), random_state)

    def _required(self, y: Any) -> None:
        if y is None:
            raise InputError(
                f"{type(self).__name__} requires y to be passed, but the target y is None; give labels or attributes"
            )

    def _given(self, y: Any) -> dict[str, Any]:
        given = super()._given(y)
        if "conditioning" not in given:
            chosen = getattr(preset(self.preset or "conv").model, "conditioning", Unconditional())
            if axes(y) == 2:
                given["conditioning"] = "attributes"
            elif isinstance(chosen, Unconditional):
                given["conditioning"] = "onehot"
        return given

    def _described(self, images: Images, y: Any, reset: bool) -> Loaded:
        check_consistent_length(images.pixels, y)
        if not reset:
            model, info = self.trained_.model, self.trained_.info
            if (axes(y) == 2) != (model.num_attributes is not None):
                raise InputError("y: was fitted as labels, or as attributes, and is the other now")
            return Loaded(self._conditioned(images, y), None, info.class_names, attribute_names=info.attribute_names)
        if axes(y) == 2:
            self.__dict__.pop("classes_", None)
            columns = getattr(y, "columns", None)
            images = described(images, _values(y), "y")
            names = attribute_names(images, None if columns is None else np.asarray(columns), "y")
            return Loaded(images, None, attribute_names=names)
        self.classes_ = self.__dict__.pop("_announced", None)
        if self.classes_ is None:
            self.classes_ = _classes(y)
        images = dataclasses.replace(images, labels=self._labels(_values(y)))
        return Loaded(images, None, tuple(str(name) for name in self.classes_))

    def _labels(self, y: np.ndarray) -> Tensor:
        """The numbers (n,) of labels among `classes_`."""
        known = {label: number for number, label in enumerate(self.classes_.tolist())}
        for label in y.tolist():
            if label not in known:
                raise unknown("y: label", str(label), map(str, known))
        return torch.tensor([known[label] for label in y.tolist()])

    def _condition(self, y: Any, count: int) -> Tensor | None:
        """Labels (n,) or attributes (n, k) as the model reads them; without y those of none, where it learned to."""
        # what stands for pixels is not looked at
        return self.trained_.condition(self._conditioned(Images(torch.zeros(count, 1, 1, 1)), y), "y")

    def _conditioned(self, images: Images, y: Any) -> Images:
        if y is None:
            return images
        check_consistent_length(images.pixels, y)
        if self.trained_.model.num_attributes is not None:
            return described(images, _values(y), "y")
        values = _values(y)
        if values.ndim != 1:
            raise InputError(f"y: shape {values.shape} is not (n,); give a label for each sample")
        return dataclasses.replace(images, labels=self._labels(values))


def _values(y: Any) -> np.ndarray:
    return np.asarray(y)


def _classes(y: Any) -> np.ndarray:
    """The distinct labels, sorted.

    Raises:
        InputError: for what are no labels.
    """
    values = _values(y)
    if values.ndim != 1:
        raise InputError(f"y: shape {values.shape} is neither labels (n,) nor attributes (n, k)")
    if values.dtype.kind == "f" and (not np.isfinite(values).all() or type_of_target(values) == "continuous"):
        raise InputError(
            "y: holds fractions or NaN, which are no labels; for attributes give a matrix, y.reshape(-1, 1)"
        )
    try:
        return np.unique(values)
    except TypeError:
        raise InputError("y: labels of several types cannot be sorted; give them one type, such as text") from None
