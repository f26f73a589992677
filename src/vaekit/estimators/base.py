"""What all estimators share: arrays to images, settings to a configuration, training, codes, scores."""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from vaekit.data.images import Images, Splits
from vaekit.data.loaded import Loaded
from vaekit.data.splits import split
from vaekit.errors import InputError, StoppedError
from vaekit.estimators.configuring import configuration, scaling
from vaekit.estimators.layout import Layout, Scaling, axes
from vaekit.estimators.saving import from_bytes, read, to_bytes, write
from vaekit.evaluation.likelihood import estimate
from vaekit.models.table import Model
from vaekit.noise import Noise, content_index, seed_key
from vaekit.objectives.schedules import Constant
from vaekit.settings import Config
from vaekit.storage import read_tensors
from vaekit.trained import load
from vaekit.training.reporting import EpochLines, Silent
from vaekit.training.train import train_on

_OWN = ("preset", "settings", "image_shape", "importance_samples", "contamination", "random_state", "verbose")
_AT_ONCE = 64  # rows in a batch of codes or images
_DECODES = 1000  # rows times importance samples in a batch of scores


@dataclass(eq=False, repr=False, kw_only=True)
class Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the estimators. The constructor only stores; see `vaekit.estimators.vae.VAE` for what is stored."""

    preset: str | None = None
    latent_dim: int | None = None
    network: str | None = None
    likelihood: str | None = None
    objective: str | None = None
    beta: float | None = None
    epochs: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    validation: int | None = None
    device: str | None = None
    settings: Mapping[str, Any] | None = None
    image_shape: tuple[int, ...] | None = None
    importance_samples: int = 50
    random_state: int | np.random.RandomState | None = 0
    verbose: bool | int = False

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on X.

        Args:
            X: images (n, height, width[, channels]) as uint8, or floats in [0, 1]; a table (n, features), which is
                flattened images where `image_shape` says so.
            y: not used, but by `ConditionalVAE`.

        Raises:
            InputError: for data or settings that do not fit.
            RunError: when a loss became infinite or NaN.
        """
        array = self._array(X, reset=True)
        layout, config, scaling = self._begin(array, y)
        loaded = self._described(layout.images(array, scaling), y, reset=True)
        self.layout_ = layout
        self._moments: dict[str, Tensor] | None = None
        self._trained_on(loaded, config, config, scaling, None)
        self._finish(loaded.train)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Take one pass over X, at the constant learning rate `learning_rate`, from where the model stands.

        The first call of all, where nothing was fitted, makes the model and scales the columns of a table by this X; later
        calls keep both. Adam's moments go on from one `partial_fit` to the next (and through pickle and copies), and
        begin anew after `fit` and `load`. No images are held out, and a schedule of beta does not run.
        """
        first = not hasattr(self, "trained_")
        array = self._array(X, reset=first)
        if first:
            self.layout_, config, scaling = self._begin(array, y)
        else:
            config, scaling = self.trained_.config, Scaling.of(self.trained_.info)
        loaded = self._described(self.layout_.images(array, scaling), y, reset=first)
        calls = getattr(self, "n_partial_fits_", 0)
        steps = math.ceil(len(array) / config.training.batch_size)
        one_pass = dataclasses.replace(
            config.training,
            epochs=1.0,
            batch_size=len(array) // steps,
            warmup=0.0,
            decay="none",
            patience=None,
            seed=seed_key(config.training.seed, "partial", calls) & ((1 << 63) - 1) if calls else config.training.seed,
        )
        passing = dataclasses.replace(
            config, data=dataclasses.replace(config.data, validation=0), training=one_pass, beta_schedule=Constant()
        )
        start = getattr(self, "_moments", None)
        if start is None and not first:
            start = {f"player/model/{name}": value for name, value in self.trained_.model.state_dict().items()}
        self._moments = self._trained_on(loaded, passing, config, scaling, start)
        self.n_partial_fits_ = calls + 1
        self._finish(loaded.train)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Codes (n, latent_dim), float32: the means of q(z | x)."""
        return self._codes(self._images(X))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Mean samples (n, ...) of codes X (n, latent_dim), in shape and units of what was fitted."""
        return self._decoded(X, None)

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(x) of each sample, nats, float64 (n,): the importance-weighted bound with `importance_samples` samples.

        Of images it is that of their pixels, in [0, 1] (`vaekit evaluate` has the same); of a table that of its columns in
        their own units. The noise follows from a sample's content, so its score depends on no other sample.

        Raises:
            InputError: for a model without a bound, such as an autoencoder.
        """
        return self._scores(self._images(X))

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`, nats: higher is better."""
        return float(self.score_samples(X).mean())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator into one safetensors file, which `load` and `vaekit.load` read without running code.

        Raises:
            NotFittedError: before `fit`.
            InputError: when the file cannot be written.
        """
        check_is_fitted(self)
        write(self, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "cpu") -> Self:
        """The estimator that `save` wrote.

        Raises:
            InputError: when the file is no estimator of this class.
        """
        return read(cls, Path(path), device)

    # What a class may define anew

    def _given(self, y: Any) -> dict[str, Any]:
        """The flat settings that the parameters name; None leaves one to the preset."""
        names = [item.name for item in dataclasses.fields(self) if item.name not in _OWN]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _described(self, images: Images, y: Any, reset: bool) -> Loaded:
        """The images with the conditions y; `reset` learns which there are."""
        return Loaded(images, None)

    def _finish(self, images: Images) -> None:
        """Learn what follows from the model and its training images."""

    # Arrays and settings

    def _array(self, X: Any, reset: bool) -> np.ndarray:
        """Checked numbers (n, ...)."""
        if axes(X) <= 2:
            found: np.ndarray = validate_data(self, X, reset=reset)
            return found
        array: np.ndarray = check_array(X, ensure_2d=False, allow_nd=True, input_name="X", estimator=self)
        if reset:
            self.n_features_in_ = int(np.prod(array.shape[1:]))
            self.__dict__.pop("feature_names_in_", None)
        return array

    def _images(self, X: Any) -> Images:
        check_is_fitted(self)
        return self.layout_.images(self._array(X, reset=False), Scaling.of(self.trained_.info))

    def _begin(self, array: np.ndarray, y: Any) -> tuple[Layout, Config, Scaling]:
        """Layout, configuration and scaling for an array that is fitted.

        Raises:
            InputError: for settings that do not fit each other or the array.
        """
        if not isinstance(self.importance_samples, (int, np.integer)) or self.importance_samples < 1:
            raise InputError(f"importance_samples: {self.importance_samples!r} is not a whole number from 1 up")
        layout = Layout.of(array, self.image_shape)
        parameters = tuple(item.name for item in dataclasses.fields(self))
        config = configuration(layout, array, self.preset, self._given(y), self.settings, parameters, self.random_state)
        return layout, config, scaling(layout, array, config)

    # Training

    def _trained_on(
        self, loaded: Loaded, config: Config, kept: Config, scaling: Scaling, start: Mapping[str, Tensor] | None
    ) -> dict[str, Tensor]:
        """Train by `config` from `start`, and keep the model under the configuration `kept`; returns weights and moments."""
        nothing = loaded.train.select(torch.empty(0, dtype=torch.int64))  # test images are the caller's
        binary = False if scaling.scales else None
        splits = split(config.data, dataclasses.replace(loaded, test=nothing, binary=binary))
        info = dataclasses.replace(splits.info, locations=scaling.locations, scales=scaling.scales)
        if self.batch_size is None and config.training.batch_size > len(splits.train):
            training = dataclasses.replace(config.training, batch_size=len(splits.train))
            config = dataclasses.replace(config, training=training)
        with tempfile.TemporaryDirectory(prefix="vaekit-") as folder:
            try:
                run = train_on(
                    Splits(info, splits.train, splits.val, None),
                    config,
                    Path(folder) / "run",
                    observer=EpochLines() if self.verbose else Silent(),
                    note=lambda sentence: warnings.warn(sentence, stacklevel=4),
                    start=start,
                )
            except StoppedError:
                raise KeyboardInterrupt from None
            trained = load(run.path, run.resolved.device)
            state = read_tensors(run.checkpoint, "checkpoint")[0]
            self.history_: list[dict[str, Any]] = run.metrics()
        self.n_iter_ = len(self.history_)
        self.trained_ = dataclasses.replace(trained, config=kept, path=Path(type(self).__name__))
        return {name: value for name, value in state.items() if name.startswith(("player/", "optimizer/"))}

    # The model at work. Batches are of one size, filled up where need be: with it the last bits of a row would change.

    def _codes(self, images: Images) -> np.ndarray:
        return self.trained_.codes(images.select(_filled(len(images), _AT_ONCE)), _AT_ONCE)[: len(images)].numpy()

    def _decoded(self, X: Any, condition: Tensor | None) -> np.ndarray:
        check_is_fitted(self)
        trained = self.trained_
        codes = torch.from_numpy(check_array(X, dtype=np.float32, input_name="X", copy=True))
        if codes.shape[1] != trained.latent_dim:
            raise InputError(
                f"X: codes of {codes.shape[1]} latents are not the model's {trained.latent_dim}; see transform"
            )
        rows = _filled(len(codes), _AT_ONCE)
        given = None if condition is None else condition[rows]
        return self.layout_.array(trained.images(codes[rows], given, _AT_ONCE)[: len(codes)], Scaling.of(trained.info))

    def _scores(self, images: Images) -> np.ndarray:
        trained = self.trained_
        samples = int(self.importance_samples)
        condition = trained.condition(images)
        if condition is not None:
            kind = "attributes" if condition.is_floating_point() else "labels"
            images = dataclasses.replace(images, **{kind: condition})
        filled = images.select(_filled(len(images), max(1, _DECODES // samples)))
        index = torch.cat([content_index(filled.unit(rows)) for rows in torch.arange(len(filled)).split(1000)])
        device = trained.device
        found = estimate(
            trained.model,
            trained.config.data,
            filled.to(device),
            samples,
            trained.config.training.seed,
            _DECODES,
            index=index.to(device),
        )
        if found.log_p is None:
            raise InputError(
                "score_samples: this model has no bound on log p(x); choose a posterior that has a density"
            )
        scores = found.log_p[: len(images)].numpy() - Scaling.of(trained.info).log_volume
        return np.where(np.isnan(scores), -np.inf, scores)  # so far out that float32 ends

    def _sampled(self, count: int, condition: Tensor | None, random_state: int | None) -> np.ndarray:
        check_is_fitted(self)
        trained = self.trained_
        model: Model = trained.model
        seed = trained.config.training.seed if random_state is None else random_state
        noise = Noise.from_seed(seed, count, "sample", device=trained.device)
        given = None if condition is None else condition.to(trained.device)
        with torch.no_grad():
            latents = model.sample_prior(count, given, noise)
            if not self.layout_.table:
                return self.layout_.array(trained.images(latents, condition), Scaling())
            drawn = model.decode(latents, given).sample_from(noise, "sample table").cpu()
        return self.layout_.array(drawn, Scaling.of(trained.info))

    # Without pickle inside

    def __getstate__(self) -> dict[str, Any]:
        return to_bytes(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(from_bytes(state))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.three_d_array = True
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.trained_.latent_dim


def _filled(count: int, size: int) -> Tensor:
    """Positions 0 to count - 1, then some once more, up to whole batches of `size`."""
    return torch.arange(math.ceil(count / size) * size) % count
