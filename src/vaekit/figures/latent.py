"""Where images lie in the latent space."""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from vaekit.figures.style import FAINT, INK, MARKERS, PALETTE, Drawn, new_figure, shorten, text_width
from vaekit.figures.subject import Subject
from vaekit.generation import encode
from vaekit.probability.latents import StandardPrior

_MOST_IMAGES, _MOST_CLASSES, _BATCH = 5000, 20, 500
_RADIUS = math.sqrt(-2.0 * math.log(0.05))  # holds 95% of a 2-D standard normal


def codes(subject: Subject) -> tuple[np.ndarray, np.ndarray | None]:
    """Posterior means (n, latent) of up to 5,000 images, and their labels (n,)."""
    assert subject.images is not None
    count = min(_MOST_IMAGES, len(subject.images))
    parts, labels = [], []
    for index in torch.arange(count).split(_BATCH):
        batch = subject.batch(index)
        parts.append(encode(subject.model, batch.input, batch.condition).flatten(1))
        labels.append(batch.condition)
    found = None if labels[0] is None else torch.cat([part for part in labels if part is not None]).numpy()
    return torch.cat(parts).numpy(), found


def scatter(subject: Subject) -> Drawn | None:
    """Posterior means in the plane: their own coordinates for 2 latents, principal components beyond."""
    if len(subject.images) < 3:
        return None
    means, labels = codes(subject)
    dimensions = means.shape[1]
    if dimensions < 2:
        return None
    if dimensions == 2:
        points, centre = means, np.zeros(2)
        names = ["first latent (z₁)", "second latent (z₂)"]
        how = "placed by their two latents"
    else:
        points, centre, names = _principal(means)
        how = f"of {dimensions} latents, seen where they spread most (two principal components)"

    wanted = labels is not None and 0 < len(subject.classes) <= _MOST_CLASSES
    longest = max((text_width(shorten(name), 9) for name in subject.classes), default=0)
    width = 1330 + max(longest, 60) if wanted else 1260
    figure = new_figure(width, 1240)
    axes = figure.add_axes((130 / width, 0.09, 1100 / width, 0.83))
    axes.set_aspect("equal", adjustable="datalim")
    standard = isinstance(getattr(subject.config.model, "prior", None), StandardPrior)
    if wanted:
        assert labels is not None
        _classes(
            axes,
            points,
            labels,
            [shorten(name) for name in subject.classes],
            label_centres=not subject.conditional,
        )
    else:
        axes.scatter(points[:, 0], points[:, 1], s=9, color=PALETTE[0], alpha=0.5, linewidths=0)
    if standard:
        axes.add_patch(
            Circle(
                (float(centre[0]), float(centre[1])),
                _RADIUS,
                fill=False,
                color=FAINT,
                linewidth=1.2,
                linestyle="--",
                zorder=4,
            )
        )
        _name_circle(axes, centre)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    title = f"Where {len(points):,} {subject.split} images lie in the latent space"
    figure.text(12 / width, 0.97, title, size=11, weight="bold", va="center")
    caption = f"Each point is one image's posterior mean, {how}" + (", coloured by class. " if wanted else ". ")
    if subject.conditional:
        caption += "The classes should lie on top of each other: "
        caption += "this model is told the class, so its latents need not hold it. "
    elif wanted:
        caption += "The model never saw the classes: islands of one colour are kinds that it found itself. "
    if standard:
        caption += (
            "The dashed circle holds 95% of the prior N(0, I): empty places inside it decode to odd samples, "
            "and images far outside it are hardly ever sampled."
        )
    return Drawn("latents", figure, title, caption.strip())


def _principal(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Points (n, 2), where the prior's centre falls (2,), and axis labels with explained variance."""
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full").fit(means)
    flip = np.sign(pca.components_[np.arange(2), np.abs(pca.components_).argmax(1)])  # an axis' sign is arbitrary
    axes = pca.components_ * flip[:, None]
    names = [
        f"{order} principal component ({share:.0%} of the variance of the means)"
        for order, share in zip(("first", "second"), pca.explained_variance_ratio_, strict=True)
    ]
    return (means - pca.mean_) @ axes.T, -pca.mean_ @ axes.T, names


def _classes(axes: Axes, points: np.ndarray, labels: np.ndarray, names: list[str], label_centres: bool) -> None:
    order = np.random.default_rng(0).permutation(len(points))  # so that no class hides another
    size = float(np.clip(60 * math.sqrt(300 / len(points)), 9, 26))
    for part in np.array_split(order, max(1, len(points) // 250)):
        for label in np.unique(labels[part]):
            chosen = part[labels[part] == label]
            axes.scatter(
                points[chosen, 0],
                points[chosen, 1],
                s=size,
                color=PALETTE[label % len(PALETTE)],
                marker=_marker(int(label)),
                alpha=0.7,
                linewidths=0,
                zorder=2,
            )
    for label, name in enumerate(names):
        axes.scatter(
            [],
            [],
            s=40,
            color=PALETTE[label % len(PALETTE)],
            marker=_marker(label),
            linewidths=0,
            label=_shown(name),
        )
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        title="class",
        alignment="left",
        handletextpad=0.3,
        labelspacing=0.7,
    )
    if label_centres:
        present = np.unique(labels)
        centres = np.array([np.median(points[labels == label], 0) for label in present])
        span = float(np.ptp(points, 0).max())
        for label, (x, y) in zip(present, _apart(centres, 0.055 * span), strict=True):
            axes.text(
                x,
                y,
                names[label],
                size=13 if len(names[label]) <= 3 else 10,
                weight="bold",
                color=PALETTE[label % len(PALETTE)],
                ha="center",
                va="center",
                zorder=6,
                path_effects=[withStroke(linewidth=3.5, foreground="white")],
            )


def _marker(label: int) -> str:
    return MARKERS[(label + label // len(PALETTE)) % len(MARKERS)]


def _apart(centres: np.ndarray, least: float) -> np.ndarray:
    """Points (n, 2) pushed apart until no two are nearer than `least`, or for 200 rounds."""
    moved = centres.copy()
    for _ in range(200):
        gaps = moved[:, None] - moved[None]
        distances = np.hypot(gaps[..., 0], gaps[..., 1]) + np.eye(len(moved)) * 2 * least
        if distances.min() >= least:
            break
        push = np.clip(least - distances, 0, None) / 4
        moved = moved + (gaps / np.maximum(distances, 1e-9)[..., None] * push[..., None]).sum(1)
    return moved


def _name_circle(axes: Axes, centre: np.ndarray) -> None:
    axes.annotate(
        "95% of the prior",
        (centre[0], centre[1] - _RADIUS),
        (0, -4),
        textcoords="offset points",
        ha="center",
        va="top",
        size=8.5,
        color=INK,
        zorder=7,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )


def _shown(name: str) -> str:
    """A legend leaves out names that are empty or begin with an underscore, unless a space comes first."""
    return " " + name if name[:1] in ("", "_") else name
