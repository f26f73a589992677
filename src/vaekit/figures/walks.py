"""Walks through the latent space: traversals, lines and arcs, squares, and the same code under every class."""

# ruff: noqa: RUF001 - true minus signs, for readers

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaekit.errors import InputError
from vaekit.figures.sheets import columns_that_fit, sheet
from vaekit.figures.style import Drawn, shorten, text_width
from vaekit.figures.subject import Subject, in_turn
from vaekit.generation import corners, decode, encode, interpolate, prior_spread, transfer_style, traverse
from vaekit.paths import lerp, slerp

_MOST_LATENTS, _REACH = 12, 2.5
_LOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def latent_name(number: int) -> str:
    """A latent as it is written: numbers count from 1.

    >>> latent_name(11)
    'z₁₂'
    """
    return f"z{str(number + 1).translate(_LOW)}"


def latent_label(number: int, rates: np.ndarray | None) -> str:
    """A latent's name, with its rate where there is one."""
    return latent_name(number) + ("" if rates is None else f"  {rates[number]:.2f} nats")


def signed(value: float) -> str:
    """A number with a true minus sign and as few digits as it needs.

    >>> signed(-2.5), signed(0.0)
    ('−2.5', '0')
    """
    text = f"{value + 0.0:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text.replace("-", "−")


def traversals(subject: Subject) -> Drawn | None:
    """One image's code, with one latent at a time moved through the prior: a row each, from the highest rate."""
    codes = subject.codes
    batch = subject.examples(1)
    start = encode(subject.model, batch.input, batch.condition)
    if start.dim() != 2:
        return None
    worth = max(2, int(codes.active.sum()) + 1)  # those in use, and one that is not
    chosen = codes.order[: min(worth, _MOST_LATENTS)]
    labels = [latent_label(int(number), codes.rates) for number in chosen]
    steps = columns_that_fit(subject.info.shape, max(labels, key=len), most=12, breaks=1) - 1
    steps = max(3, steps - (steps % 2 == 0))
    try:
        centre, scale = prior_spread(subject.model, None if batch.condition is None else batch.condition[0])
        unit = "standard deviations of the prior"
    except InputError:  # a plain autoencoder has no prior
        centre, scale = (torch.from_numpy(part(codes.means, axis=0)) for part in (np.mean, np.std))
        unit = "standard deviations of the codes"
    geometry = subject.model.geometry
    most = min(_REACH, geometry.farthest)
    reach = torch.linspace(-most, most, steps)
    picked = torch.from_numpy(chosen.copy())
    values = centre[picked, None] + reach * scale[picked, None]
    walks = traverse(subject.model, start, picked, values, batch.condition)
    title = "What each latent does"
    caption = (
        f"The code of the {subject.split} image at the left, with one latent at a time set to values from "
        f"{signed(-most)} to {signed(most)} {unit}, all others kept"
    )
    if subject.conditional:
        caption += f", under the image's own {'class' if subject.by_class else 'attributes'}"
    caption += ". "
    if len(chosen) > 1:
        caption += (
            "Rows are in order of rate" if codes.rates is not None else "Rows are in order of how far codes spread"
        )
        caption += (
            f": the first {len(chosen)} of {codes.means.shape[1]}. " if len(chosen) < codes.means.shape[1] else ". "
        )
    caption += (
        "A row that changes one property only is a latent that can be named; a row that does not change is unused. "
    )
    caption += geometry.note
    figure = traversal_sheet(title, batch.target, walks, labels, reach.tolist())
    return Drawn("traversals", figure, title, caption.strip())


def traversal_sheet(
    title: str, targets: Tensor, walks: Tensor, labels: Sequence[str], values: Sequence[float]
) -> Figure:
    """A figure of `traverse`'s images (n, latents, steps, ...) of targets (n, ...): beside an image, a row a latent."""
    originals = targets[:, None, None].expand(*walks.shape[:2], 1, *targets.shape[1:])
    rows = torch.cat([originals, walks], 2).flatten(0, 1)
    heads = ["image", *(signed(value) for value in values)]
    return sheet(title, rows, [*labels] * len(walks), heads, group=len(labels), column_breaks=(1,))


def interpolations(subject: Subject) -> Drawn | None:
    """Between real images, straight and on an arc; within a class for models that read labels."""
    if len(subject.images) < 2:
        return None
    start, end = _pairs(subject, 5)
    if len(start) == 0:
        return None
    first, last = subject.batch(start), subject.batch(end)
    ends = encode(subject.model, first.input, first.condition), encode(subject.model, last.input, last.condition)
    geometry = subject.model.geometry
    curved = geometry.straight and ends[0].dim() == 2 and ends[0].shape[1] > 1
    steps = max(3, columns_that_fit(subject.info.shape, "straight" if curved else "", breaks=2) - 2)
    ways = ("linear", "spherical") if curved else ("linear",)
    lines = [
        interpolate(subject.model, first.input, last.input, steps, first.condition, last.condition, how)  # type: ignore[arg-type]
        for how in ways
    ]
    rows = torch.stack(
        [torch.cat([first.target[:, None], line, last.target[:, None]], 1) for line in lines], 1
    ).flatten(0, 1)
    heads = ["image A", *(f"{step / (steps - 1):.0%}" for step in range(steps)), "image B"]
    title = "From one image to another"
    caption = (
        "Between two real images (outermost columns) the code moves in even steps, and each is decoded. "
        "A smooth change through plausible images shows that the latent space has no holes on the way"
        + ("; both ends are of one class, as the model is told the class. " if subject.told else ". ")
    )
    if not geometry.straight:
        caption += f"Each goes the shortest way {geometry.way}, evenly."
    if curved:
        half = torch.tensor([0.5])
        lengths = [
            side.norm(dim=1).mean().item() for side in (*ends, lerp(*ends, half)[:, 0], slerp(*ends, half)[:, 0])
        ]
        ends_mean = (lengths[0] + lengths[1]) / 2
        if lengths[2] < 0.95 * ends_mean:
            caption += (
                f"A straight line cuts the corner: these codes have a mean length of {ends_mean:.2f}, the middles of the "
                f"lines {lengths[2]:.2f}. The arc turns evenly and keeps the length ({lengths[3]:.2f}). That matters with "
                "many latents, where nearly all codes lie far from the origin and short ones decode to washed-out averages."
            )
        else:
            caption += "The arc keeps the length of the codes; here they point one way, so that both walks look alike."
    labels = ["straight", "arc"] * len(start) if curved else []
    figure = sheet(title, rows, labels, heads, group=2 if curved else 0, column_breaks=(1, steps + 1))
    return Drawn("interpolations", figure, title, caption.strip())


def four_corners(subject: Subject) -> Drawn | None:
    """A square between four real images."""
    four = _four(subject)
    if four is None:
        return None
    batch = subject.batch(four)
    side = max(3, min(8, columns_that_fit(subject.info.shape, breaks=2) - 2))
    inner = corners(subject.model, batch.input, side, batch.condition)
    edges = torch.ones(2, side, *batch.target.shape[1:])
    for place, target in enumerate(batch.target):
        edges[place % 2, (side - 1) * (place // 2)] = target
    rows = torch.cat([edges[0][:, None], inner, edges[1][:, None]], 1)
    title = "Between four images"
    caption = (
        "Four real images stand outside; their codes are the corners of the square, and every place between is a mixture "
        "of the four, weighted by nearness, and decoded. "
    )
    caption += (
        f"All four are of class {subject.classes[int(batch.condition[0])]}, as the model is told the class."
        if subject.told and batch.condition is not None
        else "Watch where one kind of image turns into another: gradually, or at an edge."
    )
    return Drawn("corners", sheet(title, rows, column_breaks=(1, side + 1)), title, caption)


def style_transfer(subject: Subject) -> Drawn | None:
    """Images encoded under their own class and decoded under every class."""
    if not subject.told or subject.corrupted or len(subject.classes) < 2:
        return None
    room = columns_that_fit(subject.info.shape, breaks=1) - 1
    shown = min(len(subject.classes), room)
    batch = subject.examples(min(8, len(subject.images)))
    assert batch.condition is not None
    moved = transfer_style(subject.model, batch.input, batch.condition)[:, :shown]
    rows = torch.cat([batch.target[:, None], moved], 1)
    width = sheet("", rows[:1]).bbox.width / (shown + 1)
    heads = ["image", *(_fitting(name, width) for name in subject.classes[:shown])]
    title = "The same style, every class"
    caption = (
        "Each image is encoded under its own class, and its latents are decoded under every class. What a row keeps is "
        "what the latents hold: for digits the handwriting, its slant and stroke width. A column whose images differ from "
        "its class means that the latents still hold the class."
    )
    if shown < len(subject.classes):
        caption += f" The first {shown} of {len(subject.classes)} classes are shown."
    return Drawn("style-transfer", sheet(title, rows, column_labels=heads, column_breaks=(1,)), title, caption)


def attribute_changes(subject: Subject) -> Drawn | None:
    """One image's code decoded with one attribute at a time from the lowest to the highest seen; None without attributes."""
    attributes = subject.images.attributes
    model = subject.model
    if model.num_attributes is None or not model.code_is_told or attributes is None or subject.corrupted:
        return None
    names = [shorten(name) for name in subject.info.attribute_names[:_MOST_LATENTS]]
    batch = subject.examples(1)
    assert batch.condition is not None
    steps = columns_that_fit(subject.info.shape, max(names, key=text_width), most=9, breaks=1) - 1
    code = encode(subject.model, batch.input, batch.condition).expand(steps, -1)
    rows = []
    for place in range(len(names)):
        known = attributes[:, place][~attributes[:, place].isnan()]
        given = batch.condition.repeat(steps, 1)
        if len(known):
            given[:, place] = torch.linspace(float(known.min()), float(known.max()), steps)
        rows.append(torch.cat([batch.target, decode(subject.model, code, given)]))
    heads = ["image", *(f"{step / (steps - 1):.0%}" for step in range(steps))]
    title = "What each attribute does"
    caption = (
        f"The code of the {subject.split} image at the left, decoded with one attribute at a time moved from its lowest "
        "to its highest value among these images, all others as they are. A row that does not change means that the "
        "decoder does not heed the attribute, or that the latents hold it too."
    )
    if len(names) < len(subject.info.attribute_names):
        caption += f" The first {len(names)} of {len(subject.info.attribute_names)} attributes are shown."
    return Drawn("attributes", sheet(title, torch.stack(rows), names, heads, column_breaks=(1,)), title, caption)


def _fitting(name: str, width: float) -> str:
    """A name cut to so many pixels."""
    length = len(name)
    while length > 2 and text_width(shorten(name, length), 8.5) > width:
        length -= 1
    return shorten(name, length)


def _pairs(subject: Subject, count: int) -> tuple[Tensor, Tensor]:
    """Positions of `count` pairs: within a class for models that read labels, else of two classes."""
    images = subject.images
    order = in_class_pairs(images.labels) if subject.told and images.labels is not None else None
    if order is None:
        order = in_turn(images.labels, len(images))
        order = order[: len(order) // 2 * 2].view(-1, 2)
    order = order[:count]
    return order[:, 0], order[:, 1]


def _four(subject: Subject) -> Tensor | None:
    """Positions of four images: of one class for models that read labels, else of four; None where there are not four."""
    labels = subject.images.labels
    if not subject.told or labels is None:
        order = in_turn(labels, len(subject.images))[:4]
        return order if len(order) == 4 else None
    counts = torch.bincount(labels)
    if int(counts.max()) < 4:
        return None
    first = int((counts >= 4).nonzero()[0, 0])
    return (labels == first).nonzero()[:4, 0]


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
