"""Every place of a small latent space, decoded."""

# ruff: noqa: RUF001 - true minus signs, for readers

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vaekit.figures.grids import enlarge, to_bytes
from vaekit.figures.sheets import columns_that_fit, fit, sheet, tile_scale
from vaekit.figures.style import PAGE, Drawn, blit, new_figure, shorten, text_width
from vaekit.figures.subject import Subject
from vaekit.generation import decode, manifold, prior_law, prior_quantiles

_MOST_CLASSES = 20


def manifold_map(subject: Subject) -> Drawn | None:
    """Decoded images over a space of 1 or 2 latents; a row or panel a class where the model reads labels.

    A model that reads attributes gets those of one image.
    """
    geometry = subject.model.geometry
    dimensions = geometry.dimensions(subject.config.model.num_latents(subject.info))
    if dimensions > 2 or not subject.samples:
        return None
    if dimensions == 1:
        return _line(subject)
    chosen: list[int | None] = [*_few(len(subject.classes), 4)] if subject.by_class else [None]
    left, top, between, right = 150, 120, 160, 30
    across = min(len(chosen), 2)
    room = (PAGE - left - right - (across - 1) * between) // across
    height, width = fit(torch.empty(1, *subject.info.shape)).shape[-2:]
    scale = tile_scale(height, width, target=58)
    side = max(2, min(20 if across == 1 else 12, room // (width * scale + 2)))
    given = subject.examples(1).condition
    told = chosen if subject.by_class else [None if given is None else given[0]]
    maps = [fit(manifold(subject.model, side, condition)) for condition in told]
    pixels = [_mosaic(to_bytes(images), side, scale) for images in maps]
    tall, wide = pixels[0].shape[:2]

    down = -(-len(maps) // across)
    page_width = left + across * wide + (across - 1) * between + right
    page_height = top + down * tall + (down - 1) * (between + 20) + 100
    figure = new_figure(page_width, page_height)
    title = "Map of the latent space"
    figure.text(12 / page_width, 1 - 32 / page_height, title, size=11, weight="bold", va="center")
    ticks = [round(place) for place in np.linspace(0, side - 1, min(side, 5))]
    for place, (image, label) in enumerate(zip(pixels, chosen, strict=True)):
        points = prior_quantiles(subject.model, side, _as_condition(told[place])).tolist()
        x = left + place % across * (wide + between)
        y = top + place // across * (tall + between + 20)
        blit(figure, image, x, page_height - y - tall)
        box = (x / page_width, 1 - (y + tall) / page_height, wide / page_width, tall / page_height)
        axes = figure.add_axes(box, facecolor="none", xlim=(-0.5, side - 0.5), ylim=(-0.5, side - 0.5))
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xticks(ticks, [_number(points[t][0]) for t in ticks])
        axes.set_yticks(ticks, [_number(points[t][1]) for t in ticks])
        axes.set_xlabel(geometry.names[0])
        axes.set_ylabel(geometry.names[1])
        if label is not None:
            axes.set_title(f"class {shorten(subject.classes[label], 30)}", pad=6)
    caption = (
        f"Every place of the two-dimensional latent space, decoded. {_about_steps(subject, 'N(0, I)', 'the picture')}"
    )
    if subject.by_class:
        caption += " The model is told the class, so the latents hold style: the same place gives the same style."
    elif subject.conditional:
        caption += " The model is told the attributes; here they are those of one image."
    return Drawn("manifold", figure, title, caption)


def _line(subject: Subject) -> Drawn:
    """The images along the one latent."""
    classes = _few(len(subject.classes), _MOST_CLASSES) if subject.by_class else []
    names = [shorten(subject.classes[label]) for label in classes]
    columns = columns_that_fit(subject.info.shape, max(names, key=text_width, default=""))
    given = subject.examples(1).condition
    told: list[Tensor | None] = [torch.tensor(label) for label in classes]
    told = told or [None if given is None else given[0]]
    points = [prior_quantiles(subject.model, columns, one) for one in told]
    rows = [
        decode(
            subject.model,
            subject.model.geometry.placed(latents),
            None if one is None else one.expand(columns, *one.shape),
        )
        for latents, one in zip(points, told, strict=True)
    ]
    flat = subject.model.geometry.range is None
    title = f"The latent space: a {'line' if flat else 'circle'}"
    caption = "The one latent from low to high" if flat else "Once around the circle"
    caption += f", decoded. {_about_steps(subject, 'N(0, 1)', 'the row')}"
    if names:
        caption += " The model is told the class, so the latent holds style: the same place gives the same style."
    same = all(torch.equal(one, points[0]) for one in points)
    heads = [_number(float(point)) for point in points[0][:, 0]] if same else [""] * columns
    return Drawn("manifold", sheet(title, torch.stack(rows), names, heads), title, caption)


def _as_condition(one: int | Tensor | None) -> Tensor | None:
    return None if one is None else torch.as_tensor(one)


def _about_steps(subject: Subject, prior: str, shown: str) -> str:
    """What the distances between the decoded places mean."""
    law = prior_law(subject.model)
    if law is not None:
        prior = prior if law == "normal" else "(all directions are alike)"
        return (
            f"The steps hold equal shares of the prior {prior}, so {shown} shows what sampling yields, and how often."
        )
    if subject.model.geometry.range is not None:
        return "The steps are of equal size on it, and the prior favours some places."
    return "The places spread around the prior's mean as far as the prior does, so some may be hardly ever sampled."


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _mosaic(pixels: np.ndarray, side: int, scale: int) -> np.ndarray:
    """(side * side, height, width, channels) as one RGB picture, with white lines two pixels wide."""
    big = np.pad(enlarge(pixels, scale), ((0, 0), (0, 2), (0, 2), (0, 0)), constant_values=255)
    _, height, width, channels = big.shape
    whole = big.reshape(side, side, height, width, channels).swapaxes(1, 2)
    whole = whole.reshape(side * height, side * width, channels)
    return whole.repeat(3, -1) if channels == 1 else whole


def _few(count: int, most: int) -> list[int]:
    """At most `most` numbers below `count`, evenly spread."""
    return [round(float(place)) for place in np.linspace(0, count - 1, min(count, most))]
