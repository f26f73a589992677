"""Grids of what a model sees, rebuilds, restores and invents."""

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.evaluation.restoration import as_target, psnr
from vaekit.figures.sheets import columns_that_fit, sheet
from vaekit.figures.style import Drawn, shorten
from vaekit.figures.subject import Subject
from vaekit.generation import reconstruct, sample
from vaekit.models.table import code_in_words

_MOST_CLASSES = 20
_SEED = 0


def _rows(images: Tensor, columns: int) -> Tensor:
    """(n, ...) as (rows, columns, ...), leaving out what does not fill a row."""
    columns = min(columns, len(images))
    return images[: len(images) // columns * columns].unflatten(0, (-1, columns))


def inputs(subject: Subject) -> Drawn | None:
    """Images as the encoder receives them."""
    columns = columns_that_fit(subject.info.seen_shape)
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
    size = code_in_words(subject.config.model, subject.info, "number")
    code = "the mean of its posterior" if subject.model.draws_vary else "its code"
    title = f"Originals and reconstructions: {subject.split} images"
    caption = (
        "Each original with, below it, what is left after squeezing it into "
        f"{size} ({code}) and decoding again. "
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
    given = as_target(batch.input, batch.target.shape)
    parts = [_rows(part, columns) for part in (given, restored, batch.target)]
    triples = torch.stack(parts, 1).flatten(0, 1)
    notes = {}
    for block in range(len(parts[0])):
        for offset in (0, 1):
            values = psnr(parts[offset][block], parts[2][block])
            notes[3 * block + offset] = [f"{value:.1f} dB" for value in values.tolist()]
    before, after = psnr(given, batch.target).mean().item(), psnr(restored, batch.target).mean().item()
    title = f"Corrupted, restored, clean: {subject.split} images"
    caption = (
        "The model sees the top row of each block only. Below an image stands its PSNR against the clean "
        "one: the higher, the closer, and 3 dB more means half the squared error. Over these images "
        f"restoring took it from {before:.1f} to {after:.1f} dB on average"
        + (", the input enlarged to the target's size" if batch.input.shape != batch.target.shape else "")
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
    if "deterministic" in subject.model.provides:
        caption = (
            "Latents drawn from the prior and decoded; nothing was picked out. An autoencoder's codes need not follow it. "
            "A density fitted to them gives better images: vaekit fit-sampler RUN, then vaekit sample RUN --sampler mixture."
        )
    return Drawn("samples", sheet(title, _rows(images, columns)), title, caption)


def samples_like(subject: Subject) -> Drawn | None:
    """Rows of samples under the attributes of real images, for a model that reads attributes."""
    if not subject.conditional or subject.by_class or not subject.samples:
        return None
    columns = columns_that_fit(subject.info.shape, breaks=1) - 1
    batch = subject.examples(6)
    assert batch.condition is not None
    rows = [sample(subject.model, columns, given, seed=_SEED) for given in batch.condition]
    images = torch.cat([batch.target[:, None], torch.stack(rows)], 1)
    title = "New images with the attributes of real ones"
    caption = (
        "At the left a real image, beside it samples from the prior that were asked for its attributes. What the "
        "attributes say should be shared along a row; all else should vary, and be the same down a column."
    )
    return Drawn("attribute-samples", sheet(title, images, column_breaks=(1,)), title, caption)


def class_samples(subject: Subject) -> Drawn | None:
    """A row of samples for each class, for a model that reads labels."""
    if not subject.by_class or not subject.samples:
        return None
    names = [shorten(name) for name in subject.classes[:_MOST_CLASSES]]
    columns = columns_that_fit(subject.info.shape, max(names, key=len))
    rows = [sample(subject.model, columns, torch.tensor(label), seed=_SEED) for label in range(len(names))]
    title = "New images of each class: samples from the prior"
    caption = (
        "A row is a class that was asked for, a column one draw of latents: down a column the class changes "
        "while what the latents hold stays, such as slant and stroke width. A row that shows another class "
        "than its label means that the decoder does not heed the label."
        if subject.told
        else "A row is a class that was asked for. The class steers how latents are drawn and not how they are decoded, so "
        "that images of a column share nothing. A row that shows another class than its label means that the prior does "
        "not heed the label."
    )
    if len(subject.classes) > len(names):
        caption += f" The first {len(names)} of {len(subject.classes)} classes are shown."
    return Drawn("class-samples", sheet(title, torch.stack(rows), names), title, caption)
