"""Images that are there twice: the same pixels, or so near that no chance explains it.

An image is described by its low frequencies: the 8x8 lowest coefficients of the cosine transform of its 16x16 grey
thumbnail, without the mean, scaled to length 1; what compression, brightness, contrast, colour and scaling change
little. How near is near differs from set to set (two ones of MNIST are more alike than two copies of a photograph), so
two images count as near-duplicates when each is the other's nearest neighbour and no third comes close: their distance
is a fraction of that to the fifth neighbour which, for data of the set's own intrinsic dimension, chance would produce
about once in the whole set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_THUMB, _LOW = 16, 8
NEIGHBOURS = 5
MOST_RATIO = 0.5
FARTHEST = math.sqrt(2 - 2 * 0.9)  # of two near-duplicates: a correlation of 0.9
LEAST_DETAIL = 0.5
FLAT = 1 / 255  # root mean square of the low frequencies below which an image is too even to be compared
BUCKET = 60_000  # images compared with each other; more are divided first
_ROWS, _COLUMNS, _SAMPLE, _FAR = 512, 4096, 1000, 10


def _cosines() -> Tensor:
    """(8, 16): rows of the orthonormal cosine transform."""
    place, frequency = torch.arange(_THUMB), torch.arange(_LOW)[:, None]
    rows = torch.cos(math.pi * (place + 0.5) * frequency / _THUMB) * math.sqrt(2 / _THUMB)
    rows[0] /= math.sqrt(2)
    return rows


def grey(images: Tensor) -> Tensor:
    """(n, 1, height, width) of images (n, channels, height, width): the mean of the channels."""
    return images.mean(1, keepdim=True)


def describe(images: Tensor) -> Tensor:
    """float32 (n, 63) of length 1 for images (n, channels, height, width) in [0, 1]; zeros for even ones."""
    thumbs = F.adaptive_avg_pool2d(grey(images), (_THUMB, _THUMB))[:, 0]
    basis = _cosines()
    low = (basis @ thumbs @ basis.T).flatten(1)[:, 1:]
    length = low.norm(dim=1, keepdim=True)
    return torch.where(length > FLAT * _THUMB, low / length.clamp(min=1e-12), 0.0)


def detail_correlation(first: Tensor, second: Tensor) -> Tensor:
    """(n,) correlations of the fine detail of images (n, channels, height, width): what a 5x5 mean leaves."""

    def fine(images: Tensor) -> Tensor:
        plain = grey(images)
        if max(plain.shape[-2:]) > 2 * _THUMB:
            plain = F.adaptive_avg_pool2d(plain, (2 * _THUMB, 2 * _THUMB))
        smooth = F.avg_pool2d(F.pad(plain, (2, 2, 2, 2), mode="replicate"), 5, 1)
        rest = (plain - smooth).flatten(1)
        rest = rest - rest.mean(1, keepdim=True)
        return rest / rest.norm(dim=1, keepdim=True).clamp(min=1e-6)

    return (fine(first) * fine(second)).sum(1)


@dataclass(frozen=True)
class Near:
    """Pairs found.

    Attributes:
        pairs: int64 (m, 2), first < second, nearest pairs first.
        distances: (m,), from 0 to `FARTHEST`; squared and halved, what the correlation lacks to 1.
        ratios: (m,), of the distance to that of the fifth neighbour.
        threshold: largest ratio allowed.
        intrinsic_dimension: of the set, as its neighbours' distances tell; NaN where there are too few images.
    """

    pairs: Tensor
    distances: Tensor
    ratios: Tensor
    threshold: float
    intrinsic_dimension: float


def near_duplicates(features: Tensor, progress: Callable[[float], None] = lambda fraction: None) -> Near:
    """Near-duplicates among images described by `features` (n, d), each of length 1 or zero (then left out).

    Every image is compared with every other up to `BUCKET` images; more are divided among randomly chosen images,
    each going to the one it resembles most, and compared within a division, where copies meet but for a few.
    """
    kept = features.square().sum(1).gt(0.5).nonzero()[:, 0]
    features = features[kept]
    none = Near(torch.empty(0, 2, dtype=torch.int64), torch.empty(0), torch.empty(0), 0.0, math.nan)
    if len(features) <= _FAR:
        return none
    dimension = intrinsic_dimension(features)
    chance = (1 / ((NEIGHBOURS - 1) * len(features))) ** (1 / dimension)
    threshold = min(MOST_RATIO, chance)
    found = []
    buckets = _buckets(features)
    done = 0
    for rows in buckets:

        def within(fraction: float, done: int = done, size: int = len(rows)) -> None:
            progress((done + fraction * size) / len(features))

        pairs, distances, ratios = _mutual(features[rows], threshold, within)
        found.append((rows[pairs], distances, ratios))
        done += len(rows)
    pairs, distances, ratios = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = distances.argsort(stable=True)
    pairs = kept[pairs].sort(1).values
    return Near(pairs[order], distances[order], ratios[order], threshold, dimension)


def intrinsic_dimension(features: Tensor) -> float:
    """Dimension of the set around its images, from the distances of the fifth to the tenth neighbour. At least 1.

    Where points lie evenly in D dimensions, log(r_10 / r_j) has the mean (1/j + ... + 1/9) / D (after Levina and Bickel
    2004, who take all neighbours; here copies of an image are among the first and must not count). Needs 11 images.
    """
    chosen = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[:_SAMPLE]
    nearest = _distances((features[chosen] @ features.T).topk(_FAR + 1, dim=1).values)
    logs = (nearest[:, -1:] / nearest[:, NEIGHBOURS:-1].clamp(min=1e-6)).log()
    expected = sum((place - NEIGHBOURS + 1) / place for place in range(NEIGHBOURS, _FAR))
    return max(1.0, expected / max(1e-6, float(logs.sum(1).mean())))


def _distances(cosines: Tensor) -> Tensor:
    return (2 - 2 * cosines).clamp(min=0).sqrt()


def _buckets(features: Tensor) -> list[Tensor]:
    if len(features) <= BUCKET:
        return [torch.arange(len(features))]
    generator = torch.Generator().manual_seed(1)
    centres = features[torch.randperm(len(features), generator=generator)[: math.ceil(2 * len(features) / BUCKET)]]
    home = torch.cat([(part @ centres.T).argmax(1) for part in features.split(BUCKET)])
    return [rows for centre in range(len(centres)) if len(rows := (home == centre).nonzero()[:, 0]) > NEIGHBOURS]


def _mutual(features: Tensor, threshold: float, progress: Callable[[float], None]) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs (m, 2) of mutual nearest neighbours that stand apart from the rest, their distances and ratios."""
    nearest, best = _nearest(features, progress)
    own = torch.arange(len(features))
    mutual = (nearest[nearest] == own) & (own < nearest) & (best > 1 - FARTHEST**2 / 2)
    first = mutual.nonzero()[:, 0]
    second = nearest[first]
    apart = _distances(best[first])
    ratios = torch.zeros(len(first))
    for start in range(0, len(first), _ROWS):
        part = slice(start, start + _ROWS)
        for side in (first[part], second[part]):
            fifth = (features[side] @ features.T).topk(NEIGHBOURS + 1, dim=1).values[:, -1]
            ratios[part] = ratios[part].maximum(apart[part] / _distances(fifth).clamp(min=1e-6))
    chosen = ratios <= threshold
    return torch.stack([first, second], 1)[chosen], apart[chosen], ratios[chosen]


def _nearest(features: Tensor, progress: Callable[[float], None]) -> tuple[Tensor, Tensor]:
    """For each row the most similar other row, and the cosine of the two."""
    count = len(features)
    best = torch.full((count,), -2.0)
    nearest = torch.zeros(count, dtype=torch.int64)
    for top in range(0, count, _ROWS):
        rows = features[top : top + _ROWS]
        for left in range(0, count, _COLUMNS):
            cosines = rows @ features[left : left + _COLUMNS].T
            cosines.diagonal(top - left).fill_(-2.0)  # an image is no neighbour of its own
            value, at = cosines.max(1)
            better = value > best[top : top + _ROWS]
            best[top : top + _ROWS] = torch.where(better, value, best[top : top + _ROWS])
            nearest[top : top + _ROWS] = torch.where(better, at + left, nearest[top : top + _ROWS])
        progress(min(1.0, (top + _ROWS) / count))
    return nearest, best
