"""The verb that writes a model for other programs."""

from __future__ import annotations

import sys
from pathlib import Path

from vaekit.commands.arguments import Parser
from vaekit.export.export import export_model
from vaekit.export.table import FORMATS
from vaekit.records import print_json


def export_verb(parser: Parser, words: list[str]) -> None:
    parser.model()
    parser.one_of("--format", FORMATS, "onnx", "what to write")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to write into, made if need be")
    parser.json("the description of the files")
    options = parser.read(words)
    description = export_model(options.run, options.out, options.format)
    if options.json:
        print_json({"folder": options.out, **description})
        return
    for name, about in description["files"].items():
        print(Path(options.out) / name)
        if "largest_difference" in about:
            print(f"{name}: within {about['largest_difference']:.1e} of torch", file=sys.stderr)
