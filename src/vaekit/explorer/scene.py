"""What the explorer's page reads: a description, and blobs of numbers and pictures under fixed names.

The server hands them out from memory and a static export writes them to a folder, so that one page serves both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data.images import Images
from vaekit.explorer.book import ACROSS, Book, book_of
from vaekit.explorer.sheets import SHEET, Sheets
from vaekit.figures.codes import Codes, measure
from vaekit.figures.subject import Subject
from vaekit.generation import prior_law
from vaekit.models.table import Model, code_in_words
from vaekit.networks.conditioning import UNKNOWN
from vaekit.noise import Noise
from vaekit.objectives.table import OBJECTIVES
from vaekit.probability.distributions import center_of
from vaekit.trained import Trained

_DRAWS = 512  # of the prior that come along; of a prior for each class, of each
_JUDGED = 500  # images whose error an own image is compared with
_MOST_NUMBERS = 4_000_000  # in the table of codes: 16 MB
_AT_ONCE = 250


@dataclass
class Scene:
    """A model and up to some thousand images, as the page shows them.

    Attributes:
        trained: the model.
        images: those of the map, or None where the data are not at hand.
        split: what they are: ``validation``, ``training`` or ``prior``.
        about: more for the description, such as curves of a training.
    """

    trained: Trained
    images: Images | None
    split: str
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        return self.trained.model

    @cached_property
    def condition(self) -> Tensor | None:
        """Labels or attributes of the images, unknown ones where the data have none; None for a model that reads none."""
        return None if self.images is None else self.trained.condition(self.images)

    @cached_property
    def codes(self) -> Codes:
        """Where the images lie, in the chart of the latent space; without images, draws of the prior."""
        if self.images is None:
            return Codes(*self.draws, None, 0)
        subject = Subject(self.model, self.trained.config, self.trained.info, self.images, self.split)
        labels = self.images.labels
        batches = map(subject.batch, torch.arange(len(self.images)).split(_AT_ONCE))
        return measure(self.model, batches, labels)

    @property
    def fresh(self) -> bool:
        """Whether latents are drawn one from another, so that a draw cannot be made of others or brought to the middle."""
        return "vectors" not in self.model.provides

    @cached_property
    def book(self) -> Book | None:
        """The codes that images are made of, of a model with one codebook."""
        return book_of(self.model, self.codes.means)

    @property
    def guided(self) -> bool:
        """Whether what is decoded or drawn can follow its condition more or less strongly; see `Model.guided`."""
        model = self.model
        return model.conditional and model.accepts_unknown and (model.code_is_told or self.fresh)

    @torch.no_grad()
    def drawn(
        self, seed: int, temperatures: list[float], weights: Tensor | None, guidance: float | None = None
    ) -> Tensor:
        """A draw of the prior in the chart (1, latent), at a temperature for each level; see `decoded` for the others."""
        noise = Noise.from_seed(seed, 1, "explorer sample")
        with self.model.guided(1.0 if guidance is None else guidance):
            return self.model.geometry.chart(self.model.sample_prior(1, self._told(weights), noise, temperatures))

    @cached_property
    def draws(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Latents of the prior in its chart, (n, latent), and their classes (n,) where the model reads labels."""
        classes = self.model.num_classes
        count = _DRAWS if classes is None else max(_DRAWS, classes * 16)
        labels = None if classes is None else torch.arange(count) % classes
        condition = labels
        if self.model.num_attributes is not None:
            condition = torch.full((count, self.model.num_attributes), math.nan)  # each at its mean
        latents = self.model.sample_prior(count, condition, Noise.from_seed(0, count, "explorer"))
        chart = self.model.geometry.chart(latents).detach().numpy().astype(np.float32)
        return chart, None if labels is None else labels.numpy()

    @cached_property
    def plane(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Two principal directions (2, latent) of the codes, their mean (latent,), and shares of variance (2,)."""
        means = self.codes.means.astype(np.float64)
        center = means.mean(0)
        if means.shape[1] == 1:
            means, center = np.pad(means, ((0, 0), (0, 1))), np.pad(center, (0, 1))
        _, values, axes = np.linalg.svd(means - center, full_matrices=False)
        axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
        share = values[:2] ** 2 / max((values**2).sum(), 1e-12)
        return axes[:, : self.codes.means.shape[1]], center[: self.codes.means.shape[1]], share

    @cached_property
    def errors(self) -> np.ndarray:
        """Mean squared errors of reconstructions of some of the images, sorted."""
        if self.images is None:
            return np.zeros(0)
        some = self.images.spread(_JUDGED)
        difference = self.trained.reconstructed(some) - some.unit()
        return np.sort(difference.square().mean((1, 2, 3)).double().numpy())

    @property
    def sheets(self) -> Sheets:
        """How images become thumbnails."""
        return Sheets(self.trained.info.shape)

    @cached_property
    def description(self) -> dict[str, Any]:
        """All that the page must know before it shows anything; plain JSON."""
        trained, model, codes = self.trained, self.model, self.codes
        info, config = trained.info, trained.config
        deviations = codes.means.std(0)
        law = prior_law(model)
        spread = self.draws[0].std(0) if law != "normal" else np.ones_like(deviations)
        axes, center, share = self.plane
        own = codes.means.shape[1] == 2
        maps: list[dict[str, Any]] = []
        if own:
            names = list(model.geometry.names[:2])
            unit = {"axes": [[1, 0], [0, 1]], "center": [0, 0]}
            maps.append({"name": "latents", "title": "The two latents", "names": names, **unit})
        else:
            names = [f"principal component {place + 1} ({part:.0%})" for place, part in enumerate(share)]
            maps.append({
                "name": "pca", "title": "Principal components", "names": names,
                "axes": _plain(axes), "center": _plain(center),
            })  # fmt: skip
            if len(codes.means) >= 30:
                maps.append({"name": "tsne", "title": "t-SNE", "names": [], "axes": None, "center": None})
        return {
            "name": trained.path.name,
            "data": info.name,
            "objective": OBJECTIVES.name_of(config.objective),
            "shape": list(info.shape),
            "seen_shape": list(info.seen_shape),
            "latent_dim": codes.means.shape[1],
            "latents": code_in_words(config.model, info, "latent"),
            "classes": list(info.class_names) if codes.labels is not None or model.num_classes is not None else [],
            "attributes": list(info.attribute_names),
            "condition": "labels" if model.num_classes else "attributes" if model.num_attributes else None,
            "told": model.code_is_told,
            "conditions": model.num_classes or model.num_attributes or 0,
            "attribute_means": list(info.attribute_means),
            "attribute_scales": list(info.attribute_scales),
            "accepts_unknown": model.accepts_unknown,
            "guided": self.guided,
            "class_map": self._class_map(),
            "order": self._movable.tolist(),
            "levels": model.levels,
            "level_rates": [rate for _, rate in self._groups] or None,
            "fresh": self.fresh,
            "codebook": None
            if self.book is None
            else {**self.book.description, "palette": f"palette.{self.sheets.ending}"},
            "rates": None if codes.rates is None else _plain(codes.rates),
            "deviations": _plain(np.maximum(deviations, spread)),
            "straight": model.geometry.kind == "euclidean",
            "restores": config.data.restores,
            "split": self.split,
            "count": len(codes.means),
            "draws": len(self.draws[0]),
            "draw_classes": self.draws[1] is not None,
            "errors": _plain(self.errors),
            "maps": maps,
            "thumbnail": list(self.sheets.thumbnail),
            "sheet": SHEET,
            "sheet_type": self.sheets.ending,
            "has_labels": codes.labels is not None,
            "has_attributes": self.images is not None and self.images.attributes is not None,
            **self.about,
        }

    @property
    def _movable(self) -> np.ndarray:
        """Latents that can be moved one by one, by rate: of several levels those that are drawn first, of codes none."""
        if not self.fresh:
            return self.codes.order
        order = self.codes.order
        return order[order < self._groups[0][0]] if self.codes.rates is not None and self._groups else order[:0]

    @cached_property
    @torch.no_grad()
    def _groups(self) -> list[tuple[int, float]]:
        """How many latents each level has, and its rate in nats; nothing where the model has one level, or no images."""
        if self.images is None or self.model.levels == 1:
            return []
        subject = Subject(self.model, self.trained.config, self.trained.info, self.images, self.split)
        batch = subject.batch(torch.arange(min(_AT_ONCE, len(self.images))))
        drawn = self.model.draw(batch, noise=Noise.from_seed(0, len(batch.index), "explorer levels"))
        return [
            (group.value.shape[-1], 0.0 if group.rate is None else float(group.rate.mean())) for group in drawn.latents
        ]

    def _class_map(self) -> list[list[float]] | None:
        """Where the vectors of classes lie in their own principal plane, (classes, 2); None for vectors not learned."""
        model = self.model
        classes = model.num_classes
        if classes is None or classes < 3 or not _learned(model):
            return None
        with torch.no_grad():
            vectors = model.code(torch.arange(classes)).double().numpy()  # type: ignore[union-attr]
        vectors = vectors - vectors.mean(0)
        _, _, axes = np.linalg.svd(vectors, full_matrices=False)
        return _plain(vectors @ axes[:2].T)

    @cached_property
    def blobs(self) -> dict[str, Callable[[], tuple[bytes, str]]]:
        """Everything beside the description: by name, what makes (bytes, media type) when it is asked for."""
        found: dict[str, Callable[[], tuple[bytes, str]]] = {
            "codes.bin": lambda: _numbers(self.codes.means, np.float32),
            "draws.bin": lambda: _numbers(self.draws[0], np.float32),
        }
        if self.codes.labels is not None:
            labels = self.codes.labels
            found["labels.bin"] = lambda: _numbers(labels, np.int16)
        if self.draws[1] is not None:
            drawn = self.draws[1]
            found["draw-labels.bin"] = lambda: _numbers(drawn, np.int16)
        if self.images is not None and self.images.attributes is not None:
            attributes = self.images.attributes.numpy()
            found["attributes.bin"] = lambda: _numbers(attributes, np.float32)
        if self.book is not None:
            book = self.book
            found["codebook.bin"] = lambda: _numbers(book.vectors.numpy(), np.float32)
            found[f"palette.{self.sheets.ending}"] = lambda: self.sheets.picture(self.decoded_all(book.tiles), ACROSS)
        if any(each["name"] == "tsne" for each in self.description["maps"]):
            found["tsne.bin"] = lambda: _numbers(self.codes.tsne, np.float32)
        for sheet in range(math.ceil(len(self.codes.means) / SHEET**2)):
            found[f"sheet-{sheet}.{self.sheets.ending}"] = partial(self._sheet, sheet)
        return found

    def _sheet(self, number: int) -> tuple[bytes, str]:
        """A picture of up to 256 images, row by row."""
        first = number * SHEET**2
        rows = torch.arange(first, min(first + SHEET**2, len(self.codes.means)))
        if self.images is None:
            images = self.decoded(torch.from_numpy(self.codes.means)[rows], self._own_weights(rows))
        else:
            images = self.images.unit(rows)
        return self.sheets.picture(images, SHEET, SHEET)

    def _own_weights(self, rows: Tensor) -> Tensor | None:
        count = self.description["conditions"]
        labels = self.codes.labels
        if not count:
            return None
        if labels is None:
            return torch.full((len(rows), count), torch.nan if self.model.num_classes is None else 1.0 / count)
        return torch.nn.functional.one_hot(torch.from_numpy(labels)[rows], count).float()

    def asked(self, chart: Tensor, told: Tensor | None) -> Tensor:
        """`decoded`, of a request's numbers beside the chart: the weights and, where it can be `guided`, the guidance."""
        if told is None or not self.guided:
            return self.decoded(chart, told)
        return self.decoded(chart, told[:, :-1], told[:, -1])

    @torch.no_grad()
    def decoded(self, chart: Tensor, weights: Tensor | None, guidance: Tensor | None = None) -> Tensor:
        """Mean images (n, channels, height, width) in [0, 1] of places in the chart (n, latent).

        Args:
            chart: (n, latent).
            weights: (n, classes), shares of the classes' vectors, all 0 for no label; or attributes (n, k), NaN for one at
                its mean; None for a model without condition.
            guidance: (n,), how strongly each follows its condition; None: as trained.
        """
        if guidance is not None:
            images = chart.new_empty(len(chart), *self.trained.info.shape)
            for strength in guidance.unique().tolist():
                rows = guidance == strength
                with self.model.guided(strength):
                    images[rows] = self.decoded(chart[rows], None if weights is None else weights[rows])
            return images
        latents = self.model.geometry.point(chart)
        likelihood = self.model.decode(latents, code=self.code(weights))
        return likelihood.mean.clamp(0.0, 1.0)

    def decoded_all(self, chart: Tensor) -> Tensor:
        """`decoded` without a condition, in batches, for a decoder that reads none."""
        return torch.cat([self.decoded(part, None) for part in chart.split(_AT_ONCE)])

    @torch.no_grad()
    def encoded(self, images: Tensor, weights: Tensor | None) -> Tensor:
        """Places in the chart (n, latent) of images (n, channels, height, width).

        Args:
            images: in [0, 1], of the shape that the model reads.
            weights: as of `decoded`; between classes, the largest counts.
        """
        center = center_of(self.model.encode(images, self._told(weights)))  # type: ignore[operator]  # codes come of it too
        assert center is not None
        return self.model.geometry.chart(center)

    def _told(self, weights: Tensor | None) -> Tensor | None:
        """Labels (n,) or attributes (n, k) of weights as in `decoded`; between classes, the largest counts."""
        if weights is None or self.model.num_classes is None:
            return weights
        labels = weights.argmax(1)
        return torch.where(weights.sum(1) == 0, UNKNOWN, labels) if self.model.accepts_unknown else labels

    def code(self, weights: Tensor | None) -> Tensor | None:
        """The vectors that stand for conditions; between classes, straight lines in the space of their vectors."""
        if weights is None:
            return None
        if self.model.num_classes is None:
            return self.model.code(weights)
        vectors = self.model.code(torch.arange(self.model.num_classes))
        assert vectors is not None
        mixed = weights @ vectors
        if not self.model.accepts_unknown:
            return mixed
        empty = self.model.code(torch.full((1,), UNKNOWN))
        assert empty is not None
        return torch.where(weights.sum(1, keepdim=True) == 0, empty, mixed)


def most_points(latent_dim: int, asked: int) -> int:
    """How many codes may come along at that many numbers each."""
    return min(asked, max(256, _MOST_NUMBERS // latent_dim))


def _learned(model: Model) -> bool:
    """Whether a model learned the vectors of its classes, so that their places mean something."""
    return any(parameter.requires_grad for parameter in getattr(model.conditioning, "parameters", list)())


def _numbers(values: np.ndarray, kind: Any) -> tuple[bytes, str]:
    return np.ascontiguousarray(values, kind).tobytes(), "application/octet-stream"


def _plain(values: np.ndarray) -> Any:
    """Lists with six significant digits."""
    return json.loads(json.dumps(np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[float])(values).tolist()))
