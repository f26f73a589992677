"""A model that restores, beside the classical filters: by strength of the corruption, and in pictures."""

# ruff: noqa: RUF001 - true multiplication signs, for readers

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes

from vaekit.corruptions.chain import Chain, strength_of
from vaekit.corruptions.table import Corruption
from vaekit.data.images import Images
from vaekit.evaluation.restoration import psnr
from vaekit.evaluation.restoration_table import INPUT, MODEL, Methods, Row, levels, restored, table_rows
from vaekit.figures.sheets import columns_that_fit, sheet
from vaekit.figures.style import FAINT, MARKERS, PAGE, PALETTE, Drawn, new_figure
from vaekit.figures.subject import Subject, in_turn

_MEASURED = 200
_COLOURS = {
    MODEL: PALETTE[0],
    "bicubic": PALETTE[1],
    "median": PALETTE[2],
    "gaussian": PALETTE[3],
    "brighten": PALETTE[5],
    "back-projection": PALETTE[4],
    INPUT: FAINT,
}


def _two_parts(subject: Subject) -> tuple[Images, Images]:
    """Images to measure on, and others to choose the filters' parameters on."""
    order = in_turn(subject.images.labels, len(subject.images))
    half = min(_MEASURED, max(1, len(order) // 2))
    rest = order[half : 2 * half]
    return subject.images.select(order[:half]), subject.images.select(rest if len(rest) else order[:half])


def restoration_by_strength(subject: Subject) -> Drawn | None:
    """PSNR and SSIM of every method at several strengths; None for models that do not restore, or know one strength."""
    steps = levels(subject.data.corruption)
    if not subject.corrupted or len(steps) < 2:
        return None
    images, others = _two_parts(subject)
    rows = table_rows(subject.model, subject.data, subject.info, images, others, [one for _, one in steps])
    figure = new_figure(PAGE, 660)
    figure.subplots_adjust(left=0.06, right=0.8, top=0.8, bottom=0.16, wspace=0.22)
    title = "Restoring, by strength of the corruption"
    figure.text(0.0067, 0.95, title, size=11, weight="bold", va="center")
    for place, (name, unit) in enumerate((("psnr_db", "PSNR in dB"), ("ssim", "SSIM")), 1):
        axes = figure.add_subplot(1, 2, place)
        _lines(axes, subject, steps, rows, name)
        axes.set_title(unit, pad=10)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    trained = next(row for row in rows if row.trained)
    best = max((name for name in trained.psnr_db if name not in (INPUT, MODEL)), key=trained.psnr_db.__getitem__)
    caption = (
        f"Means over {len(images)} {subject.split} images, higher is better, at other strengths too than the one the model "
        "learned (dotted line). The one parameter of each classical filter was chosen on other images, anew for "
        f"each strength. At the strength of training the model reaches {trained.psnr_db[MODEL]:.1f} dB, the best "
        f"of the filters, {best}, {trained.psnr_db[best]:.1f} dB and the corrupted input {trained.psnr_db[INPUT]:.1f} dB."
    )
    return Drawn("restoration-by-strength", figure, title, caption)


def _lines(axes: Axes, subject: Subject, steps: list[tuple[float, Corruption]], rows: list[Row], measure: str) -> None:
    corruption = subject.data.corruption
    flag = None if isinstance(corruption, Chain) else strength_of(corruption)
    places = [factor if row.strength is None else row.strength for (factor, _), row in zip(steps, rows, strict=True)]
    for name, colour in _COLOURS.items():
        values = [getattr(row, measure).get(name) for row in rows]
        if None not in values and not (name == INPUT and "bicubic" in rows[0].parameters):  # the same line
            marker = MARKERS[list(_COLOURS).index(name)]
            dashes = "--" if name == INPUT else "-"
            width = 2.6 if name == MODEL else 1.6
            axes.plot(places, values, dashes, color=colour, marker=marker, markersize=5, linewidth=width, label=name)
    axes.set_xticks(places, [f"{place:g}" if flag else f"× {place:g}" for place in places])
    axes.set_xlabel("strength of all parts" if flag is None else flag.name.replace("_", " "))
    learned = next(place for place, row in zip(places, rows, strict=True) if row.trained)
    axes.axvline(learned, color=FAINT, linewidth=1, linestyle=":", zorder=1)


def restoration_by_method(subject: Subject) -> Drawn | None:
    """The same images restored by each method, with PSNR; None for models that do not restore."""
    if not subject.corrupted:
        return None
    images, others = _two_parts(subject)
    columns = min(len(images), columns_that_fit(subject.info.shape, "back-projection", 10))
    index = torch.arange(columns)
    batch = dataclasses.replace(subject, images=images).batch(index)
    shown = Methods.choose(subject.data, others).restore(batch)
    if smaller := batch.input.shape != batch.target.shape:  # as it is, in larger pixels
        shown[INPUT] = F.interpolate(batch.input, size=batch.target.shape[-2:], mode="nearest-exact")
    shown = {**shown, MODEL: restored(subject.model, subject.info, batch), "clean": batch.target}
    notes = {
        row: [f"{value:.1f} dB" for value in psnr(one, batch.target).tolist()]
        for row, (name, one) in enumerate(shown.items())
        if name != "clean" and not (smaller and name == INPUT)
    }
    title = f"One corruption, every method: {subject.split} images"
    caption = (
        "The same corrupted images, restored by the classical filters and by the model, with the PSNR of each. Squared "
        "error favours what is blurred: compare the strokes and edges too."
    )
    return Drawn(
        "restoration-by-method",
        sheet(title, torch.stack(list(shown.values())), list(shown), notes=notes),
        title,
        caption,
    )


RESTORATIONS = (restoration_by_strength, restoration_by_method)
