"""The codes of a model with a codebook, as the page shows them: how often each is used, and what it looks like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.models.vq import VQModel

ACROSS = 16  # tiles along a row of the palette
_MOST_CODES = 1024
_AT_ONCE = 100


@dataclass(frozen=True)
class Book:
    """One codebook and the images whose grids are made of it.

    Attributes:
        model: with a single book.
        vectors: of all codes, (codes, code_dim).
        grids: flat codes of images, (n, positions * code_dim).
    """

    model: VQModel
    vectors: Tensor
    grids: np.ndarray

    @cached_property
    def shares(self) -> np.ndarray:
        """The share of the places of all grids that each code stands in, (codes,)."""
        counts = torch.zeros(len(self.vectors), dtype=torch.float64)
        for grids in torch.from_numpy(self.grids).split(_AT_ONCE):
            places = grids.view(-1, self.vectors.shape[1])
            nearest = torch.cdist(places, self.vectors, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
            counts += torch.bincount(nearest, minlength=len(counts))
        return (counts / counts.sum()).numpy()

    @property
    def order(self) -> np.ndarray:
        """Numbers of the codes, the most used first, (codes,)."""
        return np.argsort(-self.shares, kind="stable")

    @property
    def description(self) -> dict[str, Any]:
        """What the page must know, plain JSON."""
        shares = torch.from_numpy(self.shares)
        return {
            "size": len(self.vectors),
            "dim": self.vectors.shape[1],
            "grid": list(self.model.grid),
            "used": int((shares > 0).sum()),
            "perplexity": torch.special.entr(shares).sum().exp().item(),
            "shares": [round(share, 6) for share in shares.tolist()],
            "order": self.order.tolist(),
            "across": min(ACROSS, len(self.vectors)),
        }

    @property
    def tiles(self) -> Tensor:
        """Flat codes of the palette's images in `order`, (codes, positions * code_dim): every place has the same code."""
        return self.vectors[self.order.copy()].repeat(1, math.prod(self.model.grid))


@torch.no_grad()
def book_of(model: object, grids: np.ndarray) -> Book | None:
    """The book of a model; None for one that has none, or several, or more codes than can be shown."""
    if not isinstance(model, VQModel) or len(model.codebooks) > 1 or model.codebooks.shape[1] > _MOST_CODES:
        return None
    return Book(model, model.codebooks[0].detach().cpu().float(), grids)
