"""A trained model against classical methods, by corruption and strength."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vaekit.config import parse, replace
from vaekit.corruptions.chain import Chain, parse_chain, strength_of
from vaekit.corruptions.table import CORRUPTIONS, Clean, Corruption
from vaekit.data.batches import Batch, Data
from vaekit.data.download import data_folder
from vaekit.data.images import DataInfo, Images
from vaekit.data.splits import load_splits
from vaekit.errors import InputError
from vaekit.evaluation.baselines import NAMES, baselines
from vaekit.evaluation.restoration import as_target, psnr, ssim
from vaekit.generation import reconstruct
from vaekit.models.table import Model
from vaekit.noise import Noise, seed_key
from vaekit.storage import load_model

INPUT, MODEL = "corrupted", "model"
_FACTORS = (0.5, 1.0, 1.5, 2.0)
_WEAKER_WHEN_LARGER = frozenset({"photons", "jpeg_quality", "light"})  # as numbers of a corruption that these harm less
_CHOOSE_ON = 500


@dataclass
class Row:
    """One corruption at one strength.

    Attributes:
        corruption: its name, or the text of a chain.
        strength: its first number; None where it has none.
        trained: whether the model was trained on it.
        psnr_db: mean over the images, by method.
        ssim: the same.
        parameters: by baseline, what was chosen.
    """

    corruption: str
    strength: float | None
    trained: bool
    psnr_db: dict[str, float] = field(default_factory=dict)
    ssim: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, float] = field(default_factory=dict)


def label(corruption: Corruption) -> str:
    """A corruption in words: a chain by its text, others by their name."""
    return corruption.corruptions if isinstance(corruption, Chain) else CORRUPTIONS.name_of(corruption)


def scaled(corruption: Corruption, factor: float) -> Corruption | None:
    """The corruption with its strength times `factor`; None where that is out of its range or changes nothing.

    >>> from vaekit.corruptions.table import DownUp
    >>> scaled(DownUp(), 2.0), scaled(DownUp(), 0.5)
    (DownUp(blur_factor=4.0), None)
    """
    if isinstance(corruption, Chain):
        parts = [(part, scaled(part, factor)) for part in corruption.parts]
        if any(changed is None and strength_of(part) is not None for part, changed in parts):
            return None
        return Chain(",".join(_word(changed or part) for part, changed in parts))
    flag = strength_of(corruption)
    if flag is None:
        return corruption if factor == 1.0 else None
    if flag.name in _WEAKER_WHEN_LARGER:
        factor = 1.0 / factor
    value = round(flag.value * factor) if flag.type is int else flag.value * factor
    try:
        changed: Corruption = replace(corruption, flag.path, parse(flag, value))
    except InputError:
        return None
    return changed


def _word(corruption: Corruption) -> str:
    flag = strength_of(corruption)
    return label(corruption) if flag is None else f"{label(corruption)}:{flag.value:g}"


def levels(corruption: Corruption) -> list[tuple[float, Corruption]]:
    """The corruption at half, once, one and a half times and twice its strength, as far as its range goes."""
    found = [(factor, corruption if factor == 1.0 else scaled(corruption, factor)) for factor in _FACTORS]
    kept: dict[Corruption, float] = {}
    for factor, one in found:
        if one is not None and (factor == 1.0 or one != corruption):
            kept.setdefault(one, factor)
    return [(factor, one) for one, factor in kept.items()]


def restored(model: Model, info: DataInfo, batch: Batch) -> Tensor:
    """The model's restorations; inputs of another size than it was trained on are first brought to that (bicubic)."""
    fitting = as_target(batch.input, torch.Size((len(batch.input), *info.seen_shape)))
    return reconstruct(model, fitting, batch.condition)


@dataclass(frozen=True)
class Methods:
    """The classical methods for one corruption, their parameters chosen.

    Attributes:
        chosen: parameter by name.
    """

    data: Data
    smaller: bool
    chosen: dict[str, float]

    @classmethod
    def choose(cls, data: Data, images: Images, seed: int = 0) -> Methods:
        """Parameters of the highest mean PSNR on at most 500 of `images`."""
        count = min(_CHOOSE_ON, len(images))
        index = torch.arange(count) * len(images) // max(count, 1)  # evenly spread: images may lie class after class
        batch = data.batch(images, index, _noise(seed, index))
        smaller = batch.input.shape[-1] < batch.target.shape[-1]
        found = baselines(data.corruption, smaller)
        return cls(data, smaller, {method.name: method.chosen(batch.input, batch.target) for method in found})

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """Images by method, the corrupted input first."""
        images = {INPUT: as_target(batch.input, batch.target.shape)}
        for method in baselines(self.data.corruption, self.smaller):
            images[method.name] = method.restore(batch.input, batch.target.shape, self.chosen[method.name])
        return images


def _noise(seed: int, index: Tensor) -> Noise:
    return Noise(torch.tensor(seed_key(seed, "evaluate"), device=index.device), index)


@torch.no_grad()
def measured(
    model: Model, info: DataInfo, data: Data, images: Images, methods: Methods, seed: int = 0, batch_size: int = 500
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean PSNR in dB and mean SSIM over `images`, by method, the model last."""
    sums: dict[str, Tensor] = {}
    for index in torch.arange(len(images)).split(batch_size):
        batch = data.batch(images, index, _noise(seed, index))
        shown = {**methods.restore(batch), MODEL: restored(model, info, batch)}
        for name, one in shown.items():
            both = torch.stack([psnr(one, batch.target).double().sum(), ssim(one, batch.target).double().sum()])
            sums[name] = sums.get(name, torch.zeros(2, dtype=torch.float64)) + both
    means = {name: (total / len(images)).tolist() for name, total in sums.items()}
    return {name: both[0] for name, both in means.items()}, {name: both[1] for name, both in means.items()}


def table_rows(
    model: Model,
    data: Data,
    info: DataInfo,
    images: Images,
    choose_on: Images,
    corruptions: Sequence[Corruption],
    seed: int = 0,
) -> list[Row]:
    """A row for each corruption, measured on `images`, the parameters of the classical methods chosen on `choose_on`."""
    rows = []
    for corruption in corruptions:
        changed = dataclasses.replace(data, corruption=corruption)
        flag = None if isinstance(corruption, Chain) else strength_of(corruption)
        name = "as given" if data.target is not None and isinstance(corruption, Clean) else label(corruption)
        row = Row(name, None if flag is None else flag.value, data.restores and corruption == data.corruption)
        methods = Methods.choose(changed, choose_on, seed)
        row.psnr_db, row.ssim = measured(model, info, changed, images, methods, seed)
        row.parameters = methods.chosen
        rows.append(row)
    return rows


def restoration_table(
    path: str | os.PathLike[str],
    split: str = "test",
    *,
    corruptions: str | None = None,
    limit: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """A trained model against classical methods on one split: the run's corruption at several strengths, and others.

    The parameter of each method is chosen on 500 validation images; where there are none, or validation is what is
    measured, on training images.

    Args:
        path: a run folder, or a model file.
        split: train, val or test.
        corruptions: further ones, such as ``gaussian-noise:0.2,jpeg:10``, each by itself.
        limit: use only so many images, evenly spread over the split.
        data_dir: folder of local data sets; None reads VAEKIT_DATA.
        seed: of the noise.

    Returns:
        A record for JSON: ``split``, ``num_images``, ``chosen_on`` and ``rows``, each with ``corruption``, ``strength``,
        ``trained``, and by method ``psnr_db``, ``ssim`` and ``parameters``.

    Raises:
        InputError: when there is no model or no such split, the model does not restore, or a corruption is wrong.
    """
    model, config, info = load_model(path)
    data = config.data
    others = [] if corruptions is None else list(parse_chain(corruptions))
    if not data.restores and not others:
        raise InputError(
            f"run {str(path)!r} was trained without a corruption to undo; train one with --preset denoising, "
            "or name corruptions to try"
        )
    splits = load_splits(data, data_folder(data_dir))
    images = splits.named(split)
    images = images.spread(limit)
    aside = splits.val if splits.val is not None and split != "val" else splits.train
    if aside is splits.train and split == "train":  # not those that are measured, where there are others
        rest = torch.arange(len(images), len(aside)) if len(images) < len(aside) else torch.arange(len(aside))
        aside = aside.select(rest)
    own = [one for _, one in levels(data.corruption)] if data.restores else []
    rows = table_rows(model, data, info, images, aside, [*own, *others], seed)
    return {
        "split": split,
        "num_images": len(images),
        "chosen_on": "validation" if aside is splits.val else "training",
        "rows": [dataclasses.asdict(row) for row in rows],
    }


def table_text(run: str, record: dict[str, Any]) -> str:
    """The table to read: a line for each corruption and strength, PSNR and SSIM of each method."""
    rows = record["rows"]
    methods = [INPUT, *(name for name in NAMES if any(name in row["parameters"] for row in rows)), MODEL]
    names = [
        row["corruption"] + ("" if row["strength"] is None else f" {row['strength']:g}") + " *" * row["trained"]
        for row in rows
    ]
    width = max(len(name) for name in (*names, "corruption"))
    cells = [max(14, len(name)) for name in methods]
    lines = [
        f"{run}: {record['num_images']:,} {record['split']} images, mean PSNR in dB and SSIM (higher is better)",
        "",
    ]
    heads = "  ".join(f"{name:>{cell}}" for name, cell in zip(methods, cells, strict=True))
    lines.append(f"  {'corruption':<{width}}  {heads}")
    for name, row in zip(names, rows, strict=True):
        values = [
            f"{row['psnr_db'][method]:.2f}  {row['ssim'][method]:.3f}" if method in row["psnr_db"] else "-"
            for method in methods
        ]
        shown = "  ".join(f"{value:>{cell}}" for value, cell in zip(values, cells, strict=True))
        lines.append(f"  {name:<{width}}  {shown}")
    lines += ["", f"* what the model was trained on; parameters of the filters chosen on {record['chosen_on']} images"]
    return "\n".join(lines)
