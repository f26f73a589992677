"""`fit_sampler`: a density fitted to the codes of a trained model, written into its run."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vaekit.config import set_flags
from vaekit.data.batches import Data
from vaekit.data.download import data_folder
from vaekit.data.images import Images
from vaekit.data.splits import load_splits
from vaekit.errors import InputError
from vaekit.evaluation.evaluate import prepared
from vaekit.models.table import Model
from vaekit.networks.conditioning import told
from vaekit.noise import Noise, seed_key
from vaekit.samplers.fitted import FittedSampler, SamplerSettings, fit, save_sampler
from vaekit.samplers.table import SAMPLERS
from vaekit.storage import load_model

_AT_ONCE = 250


def fit_sampler(
    path: str | os.PathLike[str],
    sampler: str = "mixture",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[float], None] = lambda fraction: None,
    **settings: Any,
) -> dict[str, Any]:
    """Fit a sampler to the codes of a run's training images, and write it into the run's folder ``samplers``.

    A code is a sample of q(z | x), as Dai and Wipf 2019 have it, or the code itself where that is deterministic: the
    decoder learned from samples, and means would leave out the width of every posterior. For a model that reads labels a
    density is fitted to the codes of each, of the images whose labels training was told (see ``--labelled``).

    Args:
        path: the run folder, or its model file.
        sampler: its name; see ``vaekit list samplers``.
        data_dir: folder of local data sets; None reads VAEKIT_DATA.
        limit: use only so many training images, evenly spread.
        seed: of codes and fit.
        device: where to compute: auto (a GPU where there is one), cpu or cuda.
        progress: called with the fraction of images encoded.
        settings: of the sampler, such as ``components=20``.

    Returns:
        A record for JSON. ``log_density_nats`` is the mean log-density of held-out codes, those of the validation images
        or, where there are none, of a tenth of the training images, which then are not fitted to;
        ``prior_log_density_nats`` is that under the model's own prior.

    Raises:
        InputError: when the model's codes are no vectors in the plain space, or it reads attributes, or there are too few.

    >>> import tempfile, vaekit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = vaekit.train(folder + "/run", "mlp", data="digits", epochs=1)
    ...     record = vaekit.fit_sampler(run.path, "mixture", components=5)
    ...     model, _, _ = vaekit.load_model(run.path)
    ...     images = vaekit.sample(model, 16, sampler=vaekit.load_sampler(run.path, "mixture"))
    >>> images.shape, record["sampler"], record["held_out"]
    (torch.Size([16, 1, 8, 8]), 'mixture', 'val')
    """
    chosen: SamplerSettings = set_flags(SamplerSettings(), {"sampler": sampler, **settings})
    device = prepared(device, {"--limit": limit})
    model, config, info = load_model(path, device)
    _check(model, config.model)
    if check := getattr(chosen.sampler, "check", None):
        check(model)
    data = config.data
    splits = load_splits(data, data_folder(data_dir))
    if splits.info != info:
        raise InputError(f"data {info.name!r} changed since the model was trained; restore them or train anew")
    train, val = _known(model, splits.train).spread(limit), splits.val
    codes, labels = codes_of(model, data, train.to(device), seed, "train", progress)
    if val is None:
        apart = torch.arange(len(codes), device=codes.device) % 10 == 9
        held_out, held_labels = codes[apart], None if labels is None else labels[apart]
        codes, labels = codes[~apart], None if labels is None else labels[~apart]
    else:
        held_out, held_labels = codes_of(model, data, val.to(device), seed, "val")
    fitted = fit(chosen.sampler, codes, labels, info.class_names, seed, model)
    file = save_sampler(path, chosen, fitted)
    return {
        "sampler": SAMPLERS.name_of(chosen.sampler),
        "file": str(file),
        "num_codes": len(codes),
        "num_held_out": len(held_out),
        "held_out": "train" if val is None else "val",
        "latent_dim": codes.shape[1],
        "log_density_nats": _mean(fitted, held_out, held_labels),
        "prior_log_density_nats": _under_prior(model, held_out, held_labels),
    }


def _known(model: Model, images: Images) -> Images:
    """The training images, for a model that reads labels those whose labels it was told."""
    labelled = getattr(model, "labelled", 1.0)
    if labelled == 1.0:
        return images
    return images.select(told(torch.arange(len(images)), labelled).nonzero()[:, 0])


def _check(model: Model, config: Any) -> None:
    if model.num_attributes is not None:
        raise InputError(
            "the model reads attributes, and a sampler is fitted to all codes or label by label; "
            "sample from its prior, or train with --conditioning none"
        )
    space = getattr(getattr(config, "posterior", None), "space", "euclidean")
    if "vectors" not in model.provides or space != "euclidean":
        where = f"lie on a {space}" if space != "euclidean" else "are no single vectors"
        raise InputError(f"the model's codes {where}, and samplers are fitted to vectors; sample from its prior")


@torch.no_grad()
def codes_of(
    model: Model,
    data: Data,
    images: Images,
    seed: int,
    split: str,
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[Tensor, Tensor | None]:
    """A code of each of n images, float32 (n, latent), and their labels (n,) where the model reads labels.

    The noise differs from split to split: codes that shared it would be near each other for no reason of the images.
    """
    key = torch.tensor(seed_key(seed, "codes", split), device=images.pixels.device)
    codes = []
    for index in torch.arange(len(images), device=key.device).split(_AT_ONCE):
        noise = Noise(key, index)
        codes.append(model.draw(data.batch(images, index, noise), noise=noise).latents[0].value)
        progress((int(index[-1]) + 1) / len(images))
    return torch.cat(codes).float(), images.labels if model.num_classes is not None else None


def _mean(fitted: FittedSampler, codes: Tensor, labels: Tensor | None) -> float:
    return float(fitted.log_prob(codes, labels).double().mean())


@torch.no_grad()
def _under_prior(model: Model, codes: Tensor, labels: Tensor | None) -> float | None:
    """The mean log-density of codes under the model's own prior; None for a model that has none to take it of."""
    prior_given = getattr(model, "prior_given", None)
    if prior_given is None:
        return None
    return float(prior_given(model.code(labels)).log_prob(codes).double().mean())
