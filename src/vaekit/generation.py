"""Images out of a trained model: samples, reconstructions, interpolations, restorations, maps of the latent space.

Images are float (n, channels, height, width) in [0, 1]: the mean of p(image | z), clipped.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.data.images import DataInfo
from vaekit.errors import InputError, unknown
from vaekit.models.table import Model
from vaekit.noise import Noise
from vaekit.probability.distributions import center_of


def class_index(info: DataInfo, label: str | int) -> int:
    """The number of a class given by name or number.

    Raises:
        InputError: when the data have no such class.
    """
    name = str(label)
    if name in info.class_names:
        return info.class_names.index(name)
    if name.isdigit() and int(name) < len(info.class_names):
        return int(name)
    if not info.class_names:
        raise InputError(f"--label {name}: the model's data {info.name!r} have no labels; leave the label out")
    raise unknown("--label", name, info.class_names)


def _device(model: Model) -> torch.device:
    return next(model.parameters()).device


def _condition(model: Model, given: Tensor | None, count: int) -> Tensor | None:
    """Labels (count,) or attributes (count, n) on the model's device; None for a model without conditions."""
    if not model.conditional:
        return None
    if given is None:
        what = "labels" if model.num_attributes is None else "attributes"
        raise InputError(f"the model is conditional and was given no {what}; give them for each image")
    given = given.to(_device(model))
    axes = 0 if model.num_attributes is None else 1
    return given.expand(count, *given.shape) if given.dim() == axes else given


@torch.no_grad()
def decode(model: Model, latents: Tensor, condition: Tensor | None = None, code: Tensor | None = None) -> Tensor:
    """Mean images of latents (n, latent); for a conditional model under labels (n,), attributes (n, k), or their codes."""
    likelihood = model.decode(latents, condition) if code is None else model.decode(latents, code=code)
    return likelihood.mean.clamp(0.0, 1.0)


@torch.no_grad()
def sample(model: Model, count: int, labels: Tensor | None = None, seed: int = 0, temperature: float = 1.0) -> Tensor:
    """New images from the prior.

    Args:
        model: a trained model.
        count: how many.
        labels: int64 (count,) or (), for a conditional model; None takes each class in turn.
        seed: the same seed gives the same images, and the first n of any larger count.
        temperature: factor of the latents; below 1, images are more typical and less varied.

    >>> from vaekit import preset
    >>> model = preset("mlp").model.build(DataInfo("own", (3, 16, 12)))
    >>> sample(model, 5).shape
    torch.Size([5, 3, 16, 12])
    """
    if labels is None and model.num_classes is not None:
        labels = torch.arange(count) % model.num_classes
    condition = _condition(model, labels, count)
    noise = Noise.from_seed(seed, count, "sample", device=_device(model))
    return decode(model, temperature * model.sample_prior(count, condition, noise), condition)


@torch.no_grad()
def encode(model: Model, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """Posterior means (n, latent) of images; for a posterior with no mean in closed form, its center."""
    encode_images = getattr(model, "encode", None)
    if encode_images is None:
        raise InputError(f"model {type(model).__name__} has no encoder to read images with; choose another model")
    center = center_of(encode_images(images.to(_device(model)), _condition(model, labels, len(images))))
    if center is None:
        raise InputError(f"model {type(model).__name__} has a posterior without a center; draw from it instead")
    return center


def reconstruct(model: Model, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """Images through the posterior's mean and back; for a denoising model this restores them.

    >>> from vaekit import preset
    >>> model = preset("cvae-onehot").model.build(DataInfo("own", (1, 28, 28), class_names=("cat", "dog")))
    >>> reconstruct(model, torch.rand(2, 1, 28, 28), labels=torch.tensor([0, 1])).shape
    torch.Size([2, 1, 28, 28])
    """
    condition = _condition(model, labels, len(images))
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
) -> Tensor:
    """Straight lines in latent space between pairs of images; between two classes, in the space of their codes too.

    Args:
        model: a trained model.
        start: (n, channels, height, width).
        end: the same shape.
        steps: images on each line, both ends included, from 2 up.
        start_labels: int64 (n,) for a conditional model.
        end_labels: the same; None means those of the start.

    Returns:
        (n, steps, channels, height, width).

    >>> from vaekit import preset
    >>> model = preset("conv").model.build(DataInfo("own", (1, 28, 28)))
    >>> interpolate(model, torch.rand(2, 1, 28, 28), torch.rand(2, 1, 28, 28), steps=7).shape
    torch.Size([2, 7, 1, 28, 28])
    """
    end_labels = start_labels if end_labels is None else end_labels
    weights = torch.linspace(0.0, 1.0, steps, device=_device(model))[:, None]

    def line(first: Tensor, last: Tensor) -> Tensor:
        return (first[:, None] + weights * (last - first)[:, None]).flatten(0, 1)

    latents = line(encode(model, start, start_labels), encode(model, end, end_labels))
    first, last = (model.code(_condition(model, labels, len(start))) for labels in (start_labels, end_labels))
    images = decode(model, latents, code=None if first is None or last is None else line(first, last))
    return images.view(len(start), steps, *images.shape[1:])


@torch.no_grad()
def manifold(model: Model, side: int, label: int | None = None) -> Tensor:
    """Decoded images (side * side, ...) on a grid of a 2-D latent space, row by row from the top.

    The grid has equal steps of probability under N(0, I): each coordinate is a normal quantile, the first from left to
    right, the second from bottom to top.
    """
    quantiles = torch.linspace(0.02, 0.98, side, device=_device(model))
    points = torch.special.ndtri(quantiles)
    second, first = torch.meshgrid(points.flip(0), points, indexing="ij")
    latents = torch.stack([first.flatten(), second.flatten()], -1)
    labels = None if label is None else torch.full((side * side,), label, device=latents.device)
    return decode(model, latents, labels)
