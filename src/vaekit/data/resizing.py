"""Images that are in memory already, as arrays and named sets are, brought to another size or number of channels."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vaekit.data.images import Images
from vaekit.data.sizing import Sizing
from vaekit.errors import InputError
from vaekit.files.decode import Rule, fitted
from vaekit.noise import seed_key

if TYPE_CHECKING:
    from vaekit.data.loaded import Loaded

_LUMA = (0.299, 0.587, 0.114)


def resized(loaded: Loaded, sizing: Sizing) -> Loaded:
    """A set with its images as `sizing` asks; the same set where they are so already, or nothing is asked.

    Raises:
        InputError: for a colour that images of this number of channels cannot be given.
    """
    own = loaded.train.pixels.shape[1:]
    height, width = own[:2] if sizing.image_size is None else (sizing.image_size, sizing.image_size)
    channels = {"auto": own[2], "grey": 1, "rgb": 3}[sizing.colour]
    if (height, width, channels) == tuple(own):
        return loaded
    if channels != own[2] and own[2] not in (1, 3):
        raise InputError(f"--colour {sizing.colour}: images of {own[2]} channels have no colours; leave it out")
    rule = Rule(height, width, channels, sizing.resize)
    parts = {
        name: None if part is None else _images(part, rule)
        for name, part in (("train", loaded.train), ("val", loaded.val), ("test", loaded.test))
    }
    fingerprint = loaded.fingerprint
    if fingerprint is not None:
        fingerprint = seed_key(fingerprint, repr(rule)) & ((1 << 60) - 1)
    binary = loaded.binary if loaded.binary is False or (height, width) == tuple(own[:2]) else None
    return replace(loaded, **parts, fingerprint=fingerprint, binary=binary)  # type: ignore[arg-type]  # train is there


def _images(images: Images, rule: Rule) -> Images:
    own = images.copied()
    return replace(own, pixels=_pixels(own.pixels, rule))


def _pixels(pixels: Tensor, rule: Rule) -> Tensor:
    """(n, height, width, channels) brought to the rule's size and channels, of the same type."""
    out = torch.empty((len(pixels), rule.height, rule.width, rule.channels), dtype=pixels.dtype)
    source, target = pixels.numpy(), out.numpy()

    def one(row: int) -> None:
        image = source[row] if rule.channels == source.shape[3] else _recoloured(source[row], rule.channels)
        for channel in range(rule.channels):
            target[row, :, :, channel] = fitted(np.ascontiguousarray(image[:, :, channel]), rule)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1) as pool:
        for _ in pool.map(one, range(len(pixels)), chunksize=64):
            pass
    return out if out.dtype == torch.uint8 else out.clamp_(0.0, 1.0)  # resampling overshoots


def _recoloured(image: np.ndarray, channels: int) -> np.ndarray:
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]
    return (image @ np.array(_LUMA, image.dtype))[:, :, None]
