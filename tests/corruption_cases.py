"""Every corruption with strengths from weak to strong, shared by tests."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from vaekit.corruptions.chain import strength_of
from vaekit.corruptions.table import CORRUPTIONS, Corruption
from vaekit.noise import Noise

STRENGTHS: dict[str, list[Any]] = {
    "blur": [1.5, 3.0, 5.0],
    "downsample": [1.5, 3.0, 5.0],
    "gaussian-blur": [0.5, 1.0, 3.0],
    "defocus": [1.0, 2.0, 5.0],
    "motion-blur": [2.0, 5.0, 11.0],
    "gaussian-noise": [0.05, 0.2, 0.8],
    "poisson-noise": [500.0, 30.0, 2.0],
    "speckle": [0.1, 0.3, 1.0],
    "salt-and-pepper": [0.05, 0.2, 0.6],
    "mask-pixels": [0.1, 0.4, 0.9],
    "mask-blocks": [0.1, 0.4, 0.9],
    "mask-stripes": [0.1, 0.4, 0.9],
    "low-light": [0.9, 0.5, 0.1],
    "jpeg": [90, 40, 5],
}


def at(name: str, strength: Any) -> Corruption:
    """The entry called `name`, its first number set."""
    entry = CORRUPTIONS[name]()
    flag = strength_of(entry)
    assert flag is not None
    changed: Corruption = dataclasses.replace(entry, **{flag.name: strength})
    return changed


def smooth(shape: tuple[int, int, int], count: int, seed: int = 0) -> Tensor:
    """Images with large light and dark areas, in [0, 1], channels last in memory."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0.0, 1.0)
    return images.contiguous(memory_format=torch.channels_last)


def noise(count: int, seed: int = 0) -> Noise:
    return Noise.from_seed(seed, count, "test")
