"""Curves over training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from vaekit.figures.basics import BOUNDS, best_epoch
from vaekit.figures.style import FAINT, HELD_OUT, INK, PAGE, TRAIN, Drawn, new_figure
from vaekit.records import growing
from vaekit.runs import Run

_PANELS = (
    ("loss", "Loss: what was minimized"),
    ("distortion_nats", "Distortion: cost of the pixels"),
    ("rate_nats", "Rate: cost of the latents"),
)


def loss_curves(run: Run) -> Drawn | None:
    """Loss, distortion and rate over the epochs, in a panel each; None before the first epoch has ended.

    Epochs in which images still grew are left out: their nats are of fewer pixels.
    """
    every = run.metrics()
    records = [record for record in every if not growing(record)]
    if not records:
        return None
    panels = [(key, title) for key, title in _PANELS if any(r["train"].get(key) is not None for r in records)]
    figure = new_figure(PAGE, 640)
    wide = _widest(records, [key for key, _ in panels]) > 4  # such as 19000, -4000 or 0.015
    left, between = (0.082, 0.82) if wide else (0.062, 0.64)
    figure.subplots_adjust(left=left, right=0.908, top=0.8, bottom=0.16, wspace=between)
    figure.text(0.0067, 0.95, "Training, epoch by epoch", size=11, weight="bold", va="center")
    bound = run.config.objective.selects
    best = best_epoch(records, bound)
    for column, (key, title) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), column)
        axes.set_title(title, pad=10)
        axes.set_xlabel("epoch")
        if column == 1:
            axes.set_ylabel("nats per image")
        _lines(axes, records, key)
        if best is not None:
            _mark(axes, records, key, best, with_text=column == 1)
    caption = (
        "What was minimized, and its two parts: distortion is how badly the pixels are predicted, rate how "
        "much the latents say about an image. Training lines are means over an epoch"
    )
    caption += (
        f"; validation is measured after it, and the dotted line marks its best {BOUNDS[bound or 'elbo_nats']}, "
        f"epoch {best}. An orange line that turns up while the blue one falls means that the model learns its "
        "training images by heart."
        if best is not None
        else "; validation is measured after it."
        if any(record["val"] for record in records)
        else ". No images were held out for validation, so the curves cannot show overfitting."
    )
    if len(records) < len(every):
        caption += f" The first {len(every) - len(records)} epochs are left out: the images were still growing."
    return Drawn("loss", figure, "Training, epoch by epoch", caption)


def _widest(records: Sequence[dict[str, Any]], keys: Sequence[str]) -> int:
    """Most characters that the ticks of a panel need: of whole numbers, or of small ones with their decimals."""
    widest = 0
    for key in keys:
        values = [part.get(key) for record in records for part in (record["train"], record["val"]) if part]
        known = [value for value in values if value is not None and math.isfinite(value)]
        if known:
            decimals = 4 if max(map(abs, known)) < 0.1 else 0
            widest = max(widest, decimals + max(len(f"{value:.0f}") for value in known))
    return widest


def epoch_ticks(last: int) -> list[int]:
    """Round epochs from the first to the last, both included.

    >>> epoch_ticks(30)
    [1, 10, 20, 30]
    """
    step = next(size for power in range(9) for size in (10**power, 2 * 10**power, 5 * 10**power) if last / size <= 4.5)
    inner = [tick for tick in range(step, last, step) if tick > 1 and last - tick >= step / 2]
    return sorted({1, *inner, last})


def _lines(axes: Axes, records: Sequence[dict[str, Any]], key: str) -> None:
    ends = []
    for part, label, colour in (("train", "training", TRAIN), ("val", "validation", HELD_OUT)):
        points = [
            (r["epoch"], r[part][key])
            for r in records
            if r[part] and r[part].get(key) is not None and math.isfinite(r[part][key])
        ]
        if points:
            epochs, values = zip(*points, strict=True)
            few = len(points) <= 12
            axes.plot(epochs, values, color=colour, marker="o" if few else None, markersize=3.5, zorder=3)
            ends.append((values[-1], label, colour, epochs[-1]))
    last = max(r["epoch"] for r in records)
    span = max(last - 1, 1)
    axes.set_xlim(1 - 0.04 * span, last + 0.04 * span)
    axes.set_xticks(epoch_ticks(last))
    axes.margins(y=0.12)
    low, high = axes.get_ylim()
    ends.sort()
    for order, (value, label, colour, epoch) in enumerate(ends):
        close = len(ends) == 2 and abs(ends[0][0] - ends[1][0]) < 0.07 * (high - low)
        where = ("top" if order == 0 else "bottom") if close else "center"
        axes.annotate(
            label,
            (epoch, value),
            (9, 0),
            textcoords="offset points",
            color=colour,
            va=where,
            size=9,
            weight="bold",
        )


def _mark(axes: Axes, records: Sequence[dict[str, Any]], key: str, best: int, with_text: bool) -> None:
    value = next(r["val"].get(key) for r in records if r["epoch"] == best)
    axes.axvline(best, color=FAINT, linewidth=1, linestyle=":", zorder=1)
    if value is not None:
        axes.plot(
            [best],
            [value],
            "o",
            color="white",
            markeredgecolor=HELD_OUT,
            markeredgewidth=1.8,
            markersize=7,
            zorder=4,
        )
    if with_text:
        left = best > max(r["epoch"] for r in records) / 2
        axes.annotate(
            f"best: epoch {best}",
            (best, 0.97),
            (-6 if left else 6, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if left else "left",
            va="top",
            size=9,
            color=INK,
        )
