"""A sampler fitted to a model: for each label a density of its codes, in a file of the run."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.config import choice, decode, encode
from vaekit.errors import InputError
from vaekit.models.table import Model
from vaekit.networks.conditioning import UNKNOWN
from vaekit.noise import Noise, seeded
from vaekit.probability.mixtures import choose
from vaekit.samplers.gaussians import MixtureSampler
from vaekit.samplers.table import SAMPLERS, Density, Sampler
from vaekit.storage import read_tensors, write_tensors

_FEWEST = 20  # codes to fit to
_SMALLEST = 1e-6  # standard deviation of a latent that changes


@dataclass(frozen=True)
class SamplerSettings:
    """Which sampler, and how it is fitted."""

    sampler: Sampler = choice(SAMPLERS, MixtureSampler, "density that is fitted to the codes of the training images")


@dataclass
class Counts:
    """Codes that a sampler was fitted to: one number, or where it is `labelled` one for each label."""

    by_label: tuple[int, ...]
    labelled: bool


class FittedSampler(nn.Module):
    """Densities of codes in their own units; for a model that reads labels one for each label.

    Args:
        densities: of standardized codes, one, or one for each label.
        loc: (densities, latent) means of the codes.
        scale: (densities, latent) standard deviations of the codes.
        counts: codes that they were fitted to.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, densities: list[Density], loc: Tensor, scale: Tensor, counts: Counts):
        super().__init__()
        self.densities, self.counts = nn.ModuleList(densities), counts
        self.register_buffer("loc", loc)
        self.register_buffer("scale", scale)

    @torch.no_grad()
    def sample(self, noise: Noise, labels: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Codes (count, latent), one for each index of the noise.

        Args:
            noise: decides them.
            labels: int64 (count,) for a model that reads labels; of one that is unknown, -1, a label is drawn as often as
                the training images have it.
            temperature: factor of their distance from the mean of the codes.
        """
        chosen = self._chosen(labels, noise)
        codes = torch.empty(len(noise.index), self.loc.shape[1], device=self.loc.device)
        for number in chosen.unique().tolist():
            rows = (chosen == number).nonzero()[:, 0]
            standard = self._density(number).sample(noise._replace(index=noise.index[rows]))
            codes[rows] = self.loc[number] + temperature * self.scale[number] * standard
        return codes

    @torch.no_grad()
    def log_prob(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """The log-density in nats, (n,), of codes (n, latent) given their labels (n,)."""
        chosen = torch.zeros_like(codes[:, 0], dtype=torch.int64) if labels is None else labels
        found = torch.empty_like(codes[:, 0])
        for number in chosen.unique().tolist():
            rows = (chosen == number).nonzero()[:, 0]
            standard = (codes[rows] - self.loc[number]) / self.scale[number]
            found[rows] = self._density(number).log_prob(standard) - self.scale[number].log().sum()
        return found

    def _density(self, number: int) -> Density:
        density = self.densities[number]
        assert isinstance(density, Density)
        return density

    def _chosen(self, labels: Tensor | None, noise: Noise) -> Tensor:
        if not self.counts.labelled:
            return torch.zeros_like(noise.index)
        if labels is None:
            raise InputError("the sampler was fitted label by label and was given no labels; give one for each image")
        shares = torch.tensor(self.counts.by_label, dtype=torch.float64, device=noise.index.device)
        return torch.where(labels == UNKNOWN, choose((shares / shares.sum()).log(), noise, "label"), labels)


def fit(
    sampler: Sampler,
    codes: Tensor,
    labels: Tensor | None,
    names: tuple[str, ...],
    seed: int,
    model: Model | None = None,
) -> FittedSampler:
    """Fit a sampler to codes float32 (n, latent), label by label where there are labels (n,), whose `names` are given.

    The `model` that made the codes is for samplers that read it.

    Raises:
        InputError: when there are too few codes, or codes that are not finite.
    """
    if not torch.isfinite(codes).all():
        raise InputError("the model's codes hold NaN or infinity, and nothing can be fitted to them; train anew")
    parts = [codes] if labels is None else [codes[labels == number] for number in range(len(names))]
    densities, locs, scales = [], [], []
    for number, part in enumerate(parts):
        if len(part) < _FEWEST:
            whose = "" if labels is None else f" of class {names[number]!r}"
            raise InputError(f"{len(part)} codes{whose} are too few to fit a sampler to; it takes {_FEWEST} images")
        loc, scale = part.mean(0), part.std(0)
        scale = torch.where(scale > _SMALLEST, scale, 1.0)  # a latent that never changes stays where it is
        of_model = getattr(sampler, "fit_model", None)
        fitted = of_model(model, loc, scale, seed) if of_model else sampler.fit((part - loc) / scale, seed)
        densities.append(fitted.to(codes.device))
        locs.append(loc)
        scales.append(scale)
    counts = Counts(tuple(map(len, parts)), labels is not None)
    return FittedSampler(densities, torch.stack(locs), torch.stack(scales), counts)


def _place(path: str | os.PathLike[str], name: str) -> tuple[Path, Path]:
    """The model's file and the sampler's, of a run folder or a model file."""
    folder = Path(path)
    model = folder / "model.safetensors" if folder.is_dir() else folder
    return model, model.parent / "samplers" / f"{name}.safetensors"


def _digest(model: Path) -> str:
    return hashlib.sha256(model.read_bytes()).hexdigest()


def save_sampler(path: str | os.PathLike[str], settings: SamplerSettings, fitted: FittedSampler) -> Path:
    """Write a sampler beside the model it was fitted to; returns the file."""
    model, file = _place(path, SAMPLERS.name_of(settings.sampler))
    about = {
        "config": encode(settings),
        "counts": fitted.counts.by_label,
        "labelled": fitted.counts.labelled,
        "model": _digest(model),
    }
    try:
        file.parent.mkdir(exist_ok=True)
        write_tensors(file, fitted.state_dict(), about)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); make room, or mend its rights") from None
    return file


def load_sampler(path: str | os.PathLike[str], name: str, device: str = "cpu") -> FittedSampler:
    """The sampler that `vaekit.fit_sampler` made for a run.

    Args:
        path: the run folder, or its model file.
        name: of the sampler, such as ``mixture``.
        device: where it shall be.

    Raises:
        InputError: when there is no such sampler, it is damaged, or the model was trained since.
    """
    SAMPLERS[name]
    model, file = _place(path, name)
    again = f"vaekit fit-sampler {path} --sampler {name}"
    if not file.exists():
        raise InputError(f"run {str(path)!r} has no sampler {name!r} yet; fit it with {again}")
    tensors, about = read_tensors(file, "sampler")
    try:
        settings = decode(SamplerSettings, about["config"])
        stale = about["model"] != _digest(model)
        fitted = _rebuilt(settings.sampler, Counts(tuple(about["counts"]), about["labelled"]), tensors)
    except (KeyError, TypeError, RuntimeError, AttributeError):
        raise InputError(f"{file}: is damaged, or of another version; fit it anew with {again}") from None
    if stale:
        raise InputError(f"sampler {name!r} was fitted to other weights than the model has now; fit it with {again}")
    return fitted.to(device).eval()


def _rebuilt(sampler: Sampler, counts: Counts, tensors: dict[str, Any]) -> FittedSampler:
    num_latents = tensors["loc"].shape[1]
    with seeded(0, "weights"):  # they are replaced at once; the caller's generator is left alone
        densities = [sampler.build(num_latents, count) for count in counts.by_label]
    fitted = FittedSampler(densities, torch.zeros_like(tensors["loc"]), torch.ones_like(tensors["scale"]), counts)
    fitted.load_state_dict(tensors)
    return fitted
