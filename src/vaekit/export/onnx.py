"""ONNX files that onnxruntime runs, on a computer or in a browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vaekit.export.parts import Part, described, examples, farthest, parts, quiet, unwritable
from vaekit.export.table import FORMATS, Exported, need_packages
from vaekit.trained import Trained

OPSET = 18
BATCHES = (1, 3)  # as the result is checked
_ALLOWED = (
    "FLOAT",
    "INT64",
    "BOOL",
)  # types of numbers that the graph may hold: small runtimes know no others everywhere


@FORMATS.register("onnx")
@dataclass(frozen=True)
class Onnx:
    """encoder.onnx, decoder.onnx and whole.onnx: one file each, any batch size, checked in onnxruntime to 1e-4."""

    def export(self, trained: Trained) -> Exported:
        need_packages(("onnx", "onnxscript", "onnxruntime"), "export", "--format onnx")
        files, about = {}, {}
        for part in parts(trained):
            content = graph(trained, part)
            name = f"{part.name}.onnx"
            files[name] = content
            about[name] = {
                "inputs": [described(trained, each) for each in part.inputs],
                "outputs": [described(trained, each, output=True) for each in part.outputs],
                "largest_difference": difference(trained, part, content),
            }
        return Exported(files, {"opset": OPSET, "files": about, "versions": _versions()})


def graph(trained: Trained, part: Part) -> bytes:
    """A part as an ONNX model of float32 and int64 numbers, its weights inside.

    Raises:
        InputError: when ONNX, or the types of numbers that small runtimes have, cannot express it.
    """
    program = part.program(trained)
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                input_names=part.inputs,
                output_names=part.outputs,
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception:  # of many kinds, as the exporter meets what it does not know
        raise unwritable(trained, part.name, "ONNX") from None
    assert made is not None
    model: Any = made.model_proto
    if not _types(model) <= set(_ALLOWED):
        raise unwritable(trained, part.name, "ONNX of float32 numbers")
    content: bytes = model.SerializeToString()
    return content


def difference(trained: Trained, part: Part, content: bytes) -> float:
    """The largest difference of any output between onnxruntime and torch.

    Raises:
        InputError: when it is more than 1e-4, or onnxruntime does not know an operation.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    worst = 0.0
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for count in BATCHES:
            given = {name: value for name, value in examples(trained, count).items() if name in part.inputs}
            with torch.no_grad():
                want = part.module(*(given[name] for name in part.inputs))
            got = session.run(list(part.outputs), {name: value.numpy() for name, value in given.items()})
            worst = max(worst, farthest(want, tuple(map(torch.from_numpy, got))))
    except Exception:  # onnxruntime's own, which share no base
        raise unwritable(trained, part.name, "ONNX for onnxruntime") from None
    if worst == float("inf"):
        raise unwritable(trained, part.name, "ONNX with the same numbers to 1e-4")
    return worst


def _types(model: Any) -> set[str]:
    """Names of the types of numbers that a graph's inputs, outputs, constants and inner values have."""
    import onnx

    body = model.graph
    of_values = (value.type.tensor_type.elem_type for value in (*body.input, *body.output, *body.value_info))
    of_weights = (tensor.data_type for tensor in body.initializer)
    return {onnx.TensorProto.DataType.Name(number) for number in (*of_values, *of_weights)}


def _versions() -> dict[str, str]:
    import onnx
    import onnxruntime

    return {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
