"""The latent space of a single latent: a line."""

from __future__ import annotations

import math

import numpy as np

from vaekit.figures.latent import about_classes, coloured, drawn
from vaekit.figures.style import FAINT, PAGE, PALETTE, Drawn, new_figure, shorten, text_width
from vaekit.figures.subject import Subject
from vaekit.generation import prior_law

_BAR, _CURVE = 0.88, 0.5  # highest places of a row's histogram and of the prior, in rows


def histogram(subject: Subject) -> Drawn | None:
    """Where images lie on the line of a single latent, a row for each class; None beyond one latent."""
    if len(subject.images) < 3 or (places := drawn(subject)).shape[1] != 1:
        return None
    means, labels = places[:, 0], subject.codes.labels
    geometry = subject.model.geometry
    kinds = range(len(subject.classes)) if coloured(subject) else [None]
    low, high = min(-3.0, float(means.min())), max(3.0, float(means.max()))
    if geometry.range is not None:
        low, high = geometry.range[0]
    bins = np.linspace(low, high, 61)
    height = 240 + max(70 * len(kinds), 300)
    left = 150 + max((text_width(shorten(name)) for name in subject.classes if len(kinds) > 1), default=0)
    figure = new_figure(PAGE, height)
    title = (
        f"Where {len(means):,} {subject.split} images lie on the {'one latent' if geometry.range is None else 'circle'}"
    )
    figure.text(12 / PAGE, 1 - 32 / height, title, size=11, weight="bold", va="center")
    axes = figure.add_axes((left / PAGE, 110 / height, (PAGE - left - 40) / PAGE, (height - 210) / height))
    width = bins[1] - bins[0]
    middles = (bins[1:] + bins[:-1]) / 2
    normal = np.exp(-0.5 * middles**2) / math.sqrt(2 * math.pi)
    counts = [np.histogram(means if kind is None else means[labels == kind], bins)[0] for kind in kinds]
    density = [count / max(count.sum(), 1) / width for count in counts]
    standard = prior_law(subject.model) == "normal"
    for row, (kind, values) in enumerate(zip(kinds, density, strict=True)):
        base = float(len(kinds) - 1 - row)
        colour = PALETTE[(kind or 0) % len(PALETTE)]
        axes.fill_between(
            middles,
            base,
            base + _BAR * values / max(float(values.max()), 1e-9),
            step="mid",
            color=colour,
            alpha=0.75,
            linewidth=0,
        )
        if standard:
            axes.plot(middles, base + _CURVE * normal / float(normal.max()), color=FAINT, linestyle="--", linewidth=1)
    axes.set_xlim(low, high)
    axes.set_ylim(0, len(kinds))
    axes.set_xlabel("the latent (z₁)" if geometry.range is None else geometry.names[0])
    names = [shorten(name) for name in subject.classes][::-1] if len(kinds) > 1 else []
    axes.set_yticks(np.arange(len(names)) + 0.2, names)
    axes.tick_params(axis="y", length=0, labelsize=9.5)
    axes.grid(axis="y", visible=False)
    caption = "How the images' posterior means are spread" + (", class by class. " if names else ". ")
    caption += "Heights are scaled row by row. " if names else ""
    caption += about_classes(subject)
    if standard:
        caption += "The dashed curve is the prior N(0, 1): where it is high and no image lies, samples are odd."
    elif prior_law(subject.model) == "uniform":
        caption += "The prior is uniform on the circle: where no image lies, samples are odd."
    return Drawn("latents", figure, title, caption.strip())
