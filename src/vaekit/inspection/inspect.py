"""What is in a data set: sizes, values, classes, duplicates, leakage between splits and odd images.

Pixels are read once, in chunks, and a few hundred bytes an image are kept; of near-duplicates alone the pixels are
looked at again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaekit.data.batches import Data
from vaekit.data.images import DataInfo
from vaekit.data.sizing import Opening
from vaekit.data.sources import is_array, is_path
from vaekit.data.splits import open_data, split
from vaekit.inspection.advice import advise, warn
from vaekit.inspection.album import Album, Values, album_of, tracked
from vaekit.inspection.duplicates import LEAST_DETAIL, describe, detail_correlation, near_duplicates
from vaekit.inspection.files import survey
from vaekit.inspection.text import SPLITS

EVEN = 0.01  # standard deviation of an image, of 1, up to which it shows nearly nothing
FAR_OUT = 3.0  # Tukey's outer fences: so many interquartile ranges beyond the quartiles
GREY_DIFFERENCE = 0.5 / 255  # mean difference of the channels up to which an image in colour is grey
MOST_LISTED = 10_000  # pairs or images in a record
_CHUNK = 3_000_000  # values looked at together


@dataclass
class _Seen:
    """What one pass over the pixels keeps."""

    held: Values
    test: Values
    digests: list[bytes] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)
    deviations: list[Tensor] = field(default_factory=list)
    grey: int = 0


Progress = Callable[[str, float], None]


def inspect(
    data: Data | str, folder: Path | None = None, progress: Progress = lambda what, fraction: None
) -> Inspection:
    """Look at every image of a data set, split as `vaekit train` would split it.

    Args:
        data: its settings, or its name or path alone.
        folder: where local data sets lie.
        progress: is told what is being done and the fraction done.

    Raises:
        InputError: when the data cannot be read, in one sentence.
    """
    data = Data(data=data) if isinstance(data, str) else data
    files = None
    if data.target is None and is_path(data.data) and not is_array(data.data):
        files = survey(Path(data.data).expanduser(), lambda fraction: progress("reading headers", fraction))
    loaded = tracked(open_data(data, folder, Opening(data.sizing, progress, lambda note: None)))
    splits = split(data, loaded)
    album = album_of(loaded, {name: getattr(splits, name) for name in SPLITS})
    seen = _look(album, lambda fraction: progress("looking", fraction))
    record: dict[str, Any] = {
        "data": data.data,
        "num_images": len(album),
        "shape": dict(zip(("channels", "height", "width"), splits.info.shape, strict=True)),
        "input_shape": splits.info.input_shape,
        "whole_levels": splits.info.whole,
        "binary": splits.info.binary,
        "splits": {
            name: {"num_images": len(part), "official": album.official[name]} for name, part in album.parts.items()
        },
        "groups": None if loaded.groups is None else len(loaded.groups.unique()),
        "grouped": data.group_by == "folder" or (data.group_by == "auto" and loaded.grouped),
        "values": seen.held.record(),
        "test_values": seen.test.record() if seen.test.count else None,
        "grey_images": seen.grey,
        "classes": _classes(album, splits.info),
        "attributes": _attributes(album, splits.info),
        "files": files,
        "notes": list(loaded.notes),
    }
    exact = _exact(seen.digests)
    near, facts = _near(album, seen, exact, lambda fraction: progress("comparing", fraction))
    record["duplicates"] = _duplicates_record(album, exact)
    record["near_duplicates"] = {
        "num_pairs": len(near),
        **facts,
        "pairs": [
            {"first": album.place(a), "second": album.place(b), "correlation": c} for a, b, c in near[:MOST_LISTED]
        ],
    }
    record["leakage"] = _leakage(album, exact, near)
    odd = _odd(torch.cat(seen.means), torch.cat(seen.deviations))
    record["odd"] = {kind: [album.place(index) for index in found[:MOST_LISTED]] for kind, found in odd.items()}
    record["suggestions"] = [advice.record() for advice in advise(record)]
    record["warnings"] = warn(record)
    return Inspection(record, album, exact, near, odd)


@dataclass(frozen=True)
class Inspection:
    """What was found: the record, and where in the album, for pictures.

    Attributes:
        record: plain values, for JSON.
        album: the images.
        exact: groups of images with the same pixels.
        near: pairs of near-duplicates and the correlation of their low frequencies, nearest first.
        odd: even, dark and bright images.
    """

    record: dict[str, Any]
    album: Album
    exact: list[list[int]]
    near: list[tuple[int, int, float]]
    odd: dict[str, list[int]]


def _look(album: Album, progress: Callable[[float], None]) -> _Seen:
    channels = next(iter(album.parts.values())).shape[0]
    seen = _Seen(Values.empty(channels), Values.empty(channels))
    done = 0
    for name, images in album.parts.items():
        values = seen.test if name == "test" and album.official["test"] else seen.held
        size = max(1, _CHUNK // (images.shape[0] * images.shape[1] * images.shape[2]))
        for index in torch.arange(len(images)).split(size):
            chunk = images.copied(index)
            values.add(chunk.pixels)
            flat = chunk.pixels.contiguous().flatten(1).numpy()
            seen.digests += [hashlib.blake2b(row.data, digest_size=16).digest() for row in flat]
            unit = chunk.unit().contiguous()
            seen.features.append(describe(unit))
            spread, mean = torch.std_mean(unit.flatten(1), dim=1, correction=0)
            seen.means.append(mean)
            seen.deviations.append(spread)
            if channels == 3:
                apart = (unit.amax(1) - unit.amin(1)).flatten(1).mean(1)
                seen.grey += int((apart <= GREY_DIFFERENCE).sum())
            done += len(index)
            progress(done / len(album))
    return seen


def _exact(digests: list[bytes]) -> list[list[int]]:
    """Groups of equal digests, in order of their first."""
    where: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        where.setdefault(digest, []).append(index)
    return [group for group in where.values() if len(group) > 1]


def _near(
    album: Album, seen: _Seen, exact: list[list[int]], progress: Callable[[float], None]
) -> tuple[list[tuple[int, int, float]], dict[str, Any]]:
    """Pairs of near-duplicates, exact ones apart, and what was asked of them."""
    single = torch.ones(len(album), dtype=torch.bool)
    single[[index for group in exact for index in group[1:]]] = False
    rows = single.nonzero()[:, 0]
    found = near_duplicates(torch.cat(seen.features)[rows], progress)
    pairs = rows[found.pairs]
    detail = [
        detail_correlation(album.unit(part[:, 0]), album.unit(part[:, 1])) for part in pairs.split(256) if len(part)
    ]
    kept = torch.cat(detail) >= LEAST_DETAIL if detail else torch.zeros(0, dtype=torch.bool)
    correlations = 1 - found.distances[kept].square() / 2
    listed = [(a, b, c) for (a, b), c in zip(pairs[kept].tolist(), correlations.tolist(), strict=True)]
    facts = {"largest_ratio": found.threshold, "intrinsic_dimension": found.intrinsic_dimension}
    return listed, facts


def _duplicates_record(album: Album, exact: list[list[int]]) -> dict[str, Any]:
    return {
        "num_groups": len(exact),
        "num_images": sum(map(len, exact)),
        "groups": [[album.place(index) for index in group] for group in exact[:MOST_LISTED]],
    }


def _leakage(album: Album, exact: list[list[int]], near: list[tuple[int, int, float]]) -> dict[str, dict[str, Any]]:
    """For each pair of splits: held-out images that are in the other split too, exactly or nearly."""
    split_of = album.split_of()
    names = list(album.parts)
    result = {}
    for row, seen in enumerate(names):
        for held in names[row + 1 :]:
            same = {
                i for group in exact for i in group if split_of[i] == held and any(split_of[j] == seen for j in group)
            }
            close = {
                i
                for a, b, _ in near
                for i, other in ((a, b), (b, a))
                if split_of[i] == held and split_of[other] == seen
            }
            result[f"{held}_in_{seen}"] = {
                "exact": len(same),
                "near": len(close - same),
                "fraction": len(same | close) / len(album.parts[held]),
            }
    return result


def _odd(means: Tensor, deviations: Tensor) -> dict[str, list[int]]:
    """Images that show nearly nothing, and of the others those much darker or brighter than most."""
    even = deviations <= EVEN
    quarter = torch.tensor([0.25, 0.75], dtype=torch.float64)
    low, high = torch.quantile(
        means[torch.randperm(len(means), generator=torch.Generator().manual_seed(0))[:1_000_000]].double(), quarter
    ).tolist()
    fence = FAR_OUT * (high - low)
    dark, bright = (means < low - fence) & ~even, (means > high + fence) & ~even
    order = means.argsort(stable=True)
    return {
        "even": even.nonzero()[:, 0].tolist(),
        "dark": order[dark[order]].tolist(),
        "bright": order[bright[order]].flip(0).tolist(),
    }


def _classes(album: Album, info: DataInfo) -> list[dict[str, Any]] | None:
    counts = {name: Counter(part.labels.tolist()) for name, part in album.parts.items() if part.labels is not None}
    if not counts or not info.class_names:
        return None
    return [
        {"name": name, "num_images": {part: found[label] for part, found in counts.items()}}
        for label, name in enumerate(info.class_names)
    ]


def _attributes(album: Album, info: DataInfo) -> list[dict[str, Any]] | None:
    found = [part.attributes for part in album.parts.values() if part.attributes is not None]
    if not found or not info.attribute_names:
        return None
    values = torch.cat(found).double()
    known = ~values.isnan()
    means = values.nan_to_num().sum(0) / known.sum(0).clamp(min=1)
    return [
        {"name": name, "mean": mean, "known": count}
        for name, mean, count in zip(info.attribute_names, means.tolist(), known.sum(0).tolist(), strict=True)
    ]
