"""The verb `compare`."""

from __future__ import annotations

import sys
from pathlib import Path

from vaekit.commands.arguments import Parser
from vaekit.commands.console import progress
from vaekit.comparison.compare import compare
from vaekit.comparison.text import comparison_page, comparison_text
from vaekit.errors import InputError
from vaekit.evaluation.evaluate import DEFAULT_SAMPLES
from vaekit.records import print_json, to_json
from vaekit.runs import write_atomically


def compare_verb(parser: Parser, words: list[str]) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN RUN [RUN ...]",
        help="two or more run folders, or model.safetensors files; differences are a later one minus an earlier one",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="folder for compare.html, compare.json and the pictures, made if need be [none]"
    )
    parser.split()
    parser.measuring(DEFAULT_SAMPLES)
    parser.json("the record")
    options = parser.read(words)
    folder = None if options.out is None else _folder(options.out)
    record, runs = compare(
        options.runs,
        options.split,
        options.importance_samples,
        data_dir=options.data_dir,
        limit=options.limit,
        seed=options.seed,
        device=options.device,
        progress=progress(sys.stderr, "comparing"),
    )
    page = None
    if folder is not None:
        from vaekit.comparison.pictures import draw_comparison  # imports matplotlib, which takes half a second

        page = folder / "compare.html"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            figures = draw_comparison(record, runs, folder)
            record["files"] = [str(page), *(str(figure.path) for figure in figures)]
            write_atomically(page, comparison_page(record, figures))
            write_atomically(folder / "compare.json", to_json(record) + "\n")
        except OSError as error:
            raise InputError(
                f"--out {options.out!r} cannot be written ({error.strerror}); choose another folder"
            ) from None
    if options.json:
        print_json(record)
        return
    print(comparison_text(record))
    if page is not None:
        print(f"\n{page}")


def _folder(out: str) -> Path:
    """The folder to write into, looked at before anything is computed."""
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {out!r} is a file; choose a folder")
    if (folder / "config.json").exists():
        raise InputError(f"--out {out!r} is a run folder; choose another")
    return folder
