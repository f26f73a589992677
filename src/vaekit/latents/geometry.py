"""What a space of latents means for whoever walks in it: the chart that a decoder reads, lines, and moves of one latent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaekit.paths import lerp, slerp


class Geometry:
    """Euclidean space; base of the others.

    Attributes:
        kind: the name of the space.
        straight: whether `path` has two ways, lines and arcs; else there is one shortest way.
        range: lowest and highest value of each axis of figures, where steps of one size hold equal parts of the space; None
            where it is unbounded.
        farthest: the largest value that one latent can take, in standard deviations of the standard prior.
        way: how figures call the shortest way.
        note: a sentence for captions of walks in it, or nothing.
        names: of the axes of figures, as far as `drawn` has them.
    """

    kind = "euclidean"
    straight = True
    range: tuple[tuple[float, float], ...] | None = None
    farthest = math.inf
    way = ""
    note = ""
    names: tuple[str, ...] = ("first latent (z₁)", "second latent (z₂)")

    def chart(self, latents: Tensor) -> Tensor:
        """Coordinates (..., latent) that the decoder reads."""
        return latents

    def point(self, chart: Tensor) -> Tensor:
        """The latents (..., latent) at such coordinates."""
        return chart

    def dimensions(self, num_latents: int) -> int:
        """Of the space itself, which lies among so many latents."""
        return num_latents

    def drawn(self, chart: Tensor) -> Tensor:
        """Coordinates (n, m) at which figures place codes; fewer than latents where the space has fewer dimensions."""
        return chart

    def placed(self, drawn: Tensor) -> Tensor:
        """The latents at coordinates of figures; the inverse of `drawn`."""
        return self.point(drawn)

    def path(self, start: Tensor, end: Tensor, weights: Tensor, how: str = "linear") -> Tensor:
        """Ways from `start` to `end`, (n, latent) each, at `weights` (steps,): (n, steps, latent)."""
        return slerp(start, end, weights) if how == "spherical" else lerp(start, end, weights)

    def moved(self, latents: Tensor, chosen: Tensor, values: Tensor) -> Tensor:
        """Latents (latent,) with each of `chosen` (k,) alone set to its `values` (k, steps): (k, steps, latent)."""
        chart = self.chart(latents).repeat(*values.shape, 1)
        chart[torch.arange(len(chosen)), :, chosen] = values.to(chart)
        return self.point(chart)

    def tempered(self, latents: Tensor, temperature: float) -> Tensor:
        """Samples of the prior (n, latent) brought closer to its centre, or further away, by a factor of distance.

        Raises:
            InputError: in a space without a centre.
        """
        return self.point(temperature * self.chart(latents))


EUCLIDEAN = Geometry()
