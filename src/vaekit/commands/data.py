"""The verb that looks at data before anything is trained on them."""

from __future__ import annotations

import sys
from pathlib import Path

from vaekit.commands.arguments import Parser
from vaekit.commands.console import setting_row
from vaekit.config import flags, set_flags
from vaekit.data.batches import Data
from vaekit.data.download import data_folder
from vaekit.data.sizing import LiveLine
from vaekit.errors import InputError
from vaekit.records import print_json, to_json
from vaekit.runs import write_atomically

_NOT_ASKED = (
    "data",
    "train_limit",
)  # the first is the argument itself; inspecting a part would miss what is in the rest


def inspect_verb(parser: Parser, words: list[str]) -> None:
    parser.add_argument("data", metavar="DATA", help="named data set, a folder or archive of images, or an array file")
    for flag in flags(Data()):
        if flag.leaf and flag.name not in _NOT_ASKED and flag.path[0] not in ("binarization", "corruption"):
            head, help = setting_row(flag)
            parser.add_argument(flag.option, metavar=head.partition(" ")[2], help=help)
    parser.add_argument(
        "--out", metavar="DIR", help="folder for a contact sheet, pictures of what is odd, and the record"
    )
    parser.data_dir()
    parser.json("everything that was found")
    options = parser.read(words)
    named = {flag.name for flag in flags(Data())}
    given = {name: value for name, value in vars(options).items() if name in named and value is not None}
    data: Data = set_flags(Data(), given)
    out = None if options.out is None else _folder(options.out)
    from vaekit.inspection.inspect import inspect  # both imported late: other verbs need neither
    from vaekit.inspection.text import inspection_text

    found = inspect(data, data_folder(options.data_dir), LiveLine())
    if out is not None:
        from vaekit.figures.contact_sheet import inspection_figures

        for file in inspection_figures(found, out):
            print(f"picture: {file.path}", file=sys.stderr)
        write_atomically(out / "inspection.json", to_json(found.record) + "\n")
    if options.json:
        print_json(found.record)
    else:
        print(inspection_text(found.record))


def _folder(out: str) -> Path:
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out!r}: folder cannot be made ({error.strerror}); choose another place") from None
    return path
