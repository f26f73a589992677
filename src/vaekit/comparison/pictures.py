"""Pictures of several runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaekit.comparison.compare import Contestant
from vaekit.data.batches import Batch
from vaekit.errors import InputError
from vaekit.evaluation.restoration import as_target
from vaekit.figures.basics import FigureFile
from vaekit.figures.sheets import columns_that_fit, sheet
from vaekit.figures.style import FAINT, INK, PAGE, PALETTE, Drawn, new_figure, save, shorten, style, text_width
from vaekit.figures.subject import in_turn
from vaekit.generation import reconstruct, sample
from vaekit.noise import Noise, seed_key

_PANELS = (
    ("elbo_nats", "ELBO", "nats, right is better"),
    ("distortion_nats", "Distortion", "nats, left is better"),
    ("rate_nats", "Rate", "nats"),
    ("nll_nats", "NLL", "nats, left is better"),
    ("psnr_db", "PSNR", "dB, right is better"),
)
_FEW = 3  # runs of which there is room for more than one block of images


def draw_comparison(record: dict[str, Any], runs: Sequence[Contestant], folder: Path) -> list[FigureFile]:
    """Write the pictures of a comparison into a folder that exists, for `vaekit.comparison.compare`'s results."""
    made = []
    with style():
        for drawn in (differences(record), reconstructions(runs), samples(runs)):
            if drawn is not None:
                made.append(save(drawn, folder))
    return made


def _label(run: Contestant) -> str:
    return shorten(run.title, 22)


def differences(record: dict[str, Any]) -> Drawn | None:
    """Mean paired differences from the first run with their intervals, a panel for each quantity."""
    first = record["runs"][0]
    against, folders = first["name"], {run["name"]: Path(run["run"]).resolve().name for run in record["runs"]}
    rows = [one for one in record["differences"] if one["minus"] == against]
    panels = [panel for panel in _PANELS if any(one[panel[0]] and one[panel[0]]["low"] is not None for one in rows)]
    if not panels:
        return None
    labels = [shorten(f"{one['run']}  {folders[one['run']]}", 22) for one in rows]
    height = 230 + 62 * len(rows)
    figure = new_figure(PAGE, height)
    title = f"Paired differences: each run minus {against}  {shorten(folders[against], 40)}"
    figure.text(12 / PAGE, 1 - 32 / height, title, size=11, weight="bold", va="center")
    left = (max(map(text_width, labels)) + 40) / PAGE
    figure.subplots_adjust(left=left, right=0.985, top=1 - 120 / height, bottom=100 / height, wspace=0.14)
    for column, (name, heading, unit) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), column)
        axes.set_title(heading, pad=8)
        axes.set_xlabel(unit)
        axes.axvline(0.0, color=INK, linewidth=0.9)
        for place, one in enumerate(rows):
            found = one[name]
            if found is None or found["low"] is None:
                axes.text(
                    0.5, place, "none", transform=axes.get_yaxis_transform(), ha="center", va="center", color=FAINT
                )
                continue
            colour = PALETTE[0] if found["excludes_zero"] else FAINT
            axes.plot([found["low"], found["high"]], [place, place], color=colour, linewidth=2.4)
            axes.plot([found["mean"]], [place], "o", color=colour, markersize=5)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks(range(len(rows)), labels if column == 1 else [""] * len(rows))
        axes.grid(False, axis="y")
        axes.locator_params(axis="x", nbins=4)
        axes.margins(x=0.12)
    caption = (
        f"Each dot is the mean over {record['num_images']:,} {record['split']} images of a run's value minus that of run "
        f"{against} on the same image, with a 95% interval; grey where the interval holds 0, so that these images do not "
        "tell the two apart. Pairing takes out what all runs find hard or easy, so intervals are narrower than those of "
        "each run alone."
    )
    return Drawn("differences", figure, title, caption)


def _examples(run: Contestant, index: Tensor) -> Batch:
    """The images at `index`, binarized and corrupted with the noise that evaluation uses."""
    device = run.images.pixels.device
    index = index.to(device)
    key = torch.tensor(seed_key(0, "evaluate"), device=device)
    return run.config.data.batch(run.images, index, Noise(key, index))


def reconstructions(runs: Sequence[Contestant]) -> Drawn | None:
    """The same images through every run, below what each had to restore."""
    labels = [_label(run) for run in runs]
    shape = runs[0].info.shape
    columns = min(columns_that_fit(shape, max(["original", *labels], key=len)), len(runs[0].images))
    blocks = 2 if len(runs) <= _FEW and len(runs[0].images) >= 2 * columns else 1
    labelled = runs[0].images.labels
    order = in_turn(None if labelled is None else labelled.cpu(), len(runs[0].images))[: blocks * columns]
    rows: list[tuple[str, Tensor]] = []
    shown: list[Any] = []
    corruptions = {run.config.data.corruption for run in runs if run.config.data.restores}
    for run, label in zip(runs, labels, strict=True):
        batch = _examples(run, order)
        if not rows:
            rows.append(("original", batch.target))
        if run.config.data.restores and run.config.data.corruption not in shown:
            shown.append(run.config.data.corruption)
            label_of_input = "corrupted" if len(corruptions) == 1 else f"{run.name}  sees"
            rows.append((label_of_input, as_target(batch.input, batch.target.shape)))
        try:
            rows.append((label, reconstruct(run.model, batch.input, batch.condition)))
        except InputError:  # its posterior has no center, or it has no encoder
            continue
    if all(name not in labels for name, _ in rows):
        return None
    grid = torch.stack([images.cpu().unflatten(0, (blocks, columns)) for _, images in rows], 1).flatten(0, 1)
    title = "The same images through every run"
    caption = (
        "Originals, and what each run makes of them: decoded from the mean of its posterior. The images are the first of "
        "each class in turn where there are labels; nothing was picked out."
    )
    figure = sheet(title, grid, [name for name, _ in rows] * blocks, group=len(rows))
    return Drawn("reconstructions", figure, title, caption)


def samples(runs: Sequence[Contestant]) -> Drawn | None:
    """New images of every run, from the same seed."""
    labels = [_label(run) for run in runs]
    columns = columns_that_fit(runs[0].info.shape, max(labels, key=len))
    blocks = 2 if len(runs) <= _FEW else 1
    rows: list[tuple[str, Tensor]] = []
    for run, label in zip(runs, labels, strict=True):
        try:
            images = sample(run.model, blocks * columns, _asked(run, blocks * columns), seed=0)
        except InputError:  # it has no prior to sample from
            continue
        rows += [(label if block == 0 else "", part) for block, part in enumerate(images.cpu().split(columns))]
    if not rows:
        return None
    title = "New images of every run"
    caption = (
        "Latents drawn from each prior with one seed, and decoded; nothing was picked out. Runs with equal latents were "
        "given the same draws. Conditional runs are asked for each class in turn."
    )
    grid = torch.stack([images for _, images in rows])
    return Drawn("samples", sheet(title, grid, [label for label, _ in rows], group=blocks), title, caption)


def _asked(run: Contestant, count: int) -> Tensor | None:
    """Attributes to sample under: those of the first images, over and over."""
    if run.model.num_attributes is None or run.images.attributes is None:
        return None
    return run.images.attributes[torch.arange(count, device=run.images.pixels.device) % len(run.images)]
