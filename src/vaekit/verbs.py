"""The verbs of the command line, each a few lines around one function of the library."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.cli import Parser, print_json
from vaekit.config import Flag, every_flag, flags, set_flags
from vaekit.data.binarization import BINARIZATIONS
from vaekit.data.corruptions import CORRUPTIONS, Clean
from vaekit.data.download import data_folder
from vaekit.data.images import DataInfo, Images
from vaekit.data.sources import SOURCES, load
from vaekit.data.splits import load_splits
from vaekit.errors import InputError, unknown
from vaekit.evaluation.evaluate import DEFAULT_SAMPLES, evaluate
from vaekit.figures import image_grid, make_figures
from vaekit.generation import class_index, interpolate, reconstruct, sample
from vaekit.models.table import MODELS, Model
from vaekit.networks.conditioning import CONDITIONINGS
from vaekit.networks.table import NETWORKS
from vaekit.noise import Noise
from vaekit.objectives.schedules import BETA_SCHEDULES
from vaekit.objectives.table import OBJECTIVES
from vaekit.probability.latents import POSTERIORS, PRIORS
from vaekit.probability.likelihoods import LIKELIHOODS
from vaekit.report import write_report
from vaekit.runs import Run, write_atomically
from vaekit.settings import PRESETS, Config, preset
from vaekit.storage import load_model
from vaekit.training.train import resume, train

TABLES = {
    "data": SOURCES,
    "models": MODELS,
    "networks": NETWORKS,
    "conditionings": CONDITIONINGS,
    "likelihoods": LIKELIHOODS,
    "posteriors": POSTERIORS,
    "priors": PRIORS,
    "objectives": OBJECTIVES,
    "beta-schedules": BETA_SCHEDULES,
    "binarizations": BINARIZATIONS,
    "corruptions": CORRUPTIONS,
}


def train_verb(parser: Parser, words: list[str]) -> None:
    parser.add_argument("--preset", default="conv", metavar="NAME", help="where to start from (default conv)")
    parser.add_argument("--out", metavar="DIR", help="run folder to make (required)")
    parser.common(run=False)
    parser.add_argument("--no-report", action="store_true", help="write no figures and no report")
    parser.add_argument("--json", action="store_true", help="print the last record as JSON")
    wants_help = any(word in ("-h", "--help") for word in words)
    options, rest = parser.parse_known_args([word for word in words if word not in ("-h", "--help")])
    base = preset(options.preset)
    fixed = [option for action in parser._actions for option in action.option_strings]
    config: Config = set_flags(base, _settings(base, rest, fixed), also=fixed)
    if wants_help:
        print(_train_help(parser, options.preset, config))
        return
    if not options.out:
        raise InputError("--out is missing; give the folder for the run, such as --out runs/first")
    run = train(options.out, config=config, data_dir=options.data_dir)
    _finish(run, options)


def resume_verb(parser: Parser, words: list[str]) -> None:
    parser.common()
    parser.add_argument("--no-report", action="store_true", help="write no figures and no report")
    parser.add_argument("--json", action="store_true", help="print the last record as JSON")
    options = parser.parse_args(words)
    _finish(resume(options.run, data_dir=options.data_dir), options)


def _finish(run: Run, options: Any) -> None:
    """Figures, report and a word on where they are."""
    if not options.no_report:
        write_report(run, _evaluation(run), make_figures(run, options.data_dir))
        print(f"report: {run.report}", file=sys.stderr)
    print(f"next:   vaekit evaluate {run.path}", file=sys.stderr)
    if options.json:
        print_json({"run": str(run.path), **run.metrics()[-1]})


def _settings(base: Config, words: list[str], fixed: list[str]) -> dict[str, Any]:
    """Flat settings from ``--flag value``, ``--flag=value``, ``--flag`` and ``--no-flag``."""
    kinds = {flag.name: flag.type for flag in every_flag(base)}
    given: dict[str, Any] = {}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("--"):
            raise InputError(f"argument {word!r} is not expected; settings are written --name value")
        option, equals, value = word.partition("=")
        name = option[2:].replace("-", "_")
        if equals:
            given[name] = value
        elif position < len(words) and not words[position].startswith("--"):
            given[name] = words[position]
            position += 1
        elif kinds.get(name.removeprefix("no_")) is bool:
            given[name.removeprefix("no_")] = not name.startswith("no_")
        elif name in kinds:
            raise InputError(f"{option} has no value; write {option} VALUE")
        else:
            raise unknown("option", option, [*fixed, *(flag.option for flag in flags(base))])
    return given


def _train_help(parser: Parser, name: str, config: Config) -> str:
    width = min(shutil.get_terminal_size((100, 24)).columns, 110)
    rooms = {"data": "data", "model": "model", "objective": "objective", "beta_schedule": "objective"}
    lines = [parser.format_help().rstrip(), "", f"settings, with the values of preset {name}:"]
    section = ""
    for flag in flags(config):
        if (room := rooms.get(flag.path[0], "training")) != section:
            section = room
            lines += ["", f"{section}:"]
        lines.append(_flag_help(flag, width))
    others = ", ".join(PRESETS)
    lines += ["", f"presets: {others}", "Choosing a part, such as --network mlp, shows that part's own settings here."]
    return "\n".join(lines)


def _flag_help(flag: Flag, width: int) -> str:
    if flag.table:
        text = f"{flag.help}: {', '.join(flag.table)} (now {flag.value})"
    else:
        shown = ",".join(map(str, flag.value)) if isinstance(flag.value, tuple) else flag.value
        shown = "none" if shown is None else f"{shown:.6g}" if isinstance(shown, float) else shown
        limits = flag.leaf.range() if flag.leaf else ""
        text = f"{flag.help} (now {shown}{'; ' + limits if limits else ''})"
    head = f"  {flag.option:<24}"
    return textwrap.fill(text, width, initial_indent=head, subsequent_indent=" " * len(head))


def evaluate_verb(parser: Parser, words: list[str]) -> None:
    parser.common(split=True)
    parser.number("--importance-samples", DEFAULT_SAMPLES, "importance samples for each image")
    parser.number("--limit", None, "use only the first N images")
    parser.number("--seed", 0, "seed of the evaluation's noise", least=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    options = parser.parse_args(words)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine has no usable CUDA device; choose cpu")
    record = evaluate(
        options.run,
        options.split,
        options.importance_samples,
        data_dir=options.data_dir,
        limit=options.limit,
        seed=options.seed,
        device=options.device,
        progress=_progress(),
    )
    folder = Path(options.run)
    if folder.is_dir() and options.limit is None:
        write_atomically(folder / f"evaluation-{options.split}.json", json.dumps(record, indent=2) + "\n")
    if options.json:
        print_json(record)
    else:
        print(_table(record))


def _progress() -> Callable[[float], None]:
    live = sys.stderr.isatty()

    def show(fraction: float) -> None:
        if live:
            sys.stderr.write(f"\revaluating {100 * fraction:3.0f}%" + ("\r" + " " * 20 + "\r" if fraction >= 1 else ""))
            sys.stderr.flush()

    return show


def _table(record: dict[str, Any]) -> str:
    def show(value: Any) -> str:
        return "none" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)

    return "\n".join(f"{name:<24} {show(value)}" for name, value in record.items())


def _evaluation(run: Run) -> dict[str, Any] | None:
    """What `vaekit evaluate` last found on the test images, if anything."""
    file = run.path / "evaluation-test.json"
    return json.loads(file.read_text()) if file.exists() else None


def report_verb(parser: Parser, words: list[str]) -> None:
    parser.common()
    options = parser.parse_args(words)
    run = Run(options.run)
    print(write_report(run, _evaluation(run), make_figures(run, options.data_dir)))


def sample_verb(parser: Parser, words: list[str]) -> None:
    parser.common()
    parser.add_argument("--label", metavar="CLASS", help="class by name or number, for a conditional model")
    parser.number("--count", 64, "number of images")
    parser.number("--temperature", 1.0, "factor of the latents: below 1 more typical, less varied", least=0)
    parser.number("--seed", 0, "seed of the samples", least=0)
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write, .png or .npy")
    options = parser.parse_args(words)
    write = _writer(options.out)
    model, _, info = load_model(options.run)
    labels = None
    if options.label is not None:
        if getattr(model, "conditioning", None) is None:
            raise InputError(f"--label {options.label}: the model is not conditional; leave the label out")
        labels = torch.tensor(class_index(info, options.label))
    write(sample(model, options.count, labels, options.seed, options.temperature), None)


def reconstruct_verb(parser: Parser, words: list[str]) -> None:
    parser.common(split=True, images=True)
    options = parser.parse_args(words)
    write = _writer(options.out)
    model, config, info = load_model(options.run)
    inputs, targets, labels = _inputs(options, config, info, model)
    restored = reconstruct(model, inputs, labels)
    if Path(options.out).suffix == ".npy":
        write(restored, None)
    else:
        write(torch.stack([targets, restored], 1).flatten(0, 1), 2 * min(8, len(restored)))


def denoise_verb(parser: Parser, words: list[str]) -> None:
    parser.common(split=True, images=True)
    options = parser.parse_args(words)
    write = _writer(options.out)
    model, config, info = load_model(options.run)
    if options.images is None and isinstance(config.data.corruption, Clean):
        raise InputError(f"run {options.run!r} was trained without a corruption to undo; train the denoising preset")
    inputs, targets, labels = _inputs(options, config, info, model)
    restored = reconstruct(model, inputs, labels)
    if Path(options.out).suffix == ".npy":
        write(restored, None)
    else:
        rows = [inputs, restored] if options.images else [inputs, restored, targets]
        write(torch.stack(rows, 1).flatten(0, 1), len(rows) * min(5, len(restored)))


def interpolate_verb(parser: Parser, words: list[str]) -> None:
    parser.common(split=True, images=True)
    parser.number("--steps", 10, "images on each line, both ends included", least=2)
    options = parser.parse_args(words)
    write = _writer(options.out)
    model, config, info = load_model(options.run)
    options.count *= 2
    inputs, _, labels = _inputs(options, config, info, model)
    half = len(inputs) // 2
    if half == 0:
        raise InputError("--images: interpolation needs at least two images; give more")
    lines = interpolate(
        model, inputs[:half], inputs[half : 2 * half], options.steps, None if labels is None else labels[:half]
    )
    write(lines.flatten(0, 1), options.steps)


def _inputs(options: Any, config: Config, info: DataInfo, model: Model) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs, clean targets and labels: own images as they are, or those of a split with the run's corruption."""
    if options.images is not None:
        own = load(options.images, None).train
        images, batch_input = own, own.unit()
        if tuple(batch_input.shape[1:]) != info.shape:
            raise InputError(
                f"--images {options.images!r}: shape {tuple(batch_input.shape[1:])} is not the model's {info.shape} "
                "(channels, height, width); resize the images"
            )
        count = min(options.count, len(own))
        labels = None if images.labels is None else images.labels[:count]
        if labels is None and getattr(model, "conditioning", None) is not None:
            raise InputError(f"--images {options.images!r}: the model is conditional; give a .npz with labels")
        return batch_input[:count], batch_input[:count], labels
    data = config.data
    splits = load_splits(data.data, data_folder(options.data_dir), data.validation, data.train_limit)
    chosen: Images = splits.named(options.split)
    index = torch.arange(min(options.count, len(chosen)))
    noise = Noise.from_seed(0, len(index), "verbs")
    batch = data.batch(chosen, index, noise)
    return batch.input, batch.target, batch.condition


def _writer(out: str) -> Callable[[Tensor, int | None], None]:
    """How to write images to `out`, checked before anything is computed."""
    path = Path(out)
    if path.suffix not in (".png", ".npy"):
        raise InputError(f"--out {out!r}: the ending is not .png or .npy; choose one")
    if not path.parent.is_dir():
        raise InputError(f"--out {out!r}: folder {str(path.parent)!r} does not exist; make it first")

    def write(images: Tensor, columns: int | None) -> None:
        try:
            if path.suffix == ".npy":
                from io import BytesIO

                buffer = BytesIO()
                np.save(buffer, images.permute(0, 2, 3, 1).numpy())
                write_atomically(path, buffer.getvalue())
            else:
                grid = image_grid(images, columns or math.ceil(math.sqrt(len(images))))
                write_atomically(path, _png(grid))
        except OSError as error:
            raise InputError(f"--out {out!r} cannot be written ({error.strerror}); choose another place") from None
        print(path)

    return write


def _png(picture: Any) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def list_verb(parser: Parser, words: list[str]) -> None:
    kinds = ["presets", *TABLES]
    parser.add_argument("kind", nargs="?", metavar="KIND", help="one of: " + ", ".join(kinds))
    parser.add_argument("--json", action="store_true", help="print as JSON")
    options = parser.parse_args(words)
    if options.kind is not None and options.kind not in kinds:
        raise unknown("kind", options.kind, kinds)
    chosen = kinds if options.kind is None else [options.kind]
    found = {kind: _entries(kind) for kind in chosen}
    if options.json:
        print_json(found)
        return
    width = min(shutil.get_terminal_size((100, 24)).columns, 110)
    for number, (kind, entries) in enumerate(found.items()):
        print(("\n" if number else "") + kind)
        for name, entry in entries.items():
            head = f"  {name:<16} "
            print(textwrap.fill(entry["help"], width, initial_indent=head, subsequent_indent=" " * len(head)))
            for option, words_of in entry.get("settings", {}).items():
                print(textwrap.fill(f"{option}  {words_of}", width, initial_indent=" " * 21, subsequent_indent=" " * 25))


def _entries(kind: str) -> dict[str, dict[str, typing.Any]]:
    if kind == "presets":
        return {name: {"help": help} for name, (help, _) in PRESETS.items()}
    table = TABLES[kind]
    return {
        name: {
            "help": table.summary(name),
            "settings": {flag.option: flag.help for flag in flags(table[name]()) if flag.leaf},
        }
        for name in table
    }
