"""Masks: how much they hide, in what form, and with what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from corruption_cases import noise
from vaekit.corruptions.masks import MaskBlocks, MaskPixels, MaskStripes

KINDS = [MaskPixels, MaskBlocks, MaskStripes]


def hidden(entry: Any, count: int = 200, shape: tuple[int, int, int] = (3, 30, 26)) -> np.ndarray:
    """bool (count, height, width): where images all of 0.5 changed; channels alike."""
    found = entry(torch.full((count, *shape), 0.5), noise(count))
    changed = found != 0.5
    assert (changed == changed[:, :1]).all()
    return changed[:, 0].numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.85])
def test_the_fraction_is_what_is_hidden_on_average(kind: Any, fraction: float) -> None:
    assert hidden(kind(mask_fraction=fraction)).mean() == pytest.approx(fraction, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hidden_has_the_fill_and_the_rest_stays(kind: Any) -> None:
    images = torch.rand(5, 2, 20, 20) * 0.5
    found = kind(mask_fraction=0.4, mask_fill=0.75)(images, noise(5))
    covered = found == 0.75
    assert torch.equal(found[~covered], images[~covered])
    assert 0.1 < covered.float().mean() < 0.9


def test_every_place_is_hidden_as_often() -> None:
    """Of the grid's shift no trace is left: also at the border of the image."""
    for kind in KINDS:
        share = hidden(kind(mask_fraction=0.4), count=3000, shape=(1, 16, 16)).mean(0)
        assert np.abs(share - 0.4).max() < 0.05


def test_blocks_are_squares_on_a_shifted_grid() -> None:
    """A brute-force search finds for each image a shift of the grid in which all cells are whole."""
    side, corners = 5, set()
    for mask in hidden(MaskBlocks(mask_fraction=0.4, block_size=side), count=40, shape=(1, 20, 20)):
        fits = []
        for top in range(side):
            for left in range(side):
                rows, columns = (np.arange(20) + top) // side, (np.arange(20) + left) // side
                cells = rows[:, None] * 10 + columns
                if all(len(set(mask[cells == cell])) == 1 for cell in np.unique(cells)):
                    fits.append((top, left))
        assert fits
        corners.update(fits if len(fits) == 1 else [])
    assert len(corners) > 10


def test_stripes_are_rows_or_columns_at_equal_distances() -> None:
    levels = {0: 0, 1: 0}
    for mask in hidden(MaskStripes(mask_fraction=0.25, stripe_width=3), count=100, shape=(1, 48, 48)):
        axis = 0 if (mask == mask[:, :1]).all() else 1
        line = mask[:, 0] if axis == 0 else mask[0]
        assert (mask == (line[:, None] if axis == 0 else line[None])).all()
        levels[axis] += 1
        assert (line[:-12] == line[12:]).all()
        edges = np.flatnonzero(np.diff(line.astype(int)))
        runs = np.diff(edges)
        assert set(runs) <= {3, 9}
    assert min(levels.values()) > 30


def test_larger_blocks_and_wider_stripes_than_the_image() -> None:
    for entry in (MaskBlocks(mask_fraction=0.5, block_size=100), MaskStripes(mask_fraction=0.5, stripe_width=100)):
        share = hidden(entry, count=300, shape=(1, 8, 8)).mean((1, 2))
        assert share.mean() == pytest.approx(0.5, abs=0.1)
        assert ((share == 0) | (share == 1)).mean() > 0.8
