"""The doctor beside a training: illnesses that the records show are told when they are first seen."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TextIO

from vaekit.doctor.findings import in_a_line
from vaekit.doctor.history import symptoms
from vaekit.runs import Run


class Attendant:
    """An observer of training that writes a line for each new illness.

    Args:
        run: the run; those of its epochs that went before are read once.
        stream: where to write; None is standard error.
    """

    def __init__(self, run: Run, stream: TextIO | None = None) -> None:
        self.run, self.stream = run, sys.stderr if stream is None else stream
        self.records: list[dict[str, Any]] | None = None
        self.told: set[str] = set()

    def step(self, progress: Any, total_steps: int, means: Mapping[str, float], images_per_second: float) -> None:
        pass

    def epoch(self, record: dict[str, Any], total_epochs: float, model: Any) -> None:
        if self.records is None:
            self.records = [earlier for earlier in self.run.metrics() if earlier["epoch"] < record["epoch"]]
        self.records.append(record)
        for finding in symptoms(self.records, self.run.config, finished=False):
            if finding.severity == "illness" and finding.name not in self.told:
                self.told.add(finding.name)
                self.stream.write(in_a_line(finding) + "\n")
                self.stream.flush()
