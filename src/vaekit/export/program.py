"""Programs of `torch.export`: graphs that torch runs without the code that made them."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import torch

from vaekit.export.onnx import BATCHES
from vaekit.export.parts import Part, described, examples, farthest, parts, quiet, unwritable
from vaekit.export.table import FORMATS, Exported
from vaekit.trained import Trained


@FORMATS.register("torch")
@dataclass(frozen=True)
class Program:
    """encoder.pt2, decoder.pt2 and whole.pt2 of torch.export, read again and compared."""

    def export(self, trained: Trained) -> Exported:
        files, about = {}, {}
        for part in parts(trained):
            buffer = BytesIO()
            with quiet():
                torch.export.save(part.program(trained), buffer)
            name = f"{part.name}.pt2"
            files[name] = buffer.getvalue()
            about[name] = {
                "inputs": [described(trained, each) for each in part.inputs],
                "outputs": [described(trained, each, output=True) for each in part.outputs],
                "largest_difference": _difference(trained, part, files[name]),
            }
        return Exported(files, {"files": about})


def _difference(trained: Trained, part: Part, content: bytes) -> float:
    with quiet():
        read = torch.export.load(BytesIO(content)).module()
    worst = 0.0
    for count in BATCHES:
        given = examples(trained, count)
        arguments = [given[name] for name in part.inputs]
        with torch.no_grad():
            worst = max(worst, farthest(part.module(*arguments), read(*arguments)))
    if worst == float("inf"):
        raise unwritable(trained, part.name, "a program with the same numbers to 1e-4")
    return worst
