"""The verb that fits a density to the codes of a trained model."""

from __future__ import annotations

import sys

from vaekit.commands.arguments import Parser
from vaekit.commands.console import progress, setting_row
from vaekit.config import every_flag
from vaekit.records import print_json
from vaekit.samplers.fit import fit_sampler
from vaekit.samplers.fitted import SamplerSettings


def fit_sampler_verb(parser: Parser, words: list[str]) -> None:
    parser.model()
    names = _settings(parser)
    parser.number("--limit", None, "use only N training images, evenly spread", most=10**9)
    parser.seed("seed of the codes and of the fit")
    parser.one_of("--device", ("auto", "cpu", "cuda"), "auto", "where to compute")
    parser.data_dir()
    parser.json("the record")
    options = parser.read(words)
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    record = fit_sampler(
        options.run,
        **{"sampler": "mixture", **given},
        data_dir=options.data_dir,
        limit=options.limit,
        seed=options.seed,
        device=options.device,
        progress=progress(sys.stderr, "encoding"),
    )
    if options.json:
        print_json(record)
        return
    held_out = {"val": "validation images", "train": "training images that were left out"}[record["held_out"]]
    print(record["file"])
    print(
        f"  codes of {record['num_codes']:,} training images; mean log-density of the codes of "
        f"{record['num_held_out']:,} {held_out}, in nats (higher is better):"
    )
    for words_for, key in (
        (f"under {record['sampler']}", "log_density_nats"),
        ("under the prior", "prior_log_density_nats"),
    ):
        value = record[key]
        print(f"  {words_for:<22} {'-' if value is None else f'{value:.4f}':>11}")


def _settings(parser: Parser) -> list[str]:
    """Add the choice and every sampler's settings; returns their names."""
    names: list[str] = []
    for flag in every_flag(SamplerSettings()):
        if flag.name in names:
            continue
        names.append(flag.name)
        option, words = setting_row(flag)
        owner = next((part.split("=")[1] for part in flag.path if "=" in part), "mixture")
        text = words if flag.table else f"{owner}: {words}"
        parser.add_argument(flag.option, metavar=option.split(" ", 1)[1], help=text.replace("%", "%%"))
    return names
