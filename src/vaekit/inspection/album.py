"""All images of a data set in one row, with the split, place and file of each, and counts of their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vaekit.data.images import Images
from vaekit.data.loaded import Loaded


@dataclass
class Album:
    """All images of a data set, in one row: training, validation, test.

    Attributes:
        parts: the splits that there are.
        positions: int64 (n,), where each image stands in the published part that its split was taken from.
        files: names by position in the published training images, or empty.
    """

    parts: dict[str, Images]
    positions: dict[str, Tensor]
    files: Sequence[str]
    official: dict[str, bool]

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def place(self, index: int) -> dict[str, Any]:
        """Split, position and file of an image."""
        for name, images in self.parts.items():
            if index < len(images):
                position = int(self.positions[name][index])
                of_train = name == "train" or not self.official[name]
                file = self.files[position] if of_train and position < len(self.files) else None
                return {"split": name, "image": position, "file": file}
            index -= len(images)
        raise IndexError(index)

    def split_of(self) -> list[str]:
        """The split of each image."""
        return [name for name, images in self.parts.items() for _ in range(len(images))]

    def unit(self, index: Tensor) -> Tensor:
        """The images at `index`: float (n, channels, height, width) in [0, 1]."""
        first, out = 0, None
        for images in self.parts.values():
            here = ((index >= first) & (index < first + len(images))).nonzero()[:, 0]
            if len(here):
                found = images.unit(index[here] - first)
                out = torch.empty(len(index), *found.shape[1:]) if out is None else out
                out[here] = found
            first += len(images)
        assert out is not None
        return out


@dataclass
class Values:
    """Counts of the 256 levels by channel, and exact sums."""

    levels: Tensor
    sums: Tensor
    squares: Tensor
    count: int = 0
    low: float = float("inf")
    high: float = float("-inf")

    @classmethod
    def empty(cls, channels: int) -> Values:
        zeros = torch.zeros(channels, dtype=torch.float64)
        return cls(torch.zeros(channels, 256, dtype=torch.int64), zeros, zeros.clone())

    def add(self, pixels: Tensor) -> None:
        """Count images (n, height, width, channels), uint8, or float in [0, 1]."""
        whole = pixels.dtype == torch.uint8
        for channel in range(pixels.shape[-1]):
            own = pixels[..., channel].flatten()
            level = own if whole else own.mul(255).round().to(torch.uint8)
            counts = torch.bincount(level.to(torch.int32), minlength=256)
            self.levels[channel] += counts
            if whole:
                grey = torch.arange(256, dtype=torch.float64) / 255
                self.sums[channel] += (counts * grey).sum()
                self.squares[channel] += (counts * grey.square()).sum()
            else:
                self.sums[channel] += own.double().sum()
                self.squares[channel] += own.double().square().sum()
        scale = 255 if whole else 1
        self.low = min(self.low, float(pixels.min()) / scale)
        self.high = max(self.high, float(pixels.max()) / scale)
        self.count += pixels[..., 0].numel()

    def record(self) -> dict[str, Any]:
        mean = self.sums / self.count
        deviation = (self.squares / self.count - mean.square()).clamp(min=0).sqrt()
        counts = self.levels.sum(0)
        total = int(counts.sum())
        return {
            "min": self.low,
            "max": self.high,
            "mean": mean.tolist(),
            "std": deviation.tolist(),
            "levels": int((counts > 0).sum()),
            "black": float(counts[0]) / total,
            "white": float(counts[255]) / total,
            "near_black_or_white": float(counts[:26].sum() + counts[230:].sum()) / total,
        }


def tracked(loaded: Loaded) -> Loaded:
    """The same set with rows, so that splits tell where their images come from, and nothing is copied."""

    def rows(images: Images) -> Images:
        return images if images.rows is not None else replace(images, rows=torch.arange(len(images)))

    parts = {"train": rows(loaded.train)}
    for name in ("val", "test"):
        if (part := getattr(loaded, name)) is not None:
            parts[name] = rows(part)
    return replace(loaded, **parts)  # type: ignore[arg-type]  # splits only


def album_of(loaded: Loaded, parts: dict[str, Images | None]) -> Album:
    official = {"train": True, "val": loaded.val is not None, "test": loaded.test is not None}
    there = {name: part for name, part in parts.items() if part is not None}
    positions = {}
    for name, part in there.items():
        source = getattr(loaded, name) if official[name] else loaded.train
        assert part.rows is not None
        assert source.rows is not None
        where = torch.full((int(source.rows.max()) + 1,), -1)
        where[source.rows] = torch.arange(len(source))
        positions[name] = where[part.rows]
    return Album(there, positions, loaded.names, official)
