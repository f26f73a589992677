"""The verb that writes down the vectors that a model learned for its labels."""

from __future__ import annotations

import csv
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
from safetensors.torch import save
from torch import Tensor

from vaekit.commands.arguments import Parser
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.models.table import Model
from vaekit.networks.conditioning import LabelEmbedding
from vaekit.records import print_json
from vaekit.runs import write_atomically
from vaekit.storage import load_model

_ENDINGS = (".npy", ".csv", ".safetensors")


def embeddings_verb(parser: Parser, words: list[str]) -> None:
    parser.model()
    parser.add_argument(
        "--out",
        metavar="FILE",
        required=True,
        help="file to write: .npy or .safetensors (an array: classes, size), or .csv with the classes' names",
    )
    parser.json("where the vectors are")
    options = parser.read(words)
    path = Path(options.out)
    if path.suffix.lower() not in _ENDINGS:
        raise InputError(f"--out {options.out!r}: the ending {path.suffix!r} is not {', '.join(_ENDINGS)}; choose one")
    if not path.parent.is_dir():
        raise InputError(f"--out {options.out!r}: folder {str(path.parent)!r} does not exist; make it first")
    model, _, info = load_model(options.run)
    vectors = label_vectors(model)
    if vectors is None:
        raise InputError(
            f"{options.run!r}: the model has no vectors of labels; train one with --conditioning embedding"
        )
    try:
        write_atomically(path, _content(path.suffix.lower(), vectors, info))
    except OSError as error:
        raise InputError(f"--out {options.out!r} cannot be written ({error.strerror}); choose another place") from None
    if options.json:
        print_json({"file": str(path), "num_classes": len(vectors), "embedding_dim": vectors.shape[1]})
    else:
        print(path)


def label_vectors(model: Model) -> Tensor | None:
    """The vectors float32 (num_classes, size) that a model reads in place of its labels; None where it has none."""
    conditioning = getattr(model, "conditioning", None)
    return conditioning.weight.detach() if isinstance(conditioning, LabelEmbedding) else None


def _content(ending: str, vectors: Tensor, info: DataInfo) -> bytes:
    if ending == ".safetensors":
        return save({"vectors": vectors.contiguous()})
    if ending == ".npy":
        buffer = BytesIO()
        np.save(buffer, vectors.numpy())
        return buffer.getvalue()
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["class", *(f"dimension-{column}" for column in range(vectors.shape[1]))])
    for name, vector in zip(info.class_names, vectors.double().tolist(), strict=True):
        rows.writerow([name, *(f"{value:.9g}" for value in vector)])  # nine digits: the same float32 when read again
    return text.getvalue().encode()
