"""`morph`: a film that goes from image to image through the space of codes, and back to the first."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vaekit import generation
from vaekit.data.images import Images
from vaekit.errors import InputError
from vaekit.trained import Trained


def morph(
    trained: Trained, images: Images, frames: int = 24, how: Literal["linear", "spherical"] = "spherical"
) -> Tensor:
    """Frames of the way from each image to the next, and from the last to the first.

    Args:
        trained: a trained model; see `vaekit.load`.
        images: n from 2 up, of the shape that the model reads.
        frames: on each way, its start with them, from 2 up.
        how: straight lines between codes, or arcs, which keep their length.

    Returns:
        (n * frames, channels, height, width) in [0, 1]; frame `k * frames` is the reconstruction of image k.

    Raises:
        InputError: for fewer than 2 images, or conditions that are missing.
    """
    if len(images) < 2:
        raise InputError(f"{len(images)} image is too few to morph; give 2 or more")
    seen = next(iter(trained.batches(images, len(images))))[0]
    condition = trained.condition(images)
    last = None if condition is None else condition.roll(-1, 0)
    ways = generation.interpolate(trained.model, seen, seen.roll(-1, 0), frames + 1, condition, last, how)
    return ways[:, :frames].flatten(0, 1).cpu()


def joined(parts: list[Images]) -> Images:
    """Several sets of images of one shape as one; labels only where all have them."""
    own = [part.copied() for part in parts]
    labels = [part.labels for part in own if part.labels is not None]
    return Images(torch.cat([part.pixels for part in own]), torch.cat(labels) if len(labels) == len(own) else None)
