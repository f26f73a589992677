"""A causal transformer over codes (Vaswani et al. 2017, arXiv:1706.03762; over the codes of images: Esser et al. 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.code_priors.table import CODE_PRIORS, CodePrior, Grid
from vaekit.config import leaf
from vaekit.errors import InputError
from vaekit.networks.layers import initialize, linear

_SMALL = 0.02  # standard deviation of embeddings and of the last layer: at the start all codes are nearly alike
_AT_ONCE = 64  # grids are sampled in blocks of just so many: the same arithmetic, and so the same codes, in any number


class Block(nn.Module):
    """x + attention(x), then x + MLP(x), each of normalized features (n, length, width)."""

    def __init__(self, width: int, heads: int, scale: float):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        # without biases: one of keys adds the same to all a query sees, and its gradient would be mere rounding
        self.attended, self.mixed = initialize(nn.Linear(width, 3 * width, bias=False)), linear(width, width)
        self.wide, self.narrow = linear(width, 4 * width), linear(4 * width, width)
        with torch.no_grad():  # so that the variance of the sum does not grow with the number of blocks
            self.mixed.weight.mul_(scale)
            self.narrow.weight.mul_(scale)

    def forward(self, x: Tensor, past: Tensor | None = None, place: int = 0) -> Tensor:
        """Features (n, length, width), each of which sees itself and those before it.

        Args:
            x: (n, length, width); with `past`, those of the one place that is new, (n, 1, width).
            past: keys and values of earlier places, (2, n, heads, length, width / heads); those of the new place are
                entered.
            place: the new one.
        """
        query, key, value = self.attended(self.first(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if past is not None:
            past[0, :, :, place], past[1, :, :, place] = key[:, :, 0], value[:, :, 0]
            key, value = past[..., : place + 1, :]
        found = F.scaled_dot_product_attention(query, key, value, is_causal=past is None)
        x = x + self.mixed(found.transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.wide(self.second(x))))


class Transformer(CodePrior):
    """p(codes | condition) = product over places of p(code | codes before, condition).

    Places are row by row from the top, and at each position book after book. The condition's vector is added at each.

    Args:
        grid: what it is over.
        num_condition: size of the vectors of conditions; 0 for none.
        width: of features.
        layers: blocks.
        heads: of attention; they divide the width.
    """

    def __init__(self, grid: Grid, num_condition: int, width: int, layers: int, heads: int):
        super().__init__()
        self.grid, self.heads = grid, heads
        self.length = grid.positions * grid.books
        self.embedding = nn.Embedding(grid.books * grid.num_codes, width)
        self.start, self.places = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(self.length, width))
        self.condition = linear(num_condition, width) if num_condition else None
        self.blocks = nn.ModuleList(Block(width, heads, 1.0 / math.sqrt(2 * layers)) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.heads_of_books = nn.Parameter(torch.empty(grid.books, grid.num_codes, width))
        for weight in (self.embedding.weight, self.start, self.places, self.heads_of_books):
            nn.init.normal_(weight, std=_SMALL)

    def _embedded(self, indices: Tensor, first: int = 0) -> Tensor:
        """Features (n, length, width) of the codes (n, length) at places from `first` on."""
        books = torch.arange(first, first + indices.shape[1], device=indices.device) % self.grid.books
        return self.embedding(indices + self.grid.num_codes * books)

    def _told(self, features: Tensor, code: Tensor | None) -> Tensor:
        return features if code is None or self.condition is None else features + self.condition(code)[:, None]

    def logits(self, indices: Tensor, code: Tensor | None) -> Tensor:
        """(n, positions, books, num_codes), at each place given the codes (n, positions, books) before it."""
        flat = indices.flatten(1)
        before = torch.cat([self.start.expand(len(flat), 1, -1), self._embedded(flat[:, :-1])], 1)
        features = self._told(before + self.places, code)
        for block in self.blocks:
            features = block(features)
        by_book = self.norm(features).unflatten(1, (self.grid.positions, self.grid.books))
        return torch.einsum("npbw,bkw->npbk", by_book, self.heads_of_books)

    def log_prob(self, indices: Tensor, code: Tensor | None) -> Tensor:
        logits = self.logits(indices, code).float().flatten(0, 2)
        return -F.cross_entropy(logits, indices.flatten(), reduction="none").view(len(indices), -1).sum(1)

    @torch.no_grad()
    def sample(
        self,
        uniform: Tensor,
        code: Tensor | None,
        temperature: float = 1.0,
        free: Tensor | None = None,
        guidance: float = 1.0,
    ) -> Tensor:
        parts = []
        for rows in torch.arange(len(uniform), device=uniform.device).split(_AT_ONCE):
            given, without = (None if each is None else _filled(each[rows]) for each in (code, free))
            wanted = _filled(uniform[rows]).flatten(1)
            parts.append(self._sampled(wanted, given, temperature, without, guidance)[: len(rows)])
        return torch.cat(parts).unflatten(1, (self.grid.positions, self.grid.books))

    def _sampled(
        self, uniform: Tensor, code: Tensor | None, temperature: float, free: Tensor | None, guidance: float
    ) -> Tensor:
        """Codes (n, length) place by place, with the keys and values of earlier places kept."""
        runs = [code] if free is None or guidance == 1.0 else [code, free]
        pasts = [self._empty(len(uniform)) for _ in runs]
        chosen = torch.zeros(uniform.shape, dtype=torch.int64, device=uniform.device)
        for place in range(self.length):
            if place:
                before = self._embedded(chosen[:, place - 1 : place], place - 1)
            else:
                before = self.start.expand(len(uniform), 1, -1)
            found = [
                self._next(self._told(before + self.places[place], given), past, place)
                for given, past in zip(runs, pasts, strict=True)
            ]
            logits = found[0] if len(found) == 1 else torch.lerp(found[1], found[0], guidance)
            chosen[:, place] = choose(logits, uniform[:, place], temperature)
        return chosen

    def _empty(self, count: int) -> Tensor:
        """Room for keys and values, (layers, 2, n, heads, length, width / heads)."""
        size = self.places.shape[1] // self.heads
        return self.places.new_empty(len(self.blocks), 2, count, self.heads, self.length, size)

    def _next(self, features: Tensor, past: Tensor, place: int) -> Tensor:
        """Logits (n, num_codes) at a place, of its features (n, 1, width)."""
        for block, kept in zip(self.blocks, past, strict=True):
            features = block(features, kept, place)
        return self.norm(features[:, 0]) @ self.heads_of_books[place % self.grid.books].T


def _filled(rows: Tensor) -> Tensor:
    """(n, ...) with zeros up to `_AT_ONCE` rows."""
    return torch.cat([rows, rows.new_zeros(_AT_ONCE - len(rows), *rows.shape[1:])])


def choose(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Codes (n,) by the inverse of the distribution function of softmax(logits / temperature), at numbers (n,) in [0, 1)."""
    if temperature == 0:
        return logits.argmax(-1)
    sums = (logits.double() / temperature).softmax(-1).cumsum(-1)
    return (sums <= uniform.double()[:, None] * sums[:, -1:]).sum(-1).clamp(max=logits.shape[-1] - 1)


@CODE_PRIORS.register("transformer")
@dataclass(frozen=True)
class TransformerPrior:
    """Each code given those before it, by a small causal transformer that is trained with the rest."""

    width: int = leaf(64, "features of the transformer", ge=1, le=8192)
    layers: int = leaf(2, "blocks of the transformer", ge=1, le=64)
    heads: int = leaf(4, "heads of attention, which divide --width", ge=1, le=64)

    def build(self, grid: Grid, num_condition: int) -> CodePrior:
        """The module.

        Raises:
            InputError: when the heads do not divide the width.
        """
        if self.width % self.heads:
            raise InputError(f"--heads: {self.heads} does not divide --width {self.width}; choose another number")
        return Transformer(grid, num_condition, self.width, self.layers, self.heads)
