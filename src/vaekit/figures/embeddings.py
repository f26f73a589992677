"""The vectors that a model learned for its labels."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.patheffects import withStroke
from torch import nn

from vaekit.figures.latent import apart
from vaekit.figures.style import FAINT, INK, PAGE, PALETTE, Drawn, new_figure, shorten, text_width
from vaekit.figures.subject import Subject

_HEIGHT = 960
_MOST_CLASSES, _MOST_NAMED, _MOST_WRITTEN = 200, 30, 12


def label_vectors(subject: Subject) -> np.ndarray | None:
    """The vector of each class, (classes, size); None where they are not learned or given, as one-hot codes are not."""
    conditioning = getattr(subject.model, "conditioning", None)
    if not subject.by_class or not any(
        isinstance(part, nn.Embedding) for part in (conditioning or nn.Identity()).modules()
    ):
        return None
    with torch.no_grad():
        vectors = subject.model.code(torch.arange(len(subject.classes)))
    return None if vectors is None else vectors.double().numpy()


def embedding_map(subject: Subject) -> Drawn | None:
    """The classes' vectors in the plane of their two principal components, and the cosines of the angles between them."""
    vectors = label_vectors(subject)
    if vectors is None or not 3 <= len(vectors) <= _MOST_CLASSES or vectors.shape[1] < 2:
        return None
    centred = vectors - vectors.mean(0)
    names = [shorten(name, 16) for name in subject.classes]
    _, values, axes_of = np.linalg.svd(centred, full_matrices=False)
    flip = np.sign(axes_of[np.arange(2), np.abs(axes_of[:2]).argmax(1)])  # an axis' sign is arbitrary
    points = centred @ (axes_of[:2] * flip[:, None]).T
    shares = values[:2] ** 2 / max(float((values**2).sum()), 1e-30)

    title = "What the model learned of its labels"
    named = len(names) <= _MOST_NAMED
    figure = new_figure(PAGE, _HEIGHT)
    figure.text(12 / PAGE, 0.955, title, size=11, weight="bold", va="center")
    axes = figure.add_axes((0.075, 0.11, 0.42, 0.76))
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.14)
    axes.scatter(
        points[:, 0], points[:, 1], s=30, color=[PALETTE[i % len(PALETTE)] for i in range(len(points))], zorder=3
    )
    halo = [withStroke(linewidth=3, foreground="white")]
    span = float(np.ptp(points, 0).max())
    lifted = apart(points + np.array([0.0, 0.035 * span]), 0.05 * span)
    for (x, y), name in zip(lifted, names if named else [], strict=False):
        axes.text(x, y, name, size=9, ha="center", va="center", color=INK, path_effects=halo, zorder=4)
    axes.set_xlabel(f"first principal component ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second ({shares[1]:.0%})")

    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = centred @ centred.T / np.maximum(lengths * lengths.T, 1e-30)
    gutter = max(map(text_width, names)) + 20 if named else 40
    size = min(_HEIGHT - 110 - 150, PAGE - 930 - gutter - 110)
    left = 930 + gutter
    heat = figure.add_axes((left / PAGE, (_HEIGHT - 110 - size) / _HEIGHT, size / PAGE, size / _HEIGHT))
    shown = heat.imshow(cosines, cmap="PuOr_r", vmin=-1, vmax=1, interpolation="nearest")
    heat.grid(False)
    for row, column in np.ndindex(*cosines.shape) if len(names) <= _MOST_WRITTEN else ():
        dark = abs(cosines[row, column]) > 0.6
        text = f"{cosines[row, column]:.1f}".replace("-0.0", "0.0").replace("-", "−")  # noqa: RUF001
        heat.text(column, row, text, size=7.5, ha="center", va="center", color="white" if dark else INK)
    ticks = np.arange(len(names) if named else 0)
    heat.set_yticks(ticks, names[: len(ticks)])
    heat.set_xticks(ticks, names[: len(ticks)], rotation=90)
    for spine in heat.spines.values():
        spine.set_visible(False)
    heat.tick_params(length=0)
    if not named:
        heat.set_xlabel("classes, in order of their numbers")
    bar = figure.colorbar(
        shown,
        cax=figure.add_axes(((left + size + 20) / PAGE, (_HEIGHT - 110 - size) / _HEIGHT, 14 / PAGE, size / _HEIGHT)),
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_ticks([-1, 0, 1], labels=["−1", "0", "1"])  # noqa: RUF001
    bar.ax.tick_params(length=0, colors=FAINT)
    heat.set_title("cosine between two classes", pad=10, size=9)

    away = cosines - 2 * np.eye(len(cosines))
    one, other = np.unravel_index(int(away.argmax()), away.shape)
    caption = (
        f"Each class is a vector of {vectors.shape[1]} numbers, which the model reads. Left: the vectors where "
        "they spread most. Right: the cosine of the angle between two, seen from their mean; 1 is the same direction. "
        f"Closest are {names[one]} and {names[other]} ({cosines[one, other]:.2f}): what may be "
        "treated alike ends up close."
    )
    return Drawn("label-vectors", figure, title, caption)
