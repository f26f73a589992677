"""What the latents of many images say: measured once, shown in several figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vaekit.data.batches import Batch
from vaekit.errors import InputError
from vaekit.evaluation.likelihood import ACTIVE_VARIANCE
from vaekit.generation import encode
from vaekit.models.table import Model
from vaekit.noise import Noise

_MOST_RATES = 2000
_FEWEST_MAPPED = 8
_MOST_MAPPED = 1000  # t-SNE of these takes some three seconds on one core


@dataclass(frozen=True)
class Codes:
    """Codes of n images.

    Attributes:
        means: posterior means in the chart of their space, float32 (n, latent).
        labels: int64 (n,), or None.
        rates: nats, (latent,), averaged over up to 2,000 of the images; None where the rate is no sum over latents.
        num_rated: how many images `rates` are averages of.
        sizes: how many latents each level has, from the one that is drawn first, where there are rates; else empty.
    """

    means: np.ndarray
    labels: np.ndarray | None
    rates: np.ndarray | None
    num_rated: int
    sizes: tuple[int, ...] = ()

    @property
    def active(self) -> np.ndarray:
        """Which latents' posterior means vary by more than 0.01 over the images, (latent,)."""
        if len(self.means) < 2:
            return np.zeros(self.means.shape[1], bool)
        return self.means.var(0, ddof=1) > ACTIVE_VARIANCE

    @property
    def order(self) -> np.ndarray:
        """Numbers of the latents, (latent,): by rate from the highest, or where there is none, by spread of the means."""
        weight = self.means.var(0) if self.rates is None else self.rates
        return np.argsort(-weight, kind="stable")

    @cached_property
    def tsne(self) -> np.ndarray:
        """The first 1,000 codes in the plane, (n, 2), by t-SNE (van der Maaten and Hinton 2008).

        Deterministic: it begins with principal components, has a fixed seed and runs on one thread.
        """
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no types

        # equal codes share a place; many of them in one leaf of scikit-learn's tree would crash the process
        distinct, place = np.unique(self.means[:_MOST_MAPPED], axis=0, return_inverse=True)
        if len(distinct) < _FEWEST_MAPPED:
            raise InputError(f"{len(distinct)} different codes are too few for a t-SNE map; use principal components")
        perplexity = min(30.0, (len(distinct) - 1) / 3)
        with threadpool_limits(1):
            points: np.ndarray = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(distinct)
        return points[place.reshape(-1)]


@torch.no_grad()
def measure(model: Model, batches: Iterable[Batch], labels: Tensor | None = None) -> Codes:
    """The codes of images that come in batches.

    Args:
        model: in evaluation mode.
        batches: whose inputs are encoded, under their conditions.
        labels: int64 (n,) of all these images, where they have any.

    Raises:
        InputError: when the model has no encoder.
    """
    means: list[Tensor] = []
    rates: list[list[Tensor | None]] = []
    sizes: tuple[int, ...] = ()
    count = 0
    for batch in batches:
        means.append(model.geometry.chart(encode(model, batch.input, batch.condition)).flatten(1).cpu())
        if count < _MOST_RATES:
            draw = model.draw(batch, noise=Noise(torch.tensor(0, device=batch.index.device), batch.index))
            rates.append([latent.rate_by_dimension for latent in draw.latents])
            sizes = tuple(latent.value.flatten(1).shape[1] for latent in draw.latents)
        count += len(batch.input)
    joined = _joined(rates)
    found = None if labels is None else labels.numpy()
    if joined is None:
        return Codes(torch.cat(means).numpy(), found, None, 0)
    return Codes(torch.cat(means).numpy(), found, joined.double().mean(0).numpy(), len(joined), sizes)


def _joined(rates: list[list[Tensor | None]]) -> Tensor | None:
    """(images, latent) of all groups side by side; None where a group has none."""
    whole = []
    for groups in rates:
        parts = [group.flatten(1).cpu() for group in groups if group is not None]
        if not parts or len(parts) < len(groups):
            return None
        whole.append(torch.cat(parts, 1))
    return torch.cat(whole) if whole else None
