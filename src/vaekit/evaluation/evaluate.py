"""`evaluate`: the numbers of a run on one split, in one record."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from vaekit.data.binarization import Dequantize
from vaekit.data.download import data_folder
from vaekit.data.splits import load_splits
from vaekit.errors import InputError
from vaekit.evaluation.likelihood import Estimate, estimate
from vaekit.evaluation.restoration import restoration
from vaekit.memory import keep_pages
from vaekit.probability.likelihoods import LIKELIHOODS, Measure
from vaekit.storage import load_model

DEFAULT_SAMPLES = 100


def evaluate(
    path: str | os.PathLike[str],
    split: str = "test",
    num_importance_samples: int = DEFAULT_SAMPLES,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    decodes_at_once: int = 1000,
    progress: Callable[[float], None] = lambda fraction: None,
) -> dict[str, Any]:
    """Measure a trained model on held-out images.

    Args:
        path: a run folder, or a model file.
        split: train, val or test.
        num_importance_samples: samples an image for every bound, from 1 up.
        data_dir: folder of local data sets; None reads VAEKIT_DATA.
        limit: use only so many images, evenly spread over the split.
        seed: of the evaluation's noise.
        device: where to compute: auto (a GPU where there is one), cpu or cuda.
        decodes_at_once: images times samples held in memory at once; the result does not depend on it.
        progress: called with the fraction done.

    Returns:
        A record for JSON. Quantities in nats are per image: ``elbo_nats`` = -(``distortion_nats`` + ``rate_nats``), and
        ``nll_nats`` is the importance-sampled estimate of -log p(x), given the condition where there is one; all are None
        where the model has no bound. A model with several groups of latents has ``rate_by_level_nats`` too, from the group
        that is drawn first, and one whose draws of an image do not differ is measured with one importance sample.
        ``standard_error_nats`` is that of the mean over images of ``nll_nats``. ``bits_per_dim`` is ``nll_nats`` /
        (D log 2) of D pixel values where the measure is discrete; of a density of dequantized pixels it is (``nll_nats``
        + D log 256) / (D log 2), an upper bound on the bits of their grey levels; elsewhere None.

    Raises:
        InputError: when there is no model or no such split, the data changed, or a count is below 1.

    >>> import tempfile, vaekit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = vaekit.train(folder + "/run", "mlp", data="digits", epochs=1)
    ...     found = vaekit.evaluate(run.path, num_importance_samples=10)
    >>> found["num_images"], found["measure"], found["nll_nats"] < -found["elbo_nats"]
    (179, 'surrogate', True)
    """
    counts = {"--importance-samples": num_importance_samples, "--limit": limit, "decodes_at_once": decodes_at_once}
    device = prepared(device, counts)
    model, config, info = load_model(path, device)
    data = config.data
    splits = load_splits(data, data_folder(data_dir))
    if splits.info != info:
        raise InputError(f"data {info.name!r} changed since the model was trained; restore them or train anew")
    images = splits.named(split).spread(limit).to(device)
    found = estimate(model, data, images, num_importance_samples, seed, decodes_at_once, progress)
    measure = config.model.likelihood.measure(data.is_binary(info))
    record = {
        "split": split,
        "num_images": len(images),
        "likelihood": LIKELIHOODS.name_of(config.model.likelihood),
        "measure": measure,
        **_bounds(found),
        "active_units": found.active_units(),
        "latent_dim": found.codes.shape[1],
    }
    dequantized = isinstance(data.binarization, Dequantize)
    record["bits_per_dim"] = _bits_per_dim(record["nll_nats"], measure, dequantized, math.prod(info.shape))
    if data.restores:
        record |= restoration(model, data, images, seed)
    return record


def _bits_per_dim(nll_nats: float | None, measure: Measure, dequantized: bool, num_dims: int) -> float | None:
    """The NLL in bits for each pixel and channel, of whole grey levels; None where these have no probability.

    >>> [_bits_per_dim(0.0, "density", dequantized, 784) for dequantized in (True, False)]
    [8.0, None]
    """
    if nll_nats is None or measure == "surrogate" or (measure == "density" and not dequantized):
        return None
    # a level is 1/256 wide in dequantized pixels: its probability is the density there over 256
    of_levels = nll_nats + num_dims * math.log(256.0) if measure == "density" else nll_nats
    return of_levels / (num_dims * math.log(2.0))


def prepared(device: str, counts: Mapping[str, int | None]) -> str:
    """Check what a measurement was given, and set this process up for it; returns the device that auto stands for.

    Args:
        device: auto (a GPU where there is one), cpu or cuda.
        counts: numbers that must be at least 1, or None, by the name that a sentence should call them.

    Raises:
        InputError: for a count below 1.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{name}: {count} is out of range; it must be at least 1")
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    keep_pages()
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _bounds(found: Estimate) -> dict[str, Any]:
    distortion = found.distortion.mean().item()
    if found.rate is None or found.log_p is None or found.effective_samples is None:
        nothing = ("elbo_nats", "rate_nats", "nll_nats", "num_importance_samples")
        return {
            "distortion_nats": distortion,
            **dict.fromkeys((*nothing, "effective_sample_size", "standard_error_nats")),
        }
    rate = found.rate.mean().item()
    error = found.log_p.std().item() / math.sqrt(len(found.log_p)) if len(found.log_p) > 1 else None
    return {
        "elbo_nats": -(distortion + rate),
        "rate_nats": rate,
        "distortion_nats": distortion,
        "nll_nats": -found.log_p.mean().item(),
        "num_importance_samples": found.num_samples,
        "effective_sample_size": found.effective_samples.mean().item(),
        "standard_error_nats": error,
        **_levels(found),
    }


def _levels(found: Estimate) -> dict[str, list[float]]:
    if found.levels is None or found.levels.shape[-1] < 2:
        return {}
    return {"rate_by_level_nats": found.levels.mean(0).tolist()}
