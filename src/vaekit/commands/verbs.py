"""The verbs of the command line, each a few lines around one function of the library."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaekit.commands.applied import anomaly_verb, augment_verb, embed_verb, impute_verb, morph_verb
from vaekit.commands.arguments import Parser
from vaekit.commands.compare import compare_verb
from vaekit.commands.console import KINDS, evaluation_text, list_kinds, listing, listing_text, progress, train_help
from vaekit.commands.data import inspect_verb
from vaekit.commands.doctor import doctor_verb, tell
from vaekit.commands.embeddings import embeddings_verb
from vaekit.commands.explore import explore_verb
from vaekit.commands.export import export_verb
from vaekit.commands.hub import pull_verb, push_verb
from vaekit.commands.images import denoise_verb, reconstruct_verb, sample_verb
from vaekit.commands.keras import import_keras_verb
from vaekit.commands.samplers import fit_sampler_verb
from vaekit.commands.settings import settings_given
from vaekit.commands.sweep import sweep_verb
from vaekit.commands.walks import interpolate_verb, traverse_verb
from vaekit.config import set_flags
from vaekit.doctor.examine import examine
from vaekit.errors import RunError
from vaekit.evaluation.evaluate import DEFAULT_SAMPLES, evaluate
from vaekit.export.card import measured
from vaekit.figures import make_figures
from vaekit.records import print_json, to_json
from vaekit.report.page import write_report
from vaekit.runs import Run, write_atomically
from vaekit.settings import PRESETS, Config, preset
from vaekit.training.train import resume, train

__all__ = [
    "anomaly_verb",
    "augment_verb",
    "compare_verb",
    "denoise_verb",
    "doctor_verb",
    "embed_verb",
    "embeddings_verb",
    "evaluate_verb",
    "explore_verb",
    "export_verb",
    "fit_sampler_verb",
    "import_keras_verb",
    "impute_verb",
    "inspect_verb",
    "interpolate_verb",
    "list_verb",
    "morph_verb",
    "pull_verb",
    "push_verb",
    "reconstruct_verb",
    "report_verb",
    "resume_verb",
    "sample_verb",
    "sweep_verb",
    "train_verb",
    "traverse_verb",
]


def train_verb(parser: Parser, words: list[str]) -> None:
    wants_help = any(word in ("-h", "--help") for word in words)
    parser.add_argument("--out", metavar="DIR", required=True, help="run folder to make")
    parser.add_argument(
        "--preset",
        default="conv",
        metavar="NAME",
        help=f"settings to start from: {', '.join(PRESETS)} [conv]",
    )
    parser.data_dir()
    _finish_arguments(parser)
    options, rest = parser.read_known([word for word in words if word not in ("-h", "--help")])
    base = preset(options.preset)
    config: Config = set_flags(base, settings_given(parser, base, rest, "--out DIR"), also=parser.options)
    if wants_help:
        print(train_help(parser, options.preset, config))
        return
    parser.refuse_missing(options)
    with _saved(options.out):
        run = train(options.out, config=config, data_dir=options.data_dir)
    _finish(run, options)


def resume_verb(parser: Parser, words: list[str]) -> None:
    parser.run()
    _finish_arguments(parser)
    options = parser.read(words)
    before = Run(options.run).metrics()
    with _saved(options.run):
        run = resume(options.run, data_dir=options.data_dir)
    if before and run.metrics() == before:
        print(f"run {options.run!r} was finished already; nothing was left to train", file=sys.stderr)
    _finish(run, options)


@contextmanager
def _saved(path: str) -> Iterator[None]:
    """Say of a write that failed midway what can be done."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"run {path!r} could not be written ({error.strerror or error}), and what was saved before is "
            f"intact; make room and continue: vaekit resume {path}"
        ) from error


def _finish_arguments(parser: Parser) -> None:
    parser.add_argument("--no-report", action="store_true", help="write no figures and no report.html")
    parser.json("the last epoch's record")


def _finish(run: Run, options: Any) -> None:
    """Figures, report and a word on where they are, from the first process."""
    if os.environ.get("RANK", "0") != "0":
        return
    found = examine(run, options.data_dir)
    tell(found, run)
    if not options.no_report:
        write_report(run, measured(run.path), make_figures(run, options.data_dir), found)
        print(f"report: {run.report}", file=sys.stderr)
    print(f"next:   vaekit evaluate {run.path}", file=sys.stderr)
    if options.json:
        print_json({"run": str(run.path), **run.metrics()[-1]})


def evaluate_verb(parser: Parser, words: list[str]) -> None:
    parser.model()
    parser.split()
    parser.measuring(DEFAULT_SAMPLES)
    parser.json("the record")
    options = parser.read(words)
    record = evaluate(
        options.run,
        options.split,
        options.importance_samples,
        data_dir=options.data_dir,
        limit=options.limit,
        seed=options.seed,
        device=options.device,
        progress=progress(sys.stderr, "evaluating"),
    )
    folder = Path(options.run)
    if folder.is_dir() and options.limit is None:
        file = folder / f"evaluation-{options.split}.json"
        try:
            write_atomically(file, to_json(record) + "\n")
        except OSError as error:  # the numbers are worth more than the file
            print(f"vaekit: {file} could not be written ({error.strerror})", file=sys.stderr)
    if options.json:
        print_json(record)
    else:
        print(evaluation_text(options.run, record))


def report_verb(parser: Parser, words: list[str]) -> None:
    parser.run()
    parser.json("where the report is")
    options = parser.read(words)
    run = Run(options.run)
    report = write_report(run, measured(run.path), make_figures(run, options.data_dir), examine(run, options.data_dir))
    if options.json:
        print_json({"report": str(report)})
    else:
        print(report)


def list_verb(parser: Parser, words: list[str]) -> None:
    parser.add_argument("kind", nargs="?", metavar="KIND", help=f"one of: {', '.join(KINDS)} [all]")
    parser.json("the entries")
    options = parser.read(words)
    found = {kind: listing(kind) for kind in list_kinds(options.kind)}
    if options.json:
        print_json(found)
    else:
        print("\n\n".join(listing_text(kind, entries) for kind, entries in found.items()))
