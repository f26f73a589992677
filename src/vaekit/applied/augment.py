"""`augment`: new labelled images from near the codes of real ones, or from the prior of a class, without copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from vaekit import generation
from vaekit.applied.neighbours import Guard
from vaekit.data.batches import Batch
from vaekit.data.images import Images
from vaekit.errors import InputError
from vaekit.noise import Noise
from vaekit.trained import Progress, Trained, silent

How = Literal["near", "prior"]
_BATCH = 256
_MOST_TRIES = 20  # new images for each that is asked for, before it is clear that nearly all are copies


@dataclass(frozen=True)
class New:
    """New images, n of them.

    Attributes:
        pixels: uint8 (n, height, width, channels).
        labels: int64 (n,), or None.
        sources: int64 (n, 2), rows of the images they lie between, nearer to the first; None for those from the prior.
        nearest: int64 (n,), row of the training image nearest in pixels.
        pixel_distance: (n,), root mean square difference of a pixel to it, grey values from 0 to 1.
        code_distance: (n,), root mean square difference of a latent to the training image nearest in codes.
    """

    pixels: Tensor
    labels: Tensor | None
    sources: Tensor | None
    nearest: Tensor
    pixel_distance: Tensor
    code_distance: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def select(self, index: Tensor) -> New:
        chosen: dict[str, Any] = {name: None if part is None else part[index] for name, part in vars(self).items()}
        return New(**chosen)

    @classmethod
    def joined(cls, parts: list[New]) -> New:
        joined: dict[str, Any] = {}
        for name, part in vars(parts[0]).items():
            joined[name] = None if part is None else torch.cat([getattr(each, name) for each in parts])
        return cls(**joined)


@dataclass
class Augmenter:
    """Makes new images, batch by batch; count what it dropped afterwards.

    Args:
        trained: a trained model; see `vaekit.load`.
        images: n real images, from 2 up, with labels where the new ones are to have some.
        how: `near` mixes the codes of two images of a class (without labels: of any two); `prior` draws codes from the
            prior, under each class in turn where there are labels, and then from a model that reads them.
        reach: near: the largest part of the way to the other image, 0 to 0.5; at 0 only the posterior's own noise moves
            an image.
        percentile: of distances between real images; new ones nearer to one than this are dropped (`Guard`).
        seed: of everything random.
        progress: is told the fraction of the real images encoded.

    Attributes:
        guard: what drops copies.
        dropped_by_pixels: how many were too near in pixels.
        dropped_by_codes: how many others were too near in codes.

    Raises:
        InputError: for too few images, or labels that new images could not be given.
    """

    trained: Trained
    images: Images
    how: How = "near"
    reach: float = 0.5
    percentile: float = 1.0
    seed: int = 0
    progress: Progress = silent
    guard: Guard = field(init=False)
    dropped_by_pixels: int = field(default=0, init=False)
    dropped_by_codes: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        model, count = self.trained.model, len(self.images)
        self.trained.check_same("augment")
        if count < 2:
            raise InputError(f"{count} images are too few to make others from; give 2 or more")
        if self.how == "prior" and self.images.labels is not None and model.num_classes is None:
            raise InputError(
                "--how prior: the model reads no labels, so those of its new images would not be known; choose near"
            )
        if self.how == "near" and "vectors" not in model.provides:
            raise InputError("--how near: the model's codes are no vectors to mix; choose prior")
        self._codes = self.trained.codes(self.images, progress=self.progress)
        self.guard = Guard.fitted(self.images, self._codes, self.percentile)
        self._condition = self.trained.condition(self.images)
        labels = self.images.labels if self.images.labels is not None else torch.zeros(count, dtype=torch.int64)
        self._classes = {int(label): (labels == label).nonzero()[:, 0] for label in labels.unique()}

    def make(self, count: int) -> Iterator[New]:
        """New images in batches, `count` in all: each class in turn, less those that the guard drops.

        Raises:
            InputError: when nearly all are dropped.
        """
        made, tried, step = 0, 0, 0
        while made < count:
            size = min(_BATCH, count - made)
            kept = self._kept(self._batch(size, made, step))
            made, tried, step = made + len(kept), tried + size, step + 1
            if len(kept):
                yield kept
            if tried >= _BATCH and tried > _MOST_TRIES * max(made, 1):
                raise InputError(
                    f"of {tried:,} new images all but {made:,} were too near a real one; give a lower --guard, a larger "
                    "--reach, or a model that was trained on more images"
                )

    @torch.no_grad()
    def _batch(self, size: int, made: int, step: int) -> New:
        """New images that follow on `made` others, the guard's distances with them."""
        model, device = self.trained.model, self.trained.device
        noise = Noise.from_seed(self.seed, size, "augment", step)
        classes = list(self._classes)
        chosen = [classes[(made + place) % len(classes)] for place in range(size)]
        labels = torch.tensor(chosen) if self.images.labels is not None else None
        sources = None
        if self.how == "prior":
            condition = labels if model.num_classes is not None else self._any_condition(noise)
            given = None if condition is None else condition.to(device)
            there = Noise(noise.key.to(device), noise.index.to(device))
            latents = model.sample_prior(size, given, there)
        else:
            sources = self._pairs(chosen, noise)
            condition = None if self._condition is None else self._condition[sources[:, 0]]
            latents = self._between(sources, noise)
        new = self._decoded(latents, condition)
        codes = generation.encode(model, new, condition).cpu()
        pixel_distance, code_distance, row = self.guard.distances(new, codes)
        whole = new.mul(255.0).round().byte().permute(0, 2, 3, 1)
        return New(whole, labels, sources, row, pixel_distance, code_distance)

    def _decoded(self, latents: Tensor, condition: Tensor | None) -> Tensor:
        """Mean images as files will hold them: in whole grey levels."""
        return self.trained.images(latents, condition).mul(255.0).round().div(255.0)

    def _any_condition(self, noise: Noise) -> Tensor | None:
        """The conditions of real images drawn at random."""
        if self._condition is None:
            return None
        return self._condition[(noise.uniform("rows", (1,))[:, 0] * len(self.images)).long()]

    def _pairs(self, chosen: list[int], noise: Noise) -> Tensor:
        """Rows (n, 2) of two images of each class."""
        unit = noise.uniform("pairs", (2,)).double()
        rows = [
            members[(draws * len(members)).long()]
            for members, draws in zip((self._classes[label] for label in chosen), unit, strict=True)
        ]
        return torch.stack(rows)

    def _between(self, sources: Tensor, noise: Noise) -> Tensor:
        """Codes (n, latent) on the way from a posterior sample of one image to that of another, up to `reach`."""
        ends, device = [], self.trained.device
        for side in (0, 1):
            rows = sources[:, side]
            given = None if self._condition is None else self._condition[rows]
            own = Noise(noise.key ^ (side + 1), noise.index)
            batch = self.trained.data.batch(self.images, rows, own)._replace(condition=given)
            there = Batch(*(None if part is None else part.to(device) for part in batch))  # type: ignore[arg-type]  # those there stay
            ends.append(self.trained.model.draw(there, noise=Noise(own.key.to(device), there.index)).latents[0].value)
        part = self.reach * noise.uniform("way", (1,)).to(device)
        path = self.trained.model.geometry.path
        pairs = zip(ends[0].split(1), ends[1].split(1), part, strict=True)
        return torch.cat([path(start, end, weight) for start, end, weight in pairs])[:, 0]

    def _kept(self, new: New) -> New:
        near_pixels = new.pixel_distance < self.guard.least_pixels
        near_codes = new.code_distance < self.guard.least_codes
        self.dropped_by_pixels += int(near_pixels.sum())
        self.dropped_by_codes += int((near_codes & ~near_pixels).sum())
        return new.select((~(near_pixels | near_codes)).nonzero()[:, 0])


def augment(
    trained: Trained,
    images: Images,
    count: int,
    how: How = "near",
    reach: float = 0.5,
    percentile: float = 1.0,
    seed: int = 0,
) -> New:
    """`count` new images at once; see `Augmenter`."""
    return New.joined(list(Augmenter(trained, images, how, reach, percentile, seed).make(count)))
