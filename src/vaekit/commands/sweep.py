"""The verb `sweep`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from vaekit.commands.arguments import Parser
from vaekit.commands.console import train_help
from vaekit.commands.settings import settings_given
from vaekit.config import set_flags
from vaekit.errors import InputError
from vaekit.records import print_json
from vaekit.settings import PRESETS, preset
from vaekit.sweeps.grid import members, parted
from vaekit.sweeps.results import FINISHED, measured
from vaekit.sweeps.sweep import sweep

_LISTS = (
    "A setting that is given several values, with commas between them, is swept: --beta 0.5,1,2 --seed 0,1 makes six "
    "members, each a run folder OUT/beta-0.5-seed-0 and so on. Values that may hold commas themselves, which are lists such "
    'as --hidden and paths, stand between semicolons: --hidden "400;200,200". A sweep that was stopped goes on when the '
    "command is repeated."
)
_COLUMNS = (("ELBO", "elbo_nats"), ("rate", "rate_nats"), ("distortion", "distortion_nats"), ("NLL", "nll_nats"))


def sweep_verb(parser: Parser, words: list[str]) -> int:
    wants_help = any(word in ("-h", "--help") for word in words)
    words = [word for word in words if word not in ("-h", "--help")]
    parser.add_argument("out", metavar="OUT", help="folder of the members' run folders, made if need be")
    parser.add_argument(
        "--preset", default="conv", metavar="NAME", help=f"settings to start from: {', '.join(PRESETS)} [conv]"
    )
    parser.number(
        "--importance-samples", 0, "measure each member on test images with so many samples; 0: do not", least=0
    )
    parser.number("--limit", None, "measure with only N test images, evenly spread", most=10**9)
    parser.data_dir()
    parser.json("what sweep.json holds")
    options, rest = parser.read_known(words)
    base = preset(options.preset)
    if not wants_help and (not words or words[0].startswith("-")):
        raise InputError("the folder to write into comes first; write vaekit sweep OUT, and settings as --name value")
    grid, given = parted(base, settings_given(parser, base, rest, "OUT"))
    if wants_help:
        config = members(options.preset, grid, given)[0].config if grid else set_flags(base, given)
        print(train_help(parser, options.preset, config, _LISTS))
        return 0
    record = sweep(
        options.out,
        options.preset,
        grid,
        num_importance_samples=options.importance_samples,
        limit=options.limit,
        data_dir=options.data_dir,
        **given,
    )
    if options.json:
        print_json(record)
    else:
        print(sweep_text(options.out, record))
    for figure in record["figures"]:
        print(f"figure: {figure}", file=sys.stderr)
    return 0 if any(each["status"] == FINISHED for each in record["members"]) else 1


def sweep_text(out: str, record: Mapping[str, Any]) -> str:
    """A row for each member: the numbers of the weights that were kept, or why there are none."""
    found = record["members"]
    width = max(len("member"), *(len(each["name"]) for each in found))
    split = record["measured_on"]
    with_nll = split == "test"
    columns = [column for column in _COLUMNS if column[0] != "NLL" or with_nll]
    lines = [
        f"{out}: {len(found)} members, {split} images, in nats per image",
        "",
        f"  {'member':<{width}}  {'epoch':>5}" + "".join(f"  {label:>10}" for label, _ in columns),
    ]
    for each in found:
        if each["status"] != FINISHED:
            lines.append(f"  {each['name']:<{width}}  {each['status']}: {each['failure'] or 'not trained to its end'}")
            continue
        numbers = measured(each, split)
        shown = [numbers.get(key) for _, key in columns]
        cells = "".join("           -" if value is None else f"  {value:>10.2f}" for value in shown)
        lines.append(f"  {each['name']:<{width}}  {each['epoch']:>5}{cells}")
    return "\n".join(lines)
