"""The verbs that make images: each writes one picture or one array."""

from __future__ import annotations

import math
import sys
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vaekit.commands.arguments import Parser
from vaekit.conditions import attribute_values, class_index
from vaekit.data.download import data_folder
from vaekit.data.images import DataInfo, Images
from vaekit.data.loaded import SOURCES
from vaekit.data.sizing import LiveLine
from vaekit.data.splits import load_splits
from vaekit.errors import InputError
from vaekit.evaluation.restoration import as_target
from vaekit.figures import image_grid
from vaekit.files.decode import ENDINGS
from vaekit.files.packing import left_out
from vaekit.generation import reconstruct, sample
from vaekit.models.table import Model
from vaekit.noise import Noise
from vaekit.records import print_json
from vaekit.runs import write_atomically
from vaekit.samplers.fitted import load_sampler
from vaekit.settings import Config
from vaekit.storage import load_model
from vaekit.trained import Trained, load

_GUIDANCE = (
    "how strongly images follow their class or attributes, of a model trained with --label-dropout: 1 as trained, "
    "0 as if the decoder (of vq, the prior) were not told, above 1 more so"
)
_TEMPERATURE = (
    "factor of the latents: below 1 images are more typical and less varied; for a model with several levels of latents "
    "one for each, such as 1,1,0.8, or one for all"
)


def sample_verb(parser: Parser, words: list[str]) -> None:
    parser.model()
    parser.out()
    parser.number("--count", 64, "number of images")
    parser.add_argument(
        "--label",
        metavar="CLASS",
        help="class by name or number, or unknown, for a conditional model [each class in turn]",
    )
    parser.add_argument(
        "--attributes",
        metavar="LIST",
        help="for a model that reads attributes, such as Smiling=1,Male=0 [those not given: at their mean]",
    )
    parser.add_argument(
        "--sampler",
        metavar="NAME",
        help="a density fitted to the codes by vaekit fit-sampler, in the prior's place [none: the prior]",
    )
    parser.numbers("--temperature", 1.0, _TEMPERATURE, least=0, most=100)
    parser.number(
        "--truncation",
        10.0,
        "largest distance of each latent from 0 in standard deviations: beyond it the prior is cut off; "
        "the default cuts off nothing that would ever be drawn",
        least=0.01,
        most=10,
    )
    parser.set_defaults(truncation=None)
    parser.number("--guidance", 1.0, _GUIDANCE, least=0, most=100)
    parser.seed("seed of the samples: the same seed gives the same images, whatever --count")
    parser.json("where the images are")
    options = parser.read(words)
    write = writer(options)
    model, _, info = load_model(options.run)
    condition = _asked_for(model, info, options.label, options.attributes)
    sampler = None if options.sampler is None else load_sampler(options.run, options.sampler)
    settings = (options.seed, options.temperature, sampler, options.truncation, options.guidance)
    write(sample(model, options.count, condition, *settings), None)


def _asked_for(model: Model, info: DataInfo, label: str | None, attributes: str | None) -> Tensor | None:
    """The condition that `--label` or `--attributes` tell of; None without them."""
    for flag, given in (("--label", label), ("--attributes", attributes)):
        if given is not None and not model.conditional:
            raise InputError(f"{flag} {given}: the model is not conditional; leave the {flag[2:]} out")
    if attributes is not None:
        if model.num_attributes is None:
            raise InputError(f"--attributes {attributes}: the model reads labels, not attributes; give --label")
        if label is not None:
            raise InputError(f"--label {label}: goes not with --attributes {attributes}; give one of them")
        return attribute_values(info, attributes)
    if label is None:
        return None
    if model.num_attributes is not None:
        if label != "unknown":
            example = f"{info.attribute_names[0]}=1"
            raise InputError(f"--label {label}: the model reads attributes; give them, such as --attributes {example}")
        if not model.accepts_unknown:
            raise InputError("--label unknown: the model was trained with --label-dropout 0; give --attributes")
        return torch.full((model.num_attributes,), torch.nan)
    number = class_index(info, label)
    if number < 0 and not model.accepts_unknown:
        raise InputError(
            "--label unknown: the model was trained with --label-dropout 0; give a class, "
            "or train with --label-dropout 0.1"
        )
    return torch.tensor(number)


def reconstruct_verb(parser: Parser, words: list[str]) -> None:
    _restoring(parser, 16, "number of images; a picture shows each beside its reconstruction")
    options = parser.read(words)
    if _into_folder(options):
        return
    write = writer(options)
    model, config, info = load_model(options.run)
    inputs, targets, labels = inputs_of(options, config, info, model)
    restored = reconstruct(model, inputs, labels)
    if is_array(options.out):
        write(restored, None)
    else:
        shown = as_target(targets, restored.shape)
        write(torch.stack([shown, restored], 1).flatten(0, 1), 2 * min(8, len(restored)))


def denoise_verb(parser: Parser, words: list[str]) -> None:
    _restoring(parser, 15, "number of images; a picture shows each as corrupted, restored and clean")
    parser.add_argument(
        "--table",
        action="store_true",
        help="in place of a picture, measure the model against classical filters, by corruption and strength",
    )
    parser.add_argument(
        "--corruptions",
        metavar="LIST",
        help="with --table: others to try beside the run's own, such as jpeg:10,gaussian-noise:0.2",
    )
    parser.number("--limit", None, "with --table: use only N images, evenly spread", most=10**9)
    if "--table" in words:
        parser.optional("--out")
    options = parser.read(words)
    if options.table:
        _restoration_table(options)
        return
    for flag, value in (("--corruptions", options.corruptions), ("--limit", options.limit)):
        if value is not None:
            raise InputError(f"{flag} {value}: is for the table of restorations; add --table")
    if _into_folder(options):
        return
    write = writer(options)
    model, config, info = load_model(options.run)
    if options.images is None and not config.data.restores:
        raise InputError(
            f"run {options.run!r} was trained without a corruption to undo; "
            "train one with --preset denoising, or give --images"
        )
    inputs, targets, labels = inputs_of(options, config, info, model)
    restored = reconstruct(model, inputs, labels)
    if is_array(options.out):
        write(restored, None)
    else:
        rows = [as_target(inputs, restored.shape), restored] + ([] if options.images else [targets])
        write(torch.stack(rows, 1).flatten(0, 1), len(rows) * min(5, len(restored)))


def _restoring(parser: Parser, count: int, counted: str) -> None:
    """Add what both verbs take, own folders with them."""
    parser.inputs(count, f"{counted}; of a folder, all", folder=True)
    parser.set_defaults(count=None, default_count=count)
    parser.add_argument(
        "--tiles",
        action="store_true",
        help="into a folder: cut images larger than the model's into overlapping tiles [bring them to its size and back]",
    )


def _holds_files(images: str) -> bool:
    """Whether images are given as a folder or an archive of files, or as a path that is missing."""
    path = Path(images).expanduser()
    if not path.exists() and images not in SOURCES:
        return True
    return path.is_dir() or (
        path.is_file()
        and not is_array(images)
        and path.suffix.lower() != ".npz"
        and path.suffix.lower()[1:] not in ENDINGS
    )


def _into_folder(options: Any) -> bool:
    """Restore a folder into a folder, where that is asked for; else make the count ready for a picture."""
    limit, options.count = options.count, options.count or options.default_count
    folders = options.images is not None and _holds_files(options.images)
    if not folders or Path(options.out).suffix:
        if options.tiles:
            raise InputError("--tiles: is for folders; give --images DIR and --out DIR")
        return False
    from vaekit.applied.restored import restore_folder

    trained = load(options.run)
    live = partial(LiveLine(), "restoring")
    record = restore_folder(trained, options.images, options.out, options.tiles, limit, progress=live)
    if record["left_out"]:
        count = len(record["left_out"])
        print(f"vaekit: note: {count:,} files were left out: {left_out(record['left_out'])}", file=sys.stderr)
    if options.json:
        print_json(record)
    else:
        print(record["folder"])
    return True


def _restoration_table(options: Any) -> None:
    from vaekit.evaluation.restoration_table import restoration_table, table_text

    for flag, value in (("--images", options.images), ("--out", options.out)):
        if value is not None:
            raise InputError(f"{flag} {value!r}: the table measures a split and is printed; leave {flag} out")
    given = {"corruptions": options.corruptions, "limit": options.limit, "data_dir": options.data_dir}
    record = restoration_table(options.run, options.split, **given)
    if options.json:
        print_json(record)
    else:
        print(table_text(options.run, record))


_Inputs = tuple[Tensor, Tensor, Tensor | None]


def inputs_of(options: Any, config: Config, info: DataInfo, model: Model) -> _Inputs:
    """Inputs, clean targets and labels: own images as they are, or a split's with the run's corruption."""
    if options.images is not None:
        named = f"--images {options.images!r}"
        trained = Trained(model, config, info, Path(options.run))
        own = trained.read(options.images, data_folder(options.data_dir)).images
        own = own.copied(torch.arange(min(options.count, len(own))))
        return own.unit(), own.unit(), trained.condition(own, named)
    data = config.data
    splits = load_splits(data, data_folder(options.data_dir))
    chosen: Images = splits.named(options.split)
    index = torch.arange(min(options.count, len(chosen)))
    noise = Noise.from_seed(0, len(index), "verbs")
    batch = data.batch(chosen, index, noise)
    return batch.input, batch.target, batch.condition


def is_array(out: str) -> bool:
    return Path(out).suffix.lower() == ".npy"


class Writer(Protocol):
    """Writes images, in rows of so many, or in a picture's place a content made of them, and prints where they are."""

    def __call__(self, images: Tensor, columns: int | None, content: bytes | None = None, **about: Any) -> None: ...


def writer(options: Any, endings: tuple[str, ...] = (".png", ".npy")) -> Writer:
    """How to write images to `--out`, checked before anything is computed."""
    out, path = options.out, Path(options.out)
    if path.suffix.lower() not in endings:
        known = f"{', '.join(endings[:-1])} or {endings[-1]}"
        raise InputError(f"--out {out!r}: the ending {path.suffix!r} is not {known}; choose one")
    if not path.parent.is_dir():
        raise InputError(f"--out {out!r}: folder {str(path.parent)!r} does not exist; make it first")

    def write(images: Tensor, columns: int | None, content: bytes | None = None, **about: Any) -> None:
        buffer = BytesIO()
        if content is not None:
            buffer.write(content)
        elif is_array(out):
            np.save(buffer, images.permute(0, 2, 3, 1).numpy())
        else:
            image_grid(images, columns or math.ceil(math.sqrt(len(images)))).save(buffer, "PNG")
        try:
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            raise InputError(f"--out {out!r} cannot be written ({error.strerror}); choose another place") from None
        if options.json:
            print_json({"file": str(path), "num_images": len(images), **about})
        else:
            print(path)

    return write
