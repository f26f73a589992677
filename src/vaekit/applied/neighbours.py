"""Distances to the nearest of many vectors, and the guard that drops new images too near a training image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.data.images import Images

Blocks = Callable[[], Iterator[tuple[Tensor, Tensor]]]
_BLOCK = 1024
_QUERIES = 1000  # training images whose own nearest neighbours tell how far apart training images are


def pixel_blocks(images: Images, size: int = _BLOCK) -> Blocks:
    """Pixels of images in float blocks (block, pixels), with their rows (block,), one block at a time in memory."""

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.arange(len(images)).split(size):
            yield images.unit(rows).flatten(1), rows

    return blocks


def code_blocks(codes: Tensor, size: int = _BLOCK) -> Blocks:
    """The same of codes (n, latent)."""
    return lambda: ((codes[rows], rows) for rows in torch.arange(len(codes)).split(size))


def nearest(queries: Tensor, blocks: Blocks, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Root mean square distance of each query to the nearest of many vectors, and its row.

    Args:
        queries: (q, d).
        blocks: the vectors, block by block.
        own: (q,), rows that queries themselves stand in, and that do not count; None for others' queries.

    Returns:
        Distances sqrt(mean of squares) (q,), and rows int64 (q,).
    """
    best = torch.full((len(queries),), torch.inf)
    row, there = torch.zeros(len(queries), dtype=torch.int64), torch.zeros_like(queries)
    lengths = queries.square().sum(1)
    for block, rows in blocks():
        # |a|^2 - 2 a b + |b|^2 finds the nearest; its distance is then taken anew, as this loses digits
        squares = torch.addmm(lengths[:, None] + block.square().sum(1), queries, block.T, alpha=-2.0)
        if own is not None:
            squares.masked_fill_(own[:, None] == rows, torch.inf)
        value, place = squares.min(1)
        nearer = value < best
        best = torch.where(nearer, value, best)
        row[nearer], there[nearer] = rows[place[nearer]], block[place[nearer]]
    return (queries - there).square().mean(1).sqrt(), row


@dataclass(frozen=True)
class Guard:
    """Drops new images whose nearest training image is nearer than training images are to each other.

    Attributes:
        pixels: blocks of the training images.
        codes: blocks of their posterior means.
        least_pixels: root mean square difference of a pixel below which an image is too near.
        least_codes: the same of a latent.
    """

    pixels: Blocks
    codes: Blocks
    least_pixels: float
    least_codes: float

    @classmethod
    def fitted(cls, images: Images, codes: Tensor, percentile: float) -> Guard:
        """The guard whose limits are percentiles of the training images' distances to their own nearest neighbours.

        These are taken of at most 1,000 of them, evenly spread, each against all others.

        Args:
            images: n training images, from 2 up.
            codes: (n, latent), their posterior means.
            percentile: 0 to 100; 0 drops nothing but what is nearer than any two training images are.
        """
        sets = pixel_blocks(images), code_blocks(codes)
        chosen = torch.arange(min(_QUERIES, len(images))) * len(images) // min(_QUERIES, len(images))
        given = images.unit(chosen).flatten(1), codes[chosen]
        limits = [
            float(nearest(queries, blocks, chosen)[0].quantile(percentile / 100.0))
            for queries, blocks in zip(given, sets, strict=True)
        ]
        return cls(*sets, *limits)

    def distances(self, images: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of new images (n, channels, height, width) and codes: distances to the nearest in pixels and in codes, (n,) each,
        and the row (n,) of the training image that is nearest in pixels."""
        far, row = nearest(images.flatten(1), self.pixels)
        return far, nearest(codes, self.codes)[0], row
