"""`vaekit doctor`: what is wrong with a run, and what to change."""

from __future__ import annotations

import sys

from vaekit.commands.arguments import Parser
from vaekit.doctor.examine import examine
from vaekit.doctor.findings import Examination, in_a_line, in_words, several
from vaekit.records import print_json
from vaekit.runs import Run


def doctor_verb(parser: Parser, words: list[str]) -> None:
    parser.run()
    parser.json("the findings")
    options = parser.read(words)
    run = Run(options.run)
    found = examine(run, options.data_dir)
    if options.json:
        print_json({"run": str(run.path), **found.to_json()})
    else:
        print(in_words(found, str(run.path)))


def tell(found: Examination, path: object) -> None:
    """A line on standard error for each illness, and where to read more of it and of warnings."""
    for finding in found.of("illness"):
        print(in_a_line(finding), file=sys.stderr)
    if not found.healthy:
        print(f"doctor: {several(len(found.findings), 'finding')} with evidence: vaekit doctor {path}", file=sys.stderr)
