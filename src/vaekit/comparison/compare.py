"""`compare`: several runs on the same images with the same noise, image by image."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaekit.data.batches import Data
from vaekit.data.download import data_folder
from vaekit.data.images import DataInfo, Images, Splits, checksum
from vaekit.data.splits import load_splits
from vaekit.errors import InputError
from vaekit.evaluation.evaluate import DEFAULT_SAMPLES, prepared
from vaekit.evaluation.likelihood import estimate
from vaekit.evaluation.restoration import psnr
from vaekit.generation import reconstruct
from vaekit.models.table import Model
from vaekit.noise import Noise, seed_key
from vaekit.probability.likelihoods import LIKELIHOODS
from vaekit.settings import Config
from vaekit.storage import load_model

QUANTITIES = ("elbo_nats", "distortion_nats", "rate_nats", "nll_nats", "psnr_db")
_SCORED = ("elbo_nats", "distortion_nats", "nll_nats")  # these hold log p(target | z), whose meaning has a measure
_FEWEST_SEEDS = 3  # runs of one configuration whose spread is reported


@dataclass(frozen=True)
class Contestant:
    """A run that is compared.

    Attributes:
        name: a letter.
        path: as given.
        model: in evaluation mode.
        config: its configuration.
        info: its data.
        images: n images of the split, on the model's device.
        values: float64 (n,) by the names of `QUANTITIES`; None for what the run does not have.
        record: the same for JSON, as means, with what else is to know of the run.
    """

    name: str
    path: str
    model: Model
    config: Config
    info: DataInfo
    images: Images
    values: dict[str, Tensor | None]
    record: dict[str, Any]

    @property
    def title(self) -> str:
        """Letter and folder, to stand beside pictures."""
        return f"{self.name}  {Path(self.path).resolve().name}"


def compare(
    paths: Sequence[str | os.PathLike[str]],
    split: str = "test",
    num_importance_samples: int = DEFAULT_SAMPLES,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[dict[str, Any], list[Contestant]]:
    """Measure runs on the same images, and their differences image by image.

    Args:
        paths: run folders or model files, from two up; each difference is a later run minus an earlier one.
        split: train, val or test.
        num_importance_samples: samples an image for every bound, from 1 up.
        data_dir: folder of local data sets; None reads VAEKIT_DATA.
        limit: use only so many images, evenly spread over the split.
        seed: of the evaluation's noise, the same for all runs.
        device: where to compute: auto (a GPU where there is one), cpu or cuda.
        progress: called with the fraction done.

    Returns:
        A record for JSON, and the runs. In the record, ``runs`` hold means over images, and ``differences`` for each pair
        the mean of the paired differences, its standard error and a 95% interval (Student's t over images): it speaks of
        these trained models, not of their configurations. A difference that has no meaning is null, and ``why_not`` says
        why. ``configurations`` hold the spread over runs that differ in nothing but the seed, where there are three.

    Raises:
        InputError: when the runs do not score the same images of the same split.

    >>> import tempfile, vaekit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     runs = [vaekit.train(f"{folder}/{n}", "mlp", data="digits", latent_dim=n, epochs=1) for n in (1, 8)]
    ...     record, _ = compare([run.path for run in runs], num_importance_samples=5)
    >>> [(run["name"], run["latent_dim"]) for run in record["runs"]]
    [('A', 1), ('B', 8)]
    >>> gap = record["differences"][0]["elbo_nats"]  # B minus A
    >>> gap["low"] < gap["mean"] < gap["high"]
    True
    """
    device = prepared(device, {"--importance-samples": num_importance_samples, "--limit": limit})
    _check_paths(paths)
    loaded = [load_model(path, device) for path in paths]
    chosen = _same_images(paths, [(config, info) for _, config, info in loaded], split, limit, data_dir)
    runs: list[Contestant] = []
    for place, (path, (model, config, info)) in enumerate(zip(paths, loaded, strict=True)):
        images = chosen[place].to(device)

        def show(fraction: float, before: int = place) -> None:
            progress((before + fraction) / len(loaded))

        values, facts = _measure(model, config.data, images, num_importance_samples, seed, show)
        name = _letter(place)
        record = {"name": name, "run": str(path), **_description(model, config, info), **facts}
        for quantity, value in values.items():
            record[quantity] = None if value is None else value.mean().item()
        record["standard_errors"] = {name: _standard_error(value) for name, value in values.items()}
        runs.append(Contestant(name, str(path), model, config, info, images, values, record))
    pairs = [(first, second) for number, first in enumerate(runs) for second in runs[number + 1 :]]
    record = {
        "split": split,
        "num_images": len(runs[0].images),
        "num_importance_samples": num_importance_samples,
        "runs": [run.record for run in runs],
        "differences": [difference(first, second) for first, second in pairs],
        "configurations": spreads(runs),
        "notes": _notes(runs),
    }
    return record, runs


def _check_paths(paths: Sequence[str | os.PathLike[str]]) -> None:
    if len(paths) < 2:
        raise InputError(f"compare: {len(paths)} run is nothing to compare; give at least two")
    places = [Path(path).resolve() for path in paths]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise InputError(f"compare: {str(paths[number])!r} is given twice; give each run once")


def _same_images(
    paths: Sequence[str | os.PathLike[str]],
    described: Sequence[tuple[Config, DataInfo]],
    split: str,
    limit: int | None,
    data_dir: str | os.PathLike[str] | None,
) -> list[Images]:
    """The split of each run; these must be the same images, made into the same targets."""
    opened: dict[Data, Splits] = {}
    chosen: list[Images] = []
    sums: list[tuple[Any, ...]] = []
    first_config, first_info = described[0]
    for path, (config, info) in zip(paths, described, strict=True):
        pair = f"runs {str(paths[0])!r} and {str(path)!r}"
        if config.data.binarization != first_config.data.binarization:
            raise InputError(
                f"{pair} score different targets, as --binarization differs; compare runs that have it in common"
            )
        if config.data not in opened:
            opened[config.data] = load_splits(config.data, data_folder(data_dir))
        splits = opened[config.data]
        if splits.info != info:
            raise InputError(f"data {info.name!r} changed since the model was trained; restore them or train anew")
        images = splits.named(split)
        images = images.spread(limit)
        sums.append((info.shape, len(images), checksum(Images(images.pixels, rows=images.rows))))
        if sums[-1] != sums[0]:
            where = (
                f"of the same data {info.name!r}; give them the same data settings, or choose another --split"
                if info.name == first_info.name
                else f"of {first_info.name!r} and of {info.name!r}; compare runs of the same data"
            )
            raise InputError(f"{pair} have different {split} images, {where}")
        chosen.append(images)
    return chosen


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _description(model: Model, config: Config, info: DataInfo) -> dict[str, Any]:
    return {
        "likelihood": LIKELIHOODS.name_of(config.model.likelihood),
        "measure": config.model.likelihood.measure(config.data.is_binary(info)),
        "conditional": model.conditional,
        "restores": config.data.restores,
        "training_seed": config.training.seed,
    }


def _measure(
    model: Model, data: Data, images: Images, num_samples: int, seed: int, progress: Callable[[float], None]
) -> tuple[dict[str, Tensor | None], dict[str, Any]]:
    found = estimate(model, data, images, num_samples, seed, progress=progress)
    values: dict[str, Tensor | None] = {
        "elbo_nats": None if found.rate is None else -(found.distortion + found.rate),
        "distortion_nats": found.distortion,
        "rate_nats": found.rate,
        "nll_nats": None if found.log_p is None else -found.log_p,
        "psnr_db": _restored(model, data, images, seed) if data.restores else None,
    }
    return values, {"latent_dim": found.codes.shape[1], "active_units": found.active_units()}


@torch.no_grad()
def _restored(model: Model, data: Data, images: Images, seed: int) -> Tensor:
    """PSNR of each restored image, (n,) dB, from the inputs that `evaluate` gives too."""
    device = images.pixels.device
    key = torch.tensor(seed_key(seed, "evaluate"), device=device)
    parts = []
    for index in torch.arange(len(images), device=device).split(500):
        batch = data.batch(images, index, Noise(key, index))
        parts.append(psnr(reconstruct(model, batch.input, batch.condition), batch.target).double().cpu())
    return torch.cat(parts)


def _standard_error(values: Tensor | None) -> float | None:
    return None if values is None or len(values) < 2 else values.std().item() / math.sqrt(len(values))


def paired(first: Tensor, second: Tensor) -> dict[str, Any]:
    """Mean over n images of second - first, its standard error, and a 95% interval by Student's t with n - 1 degrees.

    >>> found = paired(torch.zeros(4, dtype=torch.float64), torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    >>> found["mean"], round(found["standard_error"], 4), round(found["low"], 3), found["excludes_zero"]
    (2.5, 0.6455, 0.446, True)
    """
    from scipy.special import stdtrit  # comes with scikit-learn; imported late, as it takes a while

    gaps = second - first
    mean, error = gaps.mean().item(), _standard_error(gaps)
    if error is None:
        return {"mean": mean, "standard_error": None, "low": None, "high": None, "excludes_zero": None}
    reach = float(stdtrit(len(gaps) - 1, 0.975)) * error
    low, high = mean - reach, mean + reach
    return {"mean": mean, "standard_error": error, "low": low, "high": high, "excludes_zero": low > 0 or high < 0}


def difference(first: Contestant, second: Contestant) -> dict[str, Any]:
    """The second run minus the first, for each quantity; null with a reason where that has no meaning."""
    found: dict[str, Any] = {"run": second.name, "minus": first.name}
    why_not: dict[str, str] = {}
    for quantity in QUANTITIES:
        ours, theirs = second.values[quantity], first.values[quantity]
        found[quantity] = None
        if (reason := _why_not(first, second, quantity)) is not None:
            why_not[quantity] = reason
        elif ours is not None and theirs is not None:
            found[quantity] = paired(theirs, ours)
    return {**found, "why_not": why_not}


def _why_not(first: Contestant, second: Contestant, quantity: str) -> str | None:
    lacking = [run.name for run in (first, second) if run.values[quantity] is None]
    if lacking:
        has = "have" if len(lacking) == 2 else "has"
        return f"{' and '.join(lacking)} {has} none"
    measures = [run.record["measure"] for run in (first, second)]
    if quantity in _SCORED and measures[0] != measures[1]:
        return f"{first.name} is a {measures[0]} and {second.name} a {measures[1]}, which do not compare"
    if quantity in _SCORED and measures[0] == "surrogate" and first.record["likelihood"] != second.record["likelihood"]:
        return "surrogates of different likelihoods do not compare"
    if quantity == "psnr_db" and first.config.data.corruption != second.config.data.corruption:
        return f"{first.name} and {second.name} undo different corruptions"
    return None


def _notes(runs: Sequence[Contestant]) -> list[str]:
    """What a reader must know before trusting a difference."""
    notes = []
    told, untold = ([run.name for run in runs if run.model.conditional is given] for given in (True, False))
    if told and untold:
        notes.append(
            f"{_and(told)} read{'s' * (len(told) == 1)} a label or attributes and {_and(untold)} "
            f"do{'es' * (len(untold) == 1)} not: log p(x | condition) stands beside log p(x)."
        )
    seen = {run.config.data.corruption for run in runs}
    if len(seen) > 1:
        notes.append("The encoders see different inputs, as the corruptions differ; all score the same clean images.")
    return notes


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def spreads(runs: Sequence[Contestant]) -> list[dict[str, Any]]:
    """Mean and standard deviation over runs that differ in nothing but the seed, where there are at least three."""
    groups: dict[Config, list[Contestant]] = {}
    for run in runs:
        groups.setdefault(_without_seed(run.config), []).append(run)
    found = []
    for group in groups.values():
        if len(group) < _FEWEST_SEEDS:
            continue
        summary: dict[str, Any] = {
            "runs": [run.name for run in group],
            "training_seeds": [run.config.training.seed for run in group],
        }
        for quantity in QUANTITIES:
            means = [run.record[quantity] for run in group]
            summary[quantity] = None if None in means else _spread(torch.tensor(means, dtype=torch.float64))
        found.append(summary)
    return found


def _without_seed(config: Config) -> Config:
    """The configuration without what only says where, and from which seed, it ran."""
    training = dataclasses.replace(config.training, seed=0, device="auto", threads=None, tensorboard=False)
    return dataclasses.replace(config, training=training)


def _spread(means: Tensor) -> dict[str, float]:
    deviation = means.std().item()
    return {
        "mean": means.mean().item(),
        "standard_deviation": deviation,
        "standard_error": deviation / math.sqrt(len(means)),
        "lowest": means.min().item(),
        "highest": means.max().item(),
    }
