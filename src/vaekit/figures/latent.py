"""Where images lie in the latent space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from vaekit.figures.style import FAINT, INK, MARKERS, PALETTE, Drawn, new_figure, shorten, text_width
from vaekit.figures.subject import Subject
from vaekit.generation import prior_law

_MOST_CLASSES = 20
_MOST_COMPARED = 2000
_RADIUS = math.sqrt(-2.0 * math.log(0.05))  # holds 95% of a 2-D standard normal


@dataclass(frozen=True)
class Plane:
    """Images as points in a plane.

    Attributes:
        points: (n, 2), of the first n images.
        names: of the two axes; empty where directions mean nothing.
        how: what the places are, for a caption.
        centre: (2,), where the prior's mean falls; None where the prior has no place in the plane.
    """

    points: np.ndarray
    names: tuple[str, ...]
    how: str
    centre: np.ndarray | None


def plane(subject: Subject) -> Plane | None:
    """The images by their own two latents, or beyond two by principal components; None with one latent or few images."""
    if len(subject.images) < 3:
        return None
    means, geometry = drawn(subject), subject.model.geometry
    dimensions = means.shape[1]
    if dimensions < 2:
        return None
    standard = prior_law(subject.model) == "normal"
    if dimensions == 2:
        how = "placed by their two latents"
        if geometry.range is not None:
            how = "placed on the unrolled sphere, where equal areas stay equal"
        return Plane(means, geometry.names, how, np.zeros(2) if standard else None)
    points, centre, axes = _principal(means)
    how = f"of {subject.code_size}, seen where they spread most (two principal components)"
    return Plane(points, tuple(axes), how, centre if standard else None)


def drawn(subject: Subject) -> np.ndarray:
    """The codes at the coordinates of figures, (n, m)."""
    return subject.model.geometry.drawn(torch.from_numpy(subject.codes.means)).numpy()


def coloured(subject: Subject) -> bool:
    """Whether there are classes, and few enough to tell apart."""
    return subject.codes.labels is not None and 0 < len(subject.classes) <= _MOST_CLASSES


def scatter(subject: Subject) -> Drawn | None:
    """Posterior means in the plane: their own coordinates for 2 latents, principal components beyond."""
    found = plane(subject)
    if found is None:
        return None
    title = f"Where {len(found.points):,} {subject.split} images lie in the latent space"
    figure = dots(subject, found, title)
    caption = f"Each point is one image's {subject.code_name}, {found.how}"
    caption += ", coloured by class. " if coloured(subject) else ". "
    caption += about_classes(subject)
    if found.centre is not None:
        caption += (
            "The dashed circle holds 95% of the prior N(0, I): empty places inside it decode to odd samples, "
            "and images far outside it are hardly ever sampled. "
        )
    caption += subject.model.geometry.note
    return Drawn("latents", figure, title, caption.strip())


def dots(subject: Subject, found: Plane, title: str) -> Figure:
    """A figure of points, coloured by class where there are classes."""
    labels = subject.codes.labels
    wanted = coloured(subject)
    width = 1260 + (legend_width(subject) if wanted else 0)
    figure = new_figure(width, 1240)
    axes = figure.add_axes(
        (130 / width, 0.09, 1100 / width, 0.83) if found.names else (40 / width, 0.02, 1190 / width, 0.9)
    )
    axes.set_aspect("equal", adjustable="datalim")
    if wanted:
        assert labels is not None
        names = [shorten(name) for name in subject.classes]
        _classes(axes, found.points, labels[: len(found.points)], names, label_centres=not subject.told)
    else:
        axes.scatter(found.points[:, 0], found.points[:, 1], s=9, color=PALETTE[0], alpha=0.5, linewidths=0)
    if found.centre is not None:
        place = (float(found.centre[0]), float(found.centre[1]))
        axes.add_patch(Circle(place, _RADIUS, fill=False, color=FAINT, linewidth=1.2, linestyle="--", zorder=4))
        _name_circle(axes, found.centre)
    if found.names:
        axes.set_xlabel(found.names[0])
        axes.set_ylabel(found.names[1])
    else:
        axes.set_axis_off()
    figure.text(12 / width, 0.97, title, size=11, weight="bold", va="center")
    return figure


def legend_width(subject: Subject) -> int:
    """Pixels that a legend of the classes takes."""
    return 120 + max(60, *(text_width(shorten(name), 9) for name in subject.classes))


def neighbours(subject: Subject) -> tuple[float, float] | None:
    """Share of images whose nearest other code is of their class, and what chance would give.

    None without classes, or where codes do not differ.
    """
    codes, labels = subject.codes, subject.codes.labels
    differ = codes.active.any() if "vectors" in subject.model.provides else codes.means.std(0).any()  # of any scale
    if labels is None or len(subject.classes) < 2 or not differ:
        return None
    means, labels = subject.codes.means[:_MOST_COMPARED].astype(np.float64), labels[:_MOST_COMPARED]
    squares = (means**2).sum(1)
    distances = squares[:, None] + squares[None] - 2.0 * means @ means.T
    np.fill_diagonal(distances, np.inf)
    same = float((labels[distances.argmin(1)] == labels).mean())
    shares = np.bincount(labels) / len(labels)
    return same, float((shares**2).sum())


def about_classes(subject: Subject) -> str:
    """What the classes' places say of this model, with its own numbers."""
    found = neighbours(subject)
    if found is None:
        return ""
    if subject.told:
        text = (
            "The classes should lie on top of each other: this model is told the class, so its latents need not hold it"
        )
    elif subject.by_class:
        text = "The encoder never saw the classes, which the prior alone reads"
    elif coloured(subject):
        text = "The model never saw the classes: islands of one colour are kinds that it found itself"
    else:
        text = "The model never saw the classes"
    return (
        f"{text}. For {found[0]:.0%} of the images the nearest other code is of the same class; "
        f"chance gives {found[1]:.0%}. "
    )


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
                marker=marker(int(label)),
                alpha=0.7,
                linewidths=0,
                zorder=2,
            )
    class_legend(axes, names)
    if label_centres:
        present = np.unique(labels)
        centres = np.array([np.median(points[labels == label], 0) for label in present])
        span = float(np.ptp(points, 0).max())
        for label, (x, y) in zip(present, apart(centres, 0.055 * span), strict=True):
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


def class_legend(axes: Axes, names: list[str]) -> None:
    """The classes' colours and markers, to the right of the axes."""
    for label, name in enumerate(names):
        colour = PALETTE[label % len(PALETTE)]
        axes.scatter([], [], s=40, color=colour, marker=marker(label), linewidths=0, label=_shown(name))
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        borderaxespad=2.0,
        title="class",
        alignment="left",
        handletextpad=0.3,
        labelspacing=0.7,
    )


def marker(label: int) -> str:
    """A class's marker: with the colour it names one of a hundred classes."""
    return MARKERS[(label + label // len(PALETTE)) % len(MARKERS)]


def apart(centres: np.ndarray, least: float) -> np.ndarray:
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
