"""Animated GIFs: crisp pixels, few colours, an endless loop."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from torch import Tensor

from vaekit.figures.grids import image_grid

FRAME_MS = 80  # 12.5 frames a second: GIF counts in hundredths
_HOLD = 5  # frames that the two ends of a walk stand still
_TILE = 84  # pixels that an image's longer side should have
_LOOP_TILE = 256  # the same of a film of one image
_LEAST_MS = 20  # browsers slow down what is faster
_PALETTE_PIXELS = 512 * 512


def there_and_back(count: int) -> list[int]:
    """Numbers of `count` frames in the order of a loop that walks there and back and rests at both ends.

    >>> there_and_back(3)
    [0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 1]
    """
    if count < 2:
        return list(range(count))
    return [*[0] * _HOLD, *range(1, count - 1), *[count - 1] * _HOLD, *range(count - 2, 0, -1)]


def animation(walks: Tensor, columns: int | None = None, scale: int | None = None) -> bytes:
    """A looping GIF of walks that move side by side, there and back.

    Grey pixels are kept as they are; colours are reduced to 256 for the whole film, without dithering.

    Args:
        walks: float (n, steps, channels, height, width) in [0, 1].
        columns: walks in a row; None makes the grid about square.
        scale: each pixel becomes a square of so many; None makes the longer side about 84 pixels.

    Returns:
        The file's content.
    """
    scale = scale or max(1, round(_TILE / max(walks.shape[-2:])))
    grids = [image_grid(walks[:, step], columns, scale) for step in range(walks.shape[1])]
    return _film(grids, there_and_back(len(grids)), FRAME_MS)


def loop(images: Tensor, frame_ms: int = FRAME_MS, scale: int | None = None) -> bytes:
    """A looping GIF of images (n, channels, height, width) in [0, 1], one after another; see `animation`."""
    scale = scale or max(1, round(_LOOP_TILE / max(images.shape[-2:])))
    grids = [image_grid(images[place : place + 1], 1, scale) for place in range(len(images))]
    return _film(grids, list(range(len(grids))), max(_LEAST_MS, frame_ms))


def _film(grids: list[Image.Image], order: list[int], frame_ms: int) -> bytes:
    """The file that shows grids in some order, each for so long."""
    if grids[0].mode == "RGB":
        grids = _few_colours(grids)
    frames: list[Image.Image] = []
    durations: list[int] = []
    for place, number in enumerate(order):  # a frame that stays is shown longer, and stored once
        if place and number == order[place - 1]:
            durations[-1] += frame_ms
        else:
            frames.append(grids[number])
            durations.append(frame_ms)
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False, disposal=1
    )
    return file.getvalue()


def _few_colours(frames: list[Image.Image]) -> list[Image.Image]:
    """RGB frames in one palette of 256 colours, so that what stands still does not flicker."""
    pixels = np.concatenate([np.asarray(frame).reshape(-1, 3) for frame in frames])
    chosen = pixels[:: max(1, len(pixels) // _PALETTE_PIXELS)]
    side = int(np.sqrt(len(chosen)))
    sheet = Image.fromarray(np.ascontiguousarray(chosen[: side * side].reshape(side, side, 3)))
    palette = sheet.quantize(256, Image.Quantize.MEDIANCUT)
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
