"""The verb that makes a model of weights from Keras."""

from __future__ import annotations

import re

from vaekit.commands.arguments import Parser
from vaekit.errors import InputError
from vaekit.export.keras_import import import_keras
from vaekit.records import print_json


def import_keras_verb(parser: Parser, words: list[str]) -> None:
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="a .keras or .h5 file of the whole model, or of encoder and decoder"
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write: .safetensors")
    parser.add_argument("--preset", default="conv-seed", metavar="NAME", help="its architecture [conv-seed]")
    parser.add_argument("--shape", default="1,28,28", metavar="C,H,W", help="channels, height and width [1,28,28]")
    parser.add_argument("--latent-dim", metavar="N", help="dimensions of its latent space [as the preset has them]")
    parser.number("--classes", 10, "number of labels, where it reads them")
    parser.json("where the model is")
    options = parser.read(words)
    if not re.fullmatch(r"[1-9]\d{0,4},[1-9]\d{0,4},[1-9]\d{0,4}", options.shape):
        raise InputError(f"--shape: {options.shape!r} is not channels, height and width; write it as 1,28,28")
    channels, height, width = map(int, options.shape.split(","))
    given = {} if options.latent_dim is None else {"latent_dim": options.latent_dim}
    file = import_keras(
        options.files,
        options.out,
        options.preset,
        shape=(channels, height, width),
        classes=options.classes,
        **given,
    )
    if options.json:
        print_json({"model": str(file)})
    else:
        print(file)
