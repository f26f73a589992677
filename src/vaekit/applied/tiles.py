"""Images larger than a model's: cut into overlapping tiles, which are put together under a smooth window."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vaekit.files.decode import Rule, fitted

Function = Callable[[np.ndarray], np.ndarray]
_LEAST_WEIGHT = 1e-3  # of the window at a tile's border, so that the border of an image has a weight too


def starts(side: int, tile: int) -> list[int]:
    """Where tiles begin along a side: evenly spread, the first and the last at its ends, half of each under the next.

    >>> starts(64, 32), starts(33, 32), starts(20, 32)
    ([0, 16, 32], [0, 1], [0])
    """
    if side <= tile:
        return [0]
    count = math.ceil((side - tile) / max(1, tile // 2)) + 1
    return [round(place * (side - tile) / (count - 1)) for place in range(count)]


def window(height: int, width: int) -> np.ndarray:
    """Weights (height, width) that fall smoothly towards the border, as half a period of a squared sine does."""
    down, across = (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in (height, width))
    return np.maximum(np.outer(down, across), _LEAST_WEIGHT).astype(np.float32)


def in_tiles(
    pixels: np.ndarray, tile: tuple[int, int], function: Function, factor: int = 1, size: int = 64
) -> np.ndarray:
    """`function` of an image of any size, applied tile by tile.

    Sides shorter than a tile's are first mirrored at their ends, and cut again.

    Args:
        pixels: uint8 (height, width, channels).
        tile: height and width that the function takes.
        function: tiles uint8 (n, *tile, channels) to float32 (n, factor * height, factor * width, k).
        factor: by which the function enlarges.
        size: tiles at once.

    Returns:
        float32 (factor * height, factor * width, k): means of the tiles' values, weighted by the window.
    """
    height, width = pixels.shape[:2]
    missing = [(0, max(0, needed - side)) for side, needed in zip((height, width), tile, strict=True)]
    padded = np.pad(pixels, (*missing, (0, 0)), mode="symmetric")
    corners = [(top, left) for top in starts(padded.shape[0], tile[0]) for left in starts(padded.shape[1], tile[1])]
    weight = window(factor * tile[0], factor * tile[1])[..., None]
    total, weights = None, np.zeros((factor * padded.shape[0], factor * padded.shape[1], 1), np.float32)
    for first in range(0, len(corners), size):
        chosen = corners[first : first + size]
        cut = np.stack([padded[top : top + tile[0], left : left + tile[1]] for top, left in chosen])
        for (top, left), made in zip(chosen, function(cut), strict=True):
            if total is None:
                total = np.zeros((*weights.shape[:2], made.shape[-1]), np.float32)
            place = np.s_[factor * top : factor * (top + tile[0]), factor * left : factor * (left + tile[1])]
            total[place] += weight * made
            weights[place] += weight
    assert total is not None
    return (total / weights)[: factor * height, : factor * width]


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 (h, w, channels) in [0, 1] brought to (height, width, channels), stretched, by Lanczos resampling."""
    if pixels.shape[:2] == (height, width):
        return pixels
    rule = Rule(height, width, 1, "stretch")
    planes = [fitted(np.ascontiguousarray(pixels[..., channel]), rule) for channel in range(pixels.shape[-1])]
    return np.stack(planes, -1).clip(0.0, 1.0)
