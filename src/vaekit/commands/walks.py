"""The verbs that walk through latent space: between images, and along its axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaekit.commands.arguments import Parser
from vaekit.commands.images import inputs_of, writer
from vaekit.conditions import class_index
from vaekit.data.batches import Batch
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.generation import check_vectors, corners, encode, interpolate, prior_spread, traverse
from vaekit.models.table import Model
from vaekit.storage import load_model

_ENDINGS = (".png", ".gif", ".npy")
_FRAMES = 21  # of a walk in one direction: two seconds
_RATED = 2000  # images that rates are averaged over
_MOST_LATENTS = 12
_MOST_ROWS = 400  # of a picture


def interpolate_verb(parser: Parser, words: list[str]) -> None:
    parser.inputs(8, "number of lines, each between two images; with --corners of squares", "lines as loops")
    _steps(parser, 10, "images on each line, both ends included; along an edge of a square")
    parser.one_of(
        "--how", ("linear", "spherical"), "linear", "straight lines, or arcs that keep the length of the codes"
    )
    parser.add_argument("--corners", action="store_true", help="squares between four images each, in place of lines")
    options = parser.read(words)
    write = writer(options, _ENDINGS)
    film = _is_film(options.out)
    if options.corners and film:
        raise InputError(f"--out {options.out!r}: a square does not move; choose .png or .npy, or leave --corners out")
    if options.corners and options.how != "linear":
        raise InputError(f"--how {options.how}: squares are mixed in straight lines; leave --how or --corners out")
    steps = options.steps or (_FRAMES if film else 10)
    model, config, info = load_model(options.run)
    each = 4 if options.corners else 2
    options.count *= each
    inputs, _, condition = inputs_of(options, config, info, model)
    count = len(inputs) // each
    if count == 0:
        where = f"--images {options.images!r}" if options.images else f"--split {options.split}"
        images = "image is" if len(inputs) == 1 else "images are"
        raise InputError(f"{where}: {len(inputs)} {images} too few to walk between; give at least {each}")
    condition = condition if model.conditional else None
    if options.corners:
        fours = [torch.arange(place, each * count, count) for place in range(count)]
        squares = [corners(model, inputs[f], steps, None if condition is None else condition[f]) for f in fours]
        write(torch.stack(squares).flatten(0, 2), steps)
        return
    first, last = slice(count), slice(count, 2 * count)
    given, other = (None, None) if condition is None else (condition[first], condition[last])
    lines = interpolate(model, inputs[first], inputs[last], steps, given, other, options.how)
    write(lines.flatten(0, 1), steps, _film(lines) if film else None)


def traverse_verb(parser: Parser, words: list[str]) -> None:
    parser.inputs(1, "number of images to start from", "latents that move at once, as loops")
    parser.number("--image-index", 0, "place of the first image to start from, in the split or file", least=0)
    parser.add_argument(
        "--latents",
        metavar="N,N,...",
        help=f"numbers of latents, from 1, as figures name them [the {_MOST_LATENTS} of the highest rate]",
    )
    _steps(parser, 11, "values that each latent takes")
    parser.number("--range", 2.5, "the outermost values, in standard deviations of the prior", least=0, most=100)
    parser.add_argument("--label", metavar="CLASS", help="class to decode under, by name or number [the image's own]")
    options = parser.read(words)
    write = writer(options, _ENDINGS)
    film = _is_film(options.out)
    steps = options.steps or (_FRAMES if film else 11)
    model, config, info = load_model(options.run)
    check_vectors(model)
    label = _label(options.label, model, info)
    chosen = None if options.latents is None else _latents(options.latents, config.model.num_latents(info))

    count, first = options.count, options.image_index
    options.count = max(_RATED, first + count)
    inputs, targets, condition = inputs_of(options, config, info, model)
    if first >= len(inputs):
        raise InputError(f"--image-index {first}: there are {len(inputs)} images; give 0 to {len(inputs) - 1}")
    from vaekit.figures.codes import measure

    rated = Batch(inputs, targets, condition, None, torch.arange(len(inputs)))
    codes = measure(model, (_part(rated, part) for part in rated.index[:_RATED].split(250)))
    if chosen is None:
        chosen = codes.order[:_MOST_LATENTS].tolist()

    start = _part(rated, rated.index[first : first + count])
    latents = encode(model, start.input, start.condition)
    given = start.condition if label is None else torch.full((len(latents),), label)
    centre, scale = prior_spread(model, None if given is None or not model.conditional else given[0])
    most = min(options.range, model.geometry.farthest)
    reach = torch.linspace(-most, most, steps)
    values = centre[chosen, None] + reach * scale[chosen, None]
    walks = traverse(model, latents, torch.tensor(chosen), values, given if model.conditional else None)
    content = None
    if film:
        content = _film(walks.flatten(0, 1), len(chosen) if len(walks) > 1 else None)
    elif Path(options.out).suffix.lower() == ".png":
        content = _picture(start.target, walks, chosen, codes.rates, reach)
    rates = None if codes.rates is None else [float(codes.rates[number]) for number in chosen]
    about = {"latents": [number + 1 for number in chosen], "rate_nats": rates, "values": reach.tolist()}
    write(walks.flatten(0, 2), steps, content, **about)


def _steps(parser: Parser, default: int, help: str) -> None:
    parser.number("--steps", default, f"{help}; {_FRAMES} in a .gif", least=2, most=1000)
    parser.set_defaults(steps=None)  # so that a film can have more


def _is_film(out: str) -> bool:
    return Path(out).suffix.lower() == ".gif"


def _film(walks: Tensor, columns: int | None = None) -> bytes:
    from vaekit.figures.animations import animation

    return animation(walks, columns)


def _part(batch: Batch, index: Tensor) -> Batch:
    condition = None if batch.condition is None else batch.condition[index]
    return Batch(batch.input[index], batch.target[index], condition, None, batch.index[index])


def _label(given: str | None, model: Model, info: DataInfo) -> int | None:
    if given is None:
        return None
    if model.num_classes is None:
        raise InputError(f"--label {given}: the model is not conditional on labels; leave the label out")
    return class_index(info, given)


def _latents(text: str, num_latents: int) -> list[int]:
    """Numbers of latents, counted from 0, from a list that counts from 1."""
    numbers = []
    for word in text.split(","):
        if not word.strip().isdecimal() or not 1 <= int(word) <= num_latents:
            raise InputError(
                f"--latents {text}: {word!r} is no latent of this model; give numbers from 1 to {num_latents}"
            )
        numbers.append(int(word) - 1)
    return numbers


def _picture(targets: Tensor, walks: Tensor, chosen: list[int], rates: Any, reach: Tensor) -> bytes:
    """A labelled picture of traversals (n, latents, steps, ...)."""
    # imported late: matplotlib takes half a second, and most commands draw nothing with it
    from vaekit.figures.style import png, style
    from vaekit.figures.walks import latent_label, traversal_sheet

    if walks.shape[0] * walks.shape[1] > _MOST_ROWS or walks.shape[2] > 100:
        raise InputError(
            f"--out: {walks.shape[0] * walks.shape[1]} rows of {walks.shape[2]} images are too many for a picture; "
            "choose a smaller --count, --latents or --steps, or a .npy file"
        )
    with style():
        labels = [latent_label(number, rates) for number in chosen]
        return png(traversal_sheet("What each latent does", targets, walks, labels, reach.tolist()))
