"""Grids of what a model sees, rebuilds, restores and invents."""

# ruff: noqa: RUF001 - true minus signs, for readers

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vaekit.evaluation.restoration import psnr
from vaekit.figures.grids import enlarge, to_bytes
from vaekit.figures.sheets import columns_that_fit, fit, sheet, tile_scale
from vaekit.figures.style import PAGE, Drawn, new_figure, shorten
from vaekit.figures.subject import Subject, in_turn
from vaekit.generation import interpolate, manifold, reconstruct, sample

_MOST_CLASSES = 20
_SEED = 0


def _rows(images: Tensor, columns: int) -> Tensor:
    """(n, ...) as (rows, columns, ...), leaving out what does not fill a row."""
    columns = min(columns, len(images))
    return images[: len(images) // columns * columns].unflatten(0, (-1, columns))


def inputs(subject: Subject) -> Drawn | None:
    """Images as the encoder receives them."""
    columns = columns_that_fit(subject.info.shape)
    batch = subject.examples(3 * columns)
    title = f"What the model sees: {subject.split} images"
    seen = "which the model learned from" if subject.split == "training" else "which training never saw"
    caption = f"Images of the {subject.split} split, {seen}, as the encoder receives them"
    if subject.corrupted:
        caption += ": already corrupted"
    elif subject.data.binarization.binary:
        caption += ": each pixel made black or white"
    caption += ". " + ("One class after another, over and over." if subject.images.labels is not None else "")
    return Drawn("inputs", sheet(title, _rows(batch.input, columns)), title, caption.strip())


def reconstructions(subject: Subject) -> Drawn | None:
    """Originals above their reconstructions; None for models that restore."""
    if subject.corrupted:
        return None
    columns = columns_that_fit(subject.info.shape, "reconstruction")
    batch = subject.examples(3 * columns)
    rebuilt = reconstruct(subject.model, batch.input, batch.condition)
    pairs = torch.stack([_rows(batch.target, columns), _rows(rebuilt, columns)], 1).flatten(0, 1)
    labels = ["original", "reconstruction"] * (len(pairs) // 2)
    title = f"Originals and reconstructions: {subject.split} images"
    caption = (
        "Each original with, below it, what is left after squeezing it into "
        f"{subject.config.model.latent_dim} numbers (the mean of its posterior) and decoding them again. "
        "What is lost is what the latents do not hold: fine strokes and texture go first, and blur is the "
        "decoder's average over all images that share a code."
    )
    return Drawn("reconstructions", sheet(title, pairs, labels, group=2), title, caption)


def restorations(subject: Subject) -> Drawn | None:
    """Corrupted input, restored and clean image, with PSNR; only for models that undo a corruption."""
    if not subject.corrupted:
        return None
    columns = columns_that_fit(subject.info.shape, "corrupted")
    batch = subject.examples(2 * columns)
    restored = reconstruct(subject.model, batch.input, batch.condition)
    parts = [_rows(part, columns) for part in (batch.input, restored, batch.target)]
    triples = torch.stack(parts, 1).flatten(0, 1)
    notes = {}
    for block in range(len(parts[0])):
        for offset in (0, 1):
            values = psnr(parts[offset][block], parts[2][block])
            notes[3 * block + offset] = [f"{value:.1f} dB" for value in values.tolist()]
    before, after = psnr(batch.input, batch.target).mean().item(), psnr(restored, batch.target).mean().item()
    title = f"Corrupted, restored, clean: {subject.split} images"
    caption = (
        "The model sees the top row of each block only. Below an image stands its PSNR against the clean "
        "one: the higher, the closer, and 3 dB more means half the squared error. Over these images "
        f"restoring took it from {before:.1f} to {after:.1f} dB on average"
        + (
            "."
            if after > before
            else ": lower than doing nothing. The model redraws the image from its few latents, which can "
            "look sharper and yet put strokes a little off."
        )
    )
    labels = ["corrupted", "restored", "clean"] * len(parts[0])
    return Drawn("restorations", sheet(title, triples, labels, group=3, notes=notes), title, caption)


def samples(subject: Subject) -> Drawn | None:
    """Images from the prior, for a model without labels."""
    if subject.conditional or not subject.samples:
        return None
    columns = columns_that_fit(subject.info.shape)
    images = sample(subject.model, 6 * columns, seed=_SEED)
    title = "New images: samples from the prior"
    caption = (
        "Latents drawn from the prior and decoded; nothing was picked out. Good samples need a decoder that "
        "is sharp and a prior that covers the same region as the codes of real images: where it is wider, "
        "some samples are no recognizable thing."
    )
    return Drawn("samples", sheet(title, _rows(images, columns)), title, caption)


def class_samples(subject: Subject) -> Drawn | None:
    """A row of samples for each class, for a model that reads labels."""
    if not subject.conditional or not subject.samples:
        return None
    names = [shorten(name) for name in subject.classes[:_MOST_CLASSES]]
    columns = columns_that_fit(subject.info.shape, max(names, key=len))
    rows = [sample(subject.model, columns, torch.tensor(label), seed=_SEED) for label in range(len(names))]
    title = "New images of each class: samples from the prior"
    caption = (
        "A row is a class that was asked for, a column one draw of latents: down a column the class changes "
        "while what the latents hold stays, such as slant and stroke width. A row that shows another class "
        "than its label means that the decoder does not heed the label."
    )
    if len(subject.classes) > len(names):
        caption += f" The first {len(names)} of {len(subject.classes)} classes are shown."
    return Drawn("class-samples", sheet(title, torch.stack(rows), names), title, caption)


def interpolations(subject: Subject) -> Drawn | None:
    """Lines in latent space between real images; within a class for models that read labels."""
    if len(subject.images) < 2:
        return None
    steps = max(3, columns_that_fit(subject.info.shape) - 2)
    start, end = _pairs(subject, 8)
    if len(start) == 0:
        return None
    first, last = subject.batch(start), subject.batch(end)
    lines = interpolate(subject.model, first.input, last.input, steps, first.condition)
    rows = torch.cat([first.input[:, None], lines, last.input[:, None]], 1)
    heads = ["image A", *(f"{step / (steps - 1):.0%}" for step in range(steps)), "image B"]
    title = "From one image to another"
    caption = (
        "Between two real images (outermost columns) the code moves on a straight line, and each step is "
        "decoded. A smooth change through plausible images shows that the latent space has no holes on the "
        "way" + ("; both ends are of one class, as the model is told the class." if subject.conditional else ".")
    )
    figure = sheet(title, rows, column_labels=heads, column_breaks=(1, steps + 1))
    return Drawn("interpolations", figure, title, caption)


def _pairs(subject: Subject, count: int) -> tuple[Tensor, Tensor]:
    """Positions of `count` pairs: within a class for conditional models, else of two classes."""
    images = subject.images
    assert images is not None
    order = in_class_pairs(images.labels) if subject.conditional and images.labels is not None else None
    if order is None:
        order = in_turn(images.labels, len(images))
        order = order[: len(order) // 2 * 2].view(-1, 2)
    order = order[:count]
    return order[:, 0], order[:, 1]


def in_class_pairs(labels: Tensor) -> Tensor:
    """The first two images of each class, then the next two, ...: int64 (pairs, 2).

    >>> in_class_pairs(torch.tensor([1, 0, 1, 0, 1])).tolist()
    [[1, 3], [0, 2]]
    """
    blocks = [torch.empty(0, 2, dtype=torch.int64)]
    for label in labels.unique().tolist():
        members = (labels == label).nonzero()[:, 0]
        blocks.append(members[: len(members) // 2 * 2].view(-1, 2))
    turns = range(max(map(len, blocks)))
    return torch.cat([blocks[0], *(block[turn : turn + 1] for turn in turns for block in blocks)])


def manifold_map(subject: Subject) -> Drawn | None:
    """Decoded images over a 2-D latent space; a panel a class where the model reads labels."""
    if subject.config.model.latent_dim != 2 or not subject.samples:
        return None
    chosen = _few(len(subject.classes), 4) if subject.conditional else [None]
    left, top, between, right = 150, 120, 160, 30
    across = min(len(chosen), 2)
    room = (PAGE - left - right - (across - 1) * between) // across
    height, width = fit(torch.empty(1, *subject.info.shape)).shape[-2:]
    scale = tile_scale(height, width, target=58)
    side = max(2, min(20 if across == 1 else 12, room // (width * scale + 2)))
    maps = [fit(manifold(subject.model, side, label)) for label in chosen]
    pixels = [_mosaic(to_bytes(images), side, scale) for images in maps]
    tall, wide = pixels[0].shape[:2]

    down = -(-len(maps) // across)
    page_width = left + across * wide + (across - 1) * between + right
    page_height = top + down * tall + (down - 1) * (between + 20) + 100
    figure = new_figure(page_width, page_height)
    title = "Map of the latent space"
    figure.text(12 / page_width, 1 - 32 / page_height, title, size=11, weight="bold", va="center")
    quantiles = np.linspace(0.02, 0.98, side)
    points = torch.special.ndtri(torch.from_numpy(quantiles)).numpy()
    ticks = [round(place) for place in np.linspace(0, side - 1, min(side, 5))]
    for place, (image, label) in enumerate(zip(pixels, chosen, strict=True)):
        x = left + place % across * (wide + between)
        y = top + place // across * (tall + between + 20)
        figure.figimage(image, x, page_height - y - tall)
        box = (x / page_width, 1 - (y + tall) / page_height, wide / page_width, tall / page_height)
        axes = figure.add_axes(box, facecolor="none", xlim=(-0.5, side - 0.5), ylim=(-0.5, side - 0.5))
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xticks(ticks, [f"{points[t]:.2f}".replace("-", "−") for t in ticks])
        axes.set_yticks(ticks, [f"{points[t]:.2f}".replace("-", "−") for t in ticks])
        axes.set_xlabel("first latent (z₁)")
        axes.set_ylabel("second latent (z₂)")
        if label is not None:
            axes.set_title(f"class {shorten(subject.classes[label], 30)}", pad=6)
    caption = (
        "Every place of the two-dimensional latent space, decoded. The steps hold equal shares of the prior "
        "N(0, I), so the picture shows what sampling yields, and how often."
    )
    if subject.conditional:
        caption += " The model is told the class, so the latents hold style: the same place gives the same style."
    return Drawn("manifold", figure, title, caption)


def _mosaic(pixels: np.ndarray, side: int, scale: int) -> np.ndarray:
    """(side * side, height, width, channels) as one RGB picture, with white lines two pixels wide."""
    big = np.pad(enlarge(pixels, scale), ((0, 0), (0, 2), (0, 2), (0, 0)), constant_values=255)
    _, height, width, channels = big.shape
    whole = big.reshape(side, side, height, width, channels).swapaxes(1, 2)
    whole = whole.reshape(side * height, side * width, channels)
    return whole.repeat(3, -1) if channels == 1 else whole


def _few(count: int, most: int) -> list[int | None]:
    """At most `most` numbers below `count`, evenly spread."""
    return [round(float(place)) for place in np.linspace(0, count - 1, min(count, most))]


PICTURES = (inputs, reconstructions, restorations, samples, class_samples, interpolations, manifold_map)
