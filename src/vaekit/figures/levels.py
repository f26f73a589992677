"""What the levels of a model with several groups of latents do: how much each tells, and what each decides."""

from __future__ import annotations

import numpy as np
import torch

from vaekit.figures.sheets import columns_that_fit, sheet
from vaekit.figures.style import PAGE, TRAIN, Drawn, new_figure
from vaekit.figures.subject import Subject
from vaekit.generation import sample

_MOST_ROWS, _SEED = 6, 0
_COOL = 0.7


def level_rates(subject: Subject) -> Drawn | None:
    """Rate of each level from the one that is drawn first; None with one level or without rates by latent."""
    codes = subject.codes
    if codes.rates is None or len(codes.sizes) < 2:
        return None
    parts = np.split(codes.rates, np.cumsum(codes.sizes)[:-1])
    rates = np.array([part.sum() for part in parts])
    count, total = len(rates), float(rates.sum())
    title = f"Rate of each of {count} levels of latents"
    figure = new_figure(PAGE, 520)
    axes = figure.add_axes((0.07, 0.2, 0.9, 0.66))
    places = np.arange(1, count + 1)
    axes.bar(places, rates, width=0.6, color=TRAIN, zorder=2)
    if count <= 12:
        for place, rate in zip(places, rates, strict=True):
            axes.annotate(f"{rate:.2f}", (place, rate), (0, 3), textcoords="offset points", ha="center", size=8.5)
    if count <= 24:
        axes.set_xticks(places, [f"{place}\n{size:,}" for place, size in zip(places, codes.sizes, strict=True)])
    axes.set_xlim(0.4, count + 0.6)
    axes.set_ylim(0, 1.12 * max(float(rates.max()), 1e-9))
    axes.set_xlabel("level, from the one that is drawn first, and its number of latents")
    axes.set_ylabel("nats per image")
    axes.grid(axis="x", visible=False)
    figure.text(12 / PAGE, 0.94, title, size=11, weight="bold", va="center")
    first = rates[0] / total if total > 0 else 0.0
    idle = [str(place) for place, rate in zip(places, rates, strict=True) if rate < 0.01 * total]
    caption = (
        f"What each level tells of an image beyond the levels before it, KL(q‖p) in nats, averaged over "
        f"{codes.num_rated:,} {subject.split} images; together {total:.2f} nats. The first level has {first:.0%}. "
    )
    if idle:
        some = f"Level {idle[0]} tells" if len(idle) == 1 else f"Levels {', '.join(idle)} tell"
        caption += f"{some} less than a hundredth of it: the model does almost without."
    return Drawn("level-rates", figure, title, caption.strip())


def level_samples(subject: Subject) -> Drawn | None:
    """Samples of which ever more levels are drawn, the others staying at their prior's mean; None with one level.

    A model that reads labels or attributes gets those of real images, in turn.
    """
    count = subject.model.levels
    if count < 2 or not subject.samples:
        return None
    shown = sorted({round(float(place)) for place in np.linspace(1, count, min(count, _MOST_ROWS))})
    warm = [[float(number <= last) for number in range(1, count + 1)] for last in shown]
    names = ["level 1", *(f"levels 1 to {last}" for last in shown[1:-1]), "all levels", f"all at {_COOL:g}"]
    columns = columns_that_fit(subject.info.shape, max(names, key=len))
    condition = subject.examples(columns).condition if subject.conditional else None
    columns = columns if condition is None else len(condition)
    rows = [sample(subject.model, columns, condition, _SEED, temperature) for temperature in [*warm, [_COOL] * count]]
    title = "What each level decides: samples, drawn level by level"
    caption = (
        "In the first row only level 1 is drawn from the prior and the levels after it stay at their mean given those "
        "before (temperature 0); each further row draws more levels, those above keeping their draw. What changes down a "
        "column is what those levels decide: the first ones the kind and the shape of the whole, the last ones strokes and "
        "texture. Where two rows hardly differ, the levels between decide little. The last row draws all levels at "
        f"temperature {_COOL:g}: more typical images, and less varied ones."
    )
    if subject.conditional:
        caption += f" Each column has the {'label' if subject.by_class else 'attributes'} of a real image."
    return Drawn("level-samples", sheet(title, torch.stack(rows), names), title, caption)
