"""`vaekit doctor`: what is wrong with a run, and what to change."""

from __future__ import annotations

import sys

from vaekit.commands.arguments import Parser
from vaekit.doctor.examine import examine
from vaekit.doctor.findings import Examination, in_a_line, in_words, several
from vaekit.doctor.history import symptoms
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


def tell(found: Examination, run: Run) -> None:
    """A line on standard error for each illness, and where to read more of it and of warnings.

    What was told after the last epoch, since the records showed it then for the first time, is not said twice.
    """
    records = run.metrics()
    before, now = (
        {finding.name for finding in symptoms(part, run.config, finished=False) if finding.severity == "illness"}
        for part in (records[:-1], records)
    )
    for finding in found.of("illness"):
        if finding.name not in now - before:
            print(in_a_line(finding), file=sys.stderr)
    if not found.healthy:
        print(
            f"doctor: {several(len(found.findings), 'finding')} with evidence: vaekit doctor {run.path}",
            file=sys.stderr,
        )
