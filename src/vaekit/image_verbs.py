"""The verbs that make images: each writes one picture or one array."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.arguments import Parser
from vaekit.data.download import data_folder
from vaekit.data.images import DataInfo, Images
from vaekit.data.sources import load
from vaekit.data.splits import load_splits
from vaekit.errors import InputError
from vaekit.figures import image_grid
from vaekit.generation import class_index, interpolate, reconstruct, sample
from vaekit.models.table import Model
from vaekit.noise import Noise
from vaekit.records import print_json
from vaekit.runs import write_atomically
from vaekit.settings import Config
from vaekit.storage import load_model

_TEMPERATURE = "factor of the latents: below 1 images are more typical and less varied"


def sample_verb(parser: Parser, words: list[str]) -> None:
    parser.model()
    parser.out()
    parser.number("--count", 64, "number of images")
    parser.add_argument(
        "--label",
        metavar="CLASS",
        help="class by name or number, for a conditional model [each class in turn]",
    )
    parser.number("--temperature", 1.0, _TEMPERATURE, least=0, most=100)
    parser.seed("seed of the samples: the same seed gives the same images, whatever --count")
    parser.json("where the images are")
    options = parser.read(words)
    write = _writer(options)
    model, _, info = load_model(options.run)
    labels = None
    if options.label is not None:
        if model.num_classes is None:
            raise InputError(f"--label {options.label}: the model is not conditional; leave the label out")
        labels = torch.tensor(class_index(info, options.label))
    write(sample(model, options.count, labels, options.seed, options.temperature), None)


def reconstruct_verb(parser: Parser, words: list[str]) -> None:
    parser.inputs(16, "number of images; a picture shows each beside its reconstruction")
    options = parser.read(words)
    write = _writer(options)
    model, config, info = load_model(options.run)
    inputs, targets, labels = _inputs(options, config, info, model)
    restored = reconstruct(model, inputs, labels)
    if _is_array(options.out):
        write(restored, None)
    else:
        write(torch.stack([targets, restored], 1).flatten(0, 1), 2 * min(8, len(restored)))


def denoise_verb(parser: Parser, words: list[str]) -> None:
    parser.inputs(15, "number of images; a picture shows each as corrupted, restored and clean")
    options = parser.read(words)
    write = _writer(options)
    model, config, info = load_model(options.run)
    if options.images is None and not config.data.restores:
        raise InputError(
            f"run {options.run!r} was trained without a corruption to undo; "
            "train one with --preset denoising, or give --images"
        )
    inputs, targets, labels = _inputs(options, config, info, model)
    restored = reconstruct(model, inputs, labels)
    if _is_array(options.out):
        write(restored, None)
    else:
        rows = [inputs, restored] if options.images else [inputs, restored, targets]
        write(torch.stack(rows, 1).flatten(0, 1), len(rows) * min(5, len(restored)))


def interpolate_verb(parser: Parser, words: list[str]) -> None:
    parser.inputs(8, "number of lines, each between two images")
    parser.number("--steps", 10, "images on each line, both ends included", least=2, most=1000)
    options = parser.read(words)
    write = _writer(options)
    model, config, info = load_model(options.run)
    options.count *= 2
    inputs, _, labels = _inputs(options, config, info, model)
    half = len(inputs) // 2
    if half == 0:
        where = f"--images {options.images!r}" if options.images else f"--split {options.split}"
        raise InputError(f"{where}: {len(inputs)} image is too few to walk between; give at least 2")
    start, end = inputs[:half], inputs[half : 2 * half]
    ends = (None, None) if not model.conditional or labels is None else (labels[:half], labels[half : 2 * half])
    lines = interpolate(model, start, end, options.steps, *ends)
    write(lines.flatten(0, 1), options.steps)


_Inputs = tuple[Tensor, Tensor, Tensor | None]


def _inputs(options: Any, config: Config, info: DataInfo, model: Model) -> _Inputs:
    """Inputs, clean targets and labels: own images as they are, or a split's with the run's corruption."""
    if options.images is not None:
        return _own_images(options, info, model)
    data = config.data
    splits = load_splits(data, data_folder(options.data_dir))
    chosen: Images = splits.named(options.split)
    index = torch.arange(min(options.count, len(chosen)))
    noise = Noise.from_seed(0, len(index), "verbs")
    batch = data.batch(chosen, index, noise)
    return batch.input, batch.target, batch.condition


def _own_images(options: Any, info: DataInfo, model: Model) -> _Inputs:
    named = f"--images {options.images!r}"
    own = load(options.images, data_folder(options.data_dir)).train
    images = own.unit()
    if tuple(images.shape[1:]) != info.shape:
        raise InputError(
            f"{named}: shape {tuple(images.shape[1:])} is not the model's {info.shape} "
            "(channels, height, width); resize the images"
        )
    count, labels = min(options.count, len(own)), None
    if model.num_classes is not None:
        if own.labels is None:
            raise InputError(f"{named}: the model is conditional; give a .npz with images and labels")
        labels = own.labels[:count]
        if int(labels.max()) >= len(info.class_names):
            raise InputError(
                f"{named}: label {int(labels.max())} is out of range; the model knows 0 to {len(info.class_names) - 1}"
            )
    return images[:count], images[:count], labels


def _is_array(out: str) -> bool:
    return Path(out).suffix.lower() == ".npy"


def _writer(options: Any) -> Callable[[Tensor, int | None], None]:
    """How to write images to `--out`, checked before anything is computed."""
    out, path = options.out, Path(options.out)
    if path.suffix.lower() not in (".png", ".npy"):
        raise InputError(f"--out {out!r}: the ending {path.suffix!r} is not .png or .npy; choose one")
    if not path.parent.is_dir():
        raise InputError(f"--out {out!r}: folder {str(path.parent)!r} does not exist; make it first")

    def write(images: Tensor, columns: int | None) -> None:
        buffer = BytesIO()
        if _is_array(out):
            np.save(buffer, images.permute(0, 2, 3, 1).numpy())
        else:
            image_grid(images, columns or math.ceil(math.sqrt(len(images)))).save(buffer, "PNG")
        try:
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            raise InputError(f"--out {out!r} cannot be written ({error.strerror}); choose another place") from None
        if options.json:
            print_json({"file": str(path), "num_images": len(images)})
        else:
            print(path)

    return write
