"""Images out of a trained model: samples, reconstructions, interpolations, restorations, maps of the latent space.

Images are float (n, channels, height, width) in [0, 1]: the mean of p(image | z), clipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from vaekit.conditions import condition_of, device_of
from vaekit.errors import InputError
from vaekit.models.table import Model
from vaekit.noise import Noise
from vaekit.paths import lerp
from vaekit.probability.distributions import center_of
from vaekit.probability.truncation import truncated_normal


class Sampling(Protocol):
    """What draws codes in the prior's place, as `vaekit.samplers.fitted.FittedSampler` does."""

    def sample(self, noise: Noise, labels: Tensor | None, temperature: float) -> Tensor:
        """Codes (count, latent) for the indices of the noise, of labels (count,), where the model reads them."""
        ...


@torch.no_grad()
def decode(
    model: Model,
    latents: Tensor,
    condition: Tensor | None = None,
    code: Tensor | None = None,
    clip: bool = True,
) -> Tensor:
    """Mean images of latents (n, latent); for a conditional model under labels (n,), attributes (n, k), or their codes.

    `clip` brings them to [0, 1]; the columns of a table have no such limits.
    """
    likelihood = model.decode(latents, condition) if code is None else model.decode(latents, code=code)
    return likelihood.mean.clamp(0.0, 1.0) if clip else likelihood.mean


@torch.no_grad()
def sample(
    model: Model,
    count: int,
    labels: Tensor | None = None,
    seed: int = 0,
    temperature: float | Sequence[float] = 1.0,
    sampler: Sampling | None = None,
    truncation: float | None = None,
    guidance: float = 1.0,
) -> Tensor:
    """New images from the prior, or from a density that was fitted to codes.

    Args:
        model: a trained model.
        count: how many.
        labels: int64 (count,) or (), for a conditional model, -1 for no label; None takes each class in turn. For a model
            that reads attributes: (count, k) or (k,), NaN for one at its mean; None has all at their means.
        seed: the same seed gives the same images, and the first n of any larger count.
        temperature: factor of the latents' distance from the origin, or of a sampler's from the mean of the codes; below 1,
            images are more typical and less varied. For a model with several levels of latents one for each, from the
            level that is drawn first, or one for all.
        sampler: takes the prior's place; see `vaekit.load_sampler`.
        truncation: largest distance of each latent from 0, in standard deviations: the prior is cut off there
            (`truncated_normal`), while a temperature shrinks it and leaves its shape. None: nowhere.
        guidance: how strongly images follow their condition, of a model trained with label dropout: 1 as trained, 0 as if
            there were none, above 1 more so (see `vaekit.models.table.Model.guided`). It guides the decoder (of `vq`,
            the prior over codes): latents of any other prior that reads the condition are drawn under it, at 0 too.

    Raises:
        InputError: for a truncation of a prior that is no N(0, I), or of a sampler; for a number of temperatures that is
            not that of the levels.

    >>> from vaekit import preset
    >>> from vaekit.data.images import DataInfo
    >>> model = preset("mlp").model.build(DataInfo("own", (3, 16, 12)))
    >>> sample(model, 5).shape
    torch.Size([5, 3, 16, 12])
    """
    if labels is None and model.num_classes is not None:
        labels = torch.arange(count) % model.num_classes
    if labels is None and model.num_attributes is not None:
        labels = torch.full((model.num_attributes,), math.nan)
    condition = condition_of(model, labels, count)
    noise = Noise.from_seed(seed, count, "sample", device=device_of(model))
    with model.guided(guidance):
        return _sampled(model, count, condition, noise, temperature, sampler, truncation)


def _sampled(
    model: Model,
    count: int,
    condition: Tensor | None,
    noise: Noise,
    temperature: float | Sequence[float],
    sampler: Sampling | None,
    truncation: float | None,
) -> Tensor:
    if truncation is not None:
        _check_truncation(model, sampler, truncation)
    temperatures = temperatures_of(model, temperature)
    if sampler is not None:
        return decode(model, sampler.sample(noise, condition, temperatures[0]), condition)
    if truncation is None:
        return decode(model, model.sample_prior(count, condition, noise, temperatures), condition)
    chart = model.geometry.chart(model.sample_prior(count, condition, noise))
    latents = model.geometry.point(truncated_normal(chart, truncation))
    return decode(model, model.geometry.tempered(latents, temperatures[0]), condition)


def temperatures_of(model: Model, given: float | Sequence[float]) -> list[float]:
    """One temperature for each level of a model.

    Raises:
        InputError: when there are neither as many as levels nor one for all.
    """
    values = [float(given)] if isinstance(given, int | float) else [float(value) for value in given]
    if len(values) == 1:
        return values * model.levels
    if len(values) != model.levels:
        text = ",".join(f"{value:g}" for value in values)
        fitting = "a single one" if model.levels == 1 else f"one, or {model.levels} with commas between them"
        raise InputError(
            f"--temperature {text}: {len(values)} temperatures for a model of {model.levels} "
            f"level{'s' * (model.levels != 1)} of latents; give {fitting}"
        )
    return values


def _check_truncation(model: Model, sampler: Sampling | None, truncation: float) -> None:
    if not truncation > 0:
        raise InputError(f"--truncation {truncation:g}: is out of range; give a number above 0")
    if sampler is not None:
        raise InputError(f"--truncation {truncation:g}: cuts off the prior, not a sampler; leave one of them out")
    if prior_law(model) != "normal":
        raise InputError(
            f"--truncation {truncation:g}: the model's prior is no N(0, I), whose latents could be cut off one by one; "
            "leave it out"
        )


@torch.no_grad()
def encode(model: Model, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """Posterior means (n, latent) of images; for a posterior with no mean in closed form, its center."""
    encode_images = getattr(model, "encode", None)
    if encode_images is None:
        raise InputError(f"model {type(model).__name__} has no encoder to read images with; choose another model")
    center = center_of(encode_images(images.to(device_of(model)), condition_of(model, labels, len(images))))
    if center is None:
        raise InputError(f"model {type(model).__name__} has a posterior without a center; draw from it instead")
    return center


def reconstruct(model: Model, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """Images through the posterior's mean and back; for a denoising model this restores them.

    >>> from vaekit import preset
    >>> from vaekit.data.images import DataInfo
    >>> model = preset("cvae-onehot").model.build(DataInfo("own", (1, 28, 28), class_names=("cat", "dog")))
    >>> reconstruct(model, torch.rand(2, 1, 28, 28), labels=torch.tensor([0, 1])).shape
    torch.Size([2, 1, 28, 28])
    """
    condition = condition_of(model, labels, len(images))
    return decode(model, encode(model, images, condition), condition)


denoise = reconstruct


@torch.no_grad()
def interpolate(
    model: Model,
    start: Tensor,
    end: Tensor,
    steps: int,
    start_labels: Tensor | None = None,
    end_labels: Tensor | None = None,
    how: Literal["linear", "spherical"] = "linear",
) -> Tensor:
    """Lines in latent space between pairs of images; between two classes, straight in the space of their codes too.

    Args:
        model: a trained model.
        start: (n, channels, height, width).
        end: the same shape.
        steps: images on each line, both ends included, from 2 up.
        start_labels: int64 (n,) for a conditional model.
        end_labels: the same; None means those of the start.
        how: straight lines, or arcs (`slerp`); latents on a sphere or in a ball always go the shortest way there.

    Returns:
        (n, steps, channels, height, width).

    >>> from vaekit import preset
    >>> from vaekit.data.images import DataInfo
    >>> model = preset("conv").model.build(DataInfo("own", (1, 28, 28)))
    >>> interpolate(model, torch.rand(2, 1, 28, 28), torch.rand(2, 1, 28, 28), steps=7).shape
    torch.Size([2, 7, 1, 28, 28])
    """
    end_labels = start_labels if end_labels is None else end_labels
    weights = torch.linspace(0.0, 1.0, steps, device=device_of(model))
    ends = encode(model, start, start_labels), encode(model, end, end_labels)
    latents = model.geometry.path(*ends, weights, how).flatten(0, 1)
    first, last = (model.code(condition_of(model, labels, len(start))) for labels in (start_labels, end_labels))
    code = None if first is None or last is None else lerp(first, last, weights).flatten(0, 1)
    images = decode(model, latents, code=code)
    return images.view(len(start), steps, *images.shape[1:])


@torch.no_grad()
def corners(model: Model, images: Tensor, side: int, condition: Tensor | None = None) -> Tensor:
    """A square between four real images: their codes, and those of their conditions, mixed bilinearly.

    Args:
        model: a trained model.
        images: (4, channels, height, width): top left, top right, bottom left, bottom right.
        side: images along an edge, corners included, from 2 up.
        condition: labels (4,) or attributes (4, k), for a conditional model.

    Returns:
        (side, side, channels, height, width), row by row from the top; the corners are reconstructions.
    """
    weights = torch.linspace(0.0, 1.0, side, device=device_of(model))

    def square(four: Tensor, path: Callable[[Tensor, Tensor, Tensor], Tensor] = lerp) -> Tensor:
        edges = path(four[[0, 1]], four[[2, 3]], weights)  # down the left edge, down the right edge
        return path(edges[0], edges[1], weights).flatten(0, 1)

    code = model.code(condition_of(model, condition, 4))
    latents = square(encode(model, images, condition), model.geometry.path)
    mixed = decode(model, latents, code=None if code is None else square(code))
    return mixed.unflatten(0, (side, side))


@torch.no_grad()
def traverse(model: Model, latents: Tensor, chosen: Tensor, values: Tensor, condition: Tensor | None = None) -> Tensor:
    """Decoded codes, of which one latent at a time takes each of some values while all others stay.

    Args:
        model: a trained model.
        latents: (n, latent), codes to start from.
        chosen: int64 (k,), numbers of latents.
        values: (k, steps), what each takes in the chart of the space; or (steps,), the same for all.
        condition: labels (n,) or attributes (n, c), for a conditional model.

    Returns:
        (n, k, steps, channels, height, width).

    Raises:
        InputError: when the model's latents cannot be moved one by one.
    """
    check_vectors(model)
    values = values.expand(len(chosen), values.shape[-1])
    rows = []
    for place in range(len(latents)):
        moved = model.geometry.moved(latents[place], chosen, values)
        given = None if condition is None else condition[place]
        flat = moved.flatten(0, 1)
        rows.append(decode(model, flat, condition_of(model, given, len(flat))).unflatten(0, values.shape))
    return torch.stack(rows)


def check_vectors(model: Model) -> None:
    """Refuse a model whose code is no vector of latents that can be moved one by one, such as a grid of codes.

    Raises:
        InputError: in one sentence.
    """
    if "vectors" not in model.provides:
        raise InputError(
            f"model {type(model).__name__} has no single vector of latents that could be moved one by one; "
            "interpolate between images or sample instead"
        )


def prior_law(model: Model) -> str | None:
    """``normal`` where the prior is N(0, I) in the chart of latents, ``uniform`` where all places are alike; else None."""
    return getattr(getattr(model, "prior", None), "law", None)


@torch.no_grad()
def prior_spread(model: Model, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (latent,) of each latent under the prior; of one that is no N(0, I), from 4,096 draws.

    They are those of the chart of the space: the latents themselves, or for a ball their vectors at its origin.

    Args:
        model: a trained model.
        condition: one label () or one image's attributes (c,), for a conditional model.

    Raises:
        InputError: when the model has no prior, or none over vectors.
    """
    check_vectors(model)
    if prior_law(model) == "normal":
        zeros = torch.zeros(model.prior.num_latents, device=device_of(model))  # type: ignore[union-attr, arg-type]
        return zeros, torch.ones_like(zeros)
    noise = Noise.from_seed(0, 4096, "prior spread", device=device_of(model))
    draws = model.geometry.chart(model.sample_prior(4096, condition_of(model, condition, 4096), noise))
    return draws.mean(0), draws.std(0)


@torch.no_grad()
def transfer_style(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    """Each image encoded under its own label and decoded under every other (Kingma et al. 2014, arXiv:1406.5298, fig. 1).

    Args:
        model: a model conditional on labels.
        images: (n, channels, height, width).
        labels: int64 (n,), their own.

    Returns:
        (n, classes, channels, height, width); under an image's own label it is the reconstruction.

    Raises:
        InputError: when the model reads no labels, or its prior alone does.
    """
    if model.num_classes is None:
        raise InputError(f"model {type(model).__name__} reads no labels; train one with --conditioning onehot")
    if not model.code_is_told:
        raise InputError(f"model {type(model).__name__} reads labels in its prior alone; sample instead")
    latents = encode(model, images, labels).repeat_interleave(model.num_classes, 0)
    every = torch.arange(model.num_classes, device=latents.device).repeat(len(images))
    return decode(model, latents, every).unflatten(0, (len(images), model.num_classes))


@torch.no_grad()
def manifold(model: Model, side: int, label: int | Tensor | None = None) -> Tensor:
    """Decoded images (side * side, ...) on a grid of a 2-D latent space, row by row from the top.

    The grid is that of `prior_quantiles`, the first of a figure's axes from left to right, the second from bottom to top.
    `label` is one class, or one image's attributes (k,), for a conditional model.
    """
    given = None if label is None else torch.as_tensor(label)
    points = prior_quantiles(model, side, given)
    second, first = torch.meshgrid(points[:, 1].flip(0), points[:, 0], indexing="ij")
    latents = model.geometry.placed(torch.stack([first.flatten(), second.flatten()], -1))
    return decode(model, latents, None if given is None else condition_of(model, given, side * side))


def prior_quantiles(model: Model, count: int, condition: Tensor | None = None) -> Tensor:
    """Values (count, axes) on each axis of a figure, in steps of equal probability under the prior where that is N(0, I).

    Elsewhere under a normal distribution of the prior's means and standard deviations (see `prior_spread`); on a circle or
    sphere in steps of equal area.
    """
    if model.geometry.range is not None:
        low, high = torch.tensor(model.geometry.range, device=device_of(model)).T
        return low + (high - low) * torch.linspace(0.02, 0.98, count, device=low.device)[:, None]
    centre, scale = prior_spread(model, condition)
    points = torch.special.ndtri(torch.linspace(0.02, 0.98, count, device=centre.device))
    return centre + scale * points[:, None]
