"""The three parts of a trained model that other programs run, as plain modules of tensors."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.config import flags
from vaekit.errors import InputError
from vaekit.models.table import Model
from vaekit.networks.conditioning import UNKNOWN
from vaekit.probability.distributions import DiagonalGaussian, center_of
from vaekit.trained import Trained

TOLERANCE = 1e-4  # between torch and what was exported: absolute, and relative where numbers are large


@dataclass(frozen=True)
class Part:
    """A module to export, and how it is called.

    Attributes:
        name: ``encoder``, ``decoder`` or ``whole``.
        module: in evaluation mode, on the CPU; tensors in, a tuple of tensors out.
        inputs: names of its inputs, in order.
        outputs: names of its outputs, in order.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def program(self, trained: Trained) -> torch.export.ExportedProgram:
        """The part as a graph of tensor operations, for any number of images.

        Raises:
            InputError: when it is none, such as an encoder that follows gradients.
        """
        given = examples(trained, 2)
        batch = torch.export.Dim("batch")
        try:
            with torch.no_grad():
                return torch.export.export(
                    self.module,
                    tuple(given[name] for name in self.inputs),
                    dynamic_shapes=tuple({0: batch} for _ in self.inputs),
                    strict=False,
                )
        except Exception:  # of many kinds, as torch meets what it cannot trace
            raise unwritable(trained, self.name, "a graph of tensor operations") from None


class _Encode(nn.Module):
    """Images (n, channels, height, width)[, condition] to posterior means and, of a diagonal Gaussian, deviations."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, condition: Tensor | None = None) -> tuple[Tensor, ...]:
        posterior = self.model.encode(image, condition)  # type: ignore[operator]  # `parts` asked for it
        center = center_of(posterior)
        assert center is not None  # `parts` asked for it
        return (center, posterior.scale) if isinstance(posterior, DiagonalGaussian) else (center,)


class _Decode(nn.Module):
    """Codes (n, latent)[, condition] to mean images (n, channels, height, width), clipped to [0, 1] if `clip`."""

    def __init__(self, model: Model, clip: bool):
        super().__init__()
        self.model, self.clip = model, clip

    def forward(self, code: Tensor, condition: Tensor | None = None) -> tuple[Tensor]:
        mean = self.model.decode(code, condition).mean
        return (mean.clamp(0.0, 1.0) if self.clip else mean,)


class _Whole(nn.Module):
    """Images (n, channels, height, width)[, condition] through the posterior's mean and back."""

    def __init__(self, model: Model, clip: bool):
        super().__init__()
        self.encode, self.decode = _Encode(model), _Decode(model, clip)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> tuple[Tensor]:
        return self.decode(self.encode(image, condition)[0], condition)  # type: ignore[no-any-return]


def parts(trained: Trained) -> tuple[Part, Part, Part]:
    """Encoder, decoder and whole of a model on the CPU.

    Raises:
        InputError: when the model reads no images, or its posterior has no center.
    """
    model = trained.model
    encode = getattr(model, "encode", None)
    if encode is None:
        raise InputError(f"{str(trained.path)!r}: the model has no encoder to export; export another model")
    given = examples(trained, 2)
    with torch.no_grad():
        posterior = encode(given["image"], given.get(condition_name(model) or ""))
    if center_of(posterior) is None:
        raise InputError(
            f"{str(trained.path)!r}: the posterior has no center to send an image to; export another model"
        )
    named = condition_name(model)
    condition = () if named is None else (named,)
    clip = not trained.info.scales
    moments = ("mean", "standard_deviation") if isinstance(posterior, DiagonalGaussian) else ("mean",)
    return (
        Part("encoder", _Encode(model).eval(), ("image", *condition), moments),
        Part("decoder", _Decode(model, clip).eval(), ("code", *condition), ("image",)),
        Part("whole", _Whole(model, clip).eval(), ("image", *condition), ("reconstruction",)),
    )


def condition_name(model: Model) -> str | None:
    """What a model's condition is called among inputs: ``label``, ``attributes`` or None."""
    if model.num_attributes is not None:
        return "attributes"
    return None if model.num_classes is None else "label"


def examples(trained: Trained, count: int) -> dict[str, Tensor]:
    """Inputs to trace and to compare with: random images, codes, and labels in turn, from the unknown one on."""
    model, random = trained.model, torch.Generator().manual_seed(count)
    found = {"image": torch.rand(count, *trained.info.seen_shape, generator=random)}
    if model.num_attributes is not None:
        means, scales = (torch.tensor(each) for each in (trained.info.attribute_means, trained.info.attribute_scales))
        found["attributes"] = means + scales * torch.randn(count, model.num_attributes, generator=random)
        found["attributes"][-1, 0] = torch.nan
    elif model.num_classes is not None:
        lowest = UNKNOWN if model.accepts_unknown else 0
        found["label"] = lowest + torch.arange(count) % (model.num_classes - lowest)
    chart = torch.randn(count, trained.latent_dim, generator=random)
    if model.geometry.kind == "sphere":
        chart = nn.functional.normalize(chart, dim=-1)
    found["chart"], found["code"] = chart, model.geometry.point(chart)
    if model.num_classes is not None:
        found["weights"] = torch.rand(count, model.num_classes, generator=random)
    elif model.num_attributes is not None:
        found["weights"] = found["attributes"]
    return found


def farthest(want: tuple[Tensor, ...], got: tuple[Tensor, ...]) -> float:
    """The largest difference of any number, infinite where one is beyond `TOLERANCE`."""
    worst = 0.0
    for expected, found in zip(want, got, strict=True):
        if expected.shape != found.shape or not torch.allclose(found, expected, TOLERANCE, TOLERANCE, equal_nan=True):
            return float("inf")
        worst = max(worst, float((found - expected).abs().nan_to_num().max()))
    return worst


def unwritable(trained: Trained, part: str, what: str) -> InputError:
    """What to say of a part that a format cannot hold."""
    chosen = {flag.name: flag.value for flag in flags(trained.config) if flag.table is not None}
    kind = ", ".join(
        f"{name} {chosen[name]}" for name in ("model", "posterior", "likelihood", "network") if name in chosen
    )
    return InputError(
        f"{str(trained.path)!r}: the {part} of this model ({kind}) cannot be written as {what}; "
        "export it with --format safetensors"
    )


def described(trained: Trained, name: str, output: bool = False) -> dict[str, Any]:
    """Shape, type and range of an input or an output, for the description; the first axis is the batch.

    Args:
        trained: the model.
        name: as `Part` calls it.
        output: whether it is an output: an image is then one that the model makes, else one that it reads.
    """
    model, info = trained.model, trained.info
    floats = {"name": name, "type": "float32"}
    if name in ("image", "reconstruction"):
        shape = info.shape if output else info.seen_shape
        return {**floats, "shape": ["batch", *shape], "range": None if info.scales else [0.0, 1.0]}
    if name == "label":
        assert model.num_classes is not None
        lowest = UNKNOWN if model.accepts_unknown else 0
        return {"name": name, "type": "int64", "shape": ["batch"], "range": [lowest, model.num_classes - 1]}
    if name == "attributes":
        return {**floats, "shape": ["batch", model.num_attributes], "unknown": "NaN"}
    return {**floats, "shape": ["batch", trained.latent_dim]}


@contextmanager
def quiet() -> Iterator[None]:
    """Within it exporters do not speak of their own workings: what concerns people is said in a sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
