"""What the command line shows to people: settings of train, numbers of evaluate, tables of list."""

from __future__ import annotations

import textwrap
import typing
from collections.abc import Callable
from typing import Any

from vaekit.code_priors.table import CODE_PRIORS
from vaekit.columns import entry, screen_width
from vaekit.commands.arguments import Parser, facts, limits
from vaekit.config import Flag, flags
from vaekit.corruptions.table import CORRUPTIONS
from vaekit.data.binarization import BINARIZATIONS
from vaekit.data.loaded import SOURCES
from vaekit.errors import unknown
from vaekit.families import FAMILIES, Family, fits, fitting_priors, latents
from vaekit.latents.table import POSTERIORS, PRIORS
from vaekit.models.table import MODELS
from vaekit.networks.conditioning import CONDITIONINGS
from vaekit.networks.table import NETWORKS
from vaekit.objectives.schedules import BETA_SCHEDULES
from vaekit.objectives.table import OBJECTIVES
from vaekit.probability.likelihoods import LIKELIHOODS
from vaekit.quantizers.table import QUANTIZERS
from vaekit.report.notes import MEASURES
from vaekit.samplers.table import SAMPLERS
from vaekit.settings import PRESETS, Config
from vaekit.shipped import shipped
from vaekit.tables import Table

TABLES: dict[str, Table] = {
    "data": SOURCES,
    "models": MODELS,
    "networks": NETWORKS,
    "conditionings": CONDITIONINGS,
    "likelihoods": LIKELIHOODS,
    "posteriors": POSTERIORS,
    "priors": PRIORS,
    "quantizers": QUANTIZERS,
    "code-priors": CODE_PRIORS,
    "objectives": OBJECTIVES,
    "beta-schedules": BETA_SCHEDULES,
    "samplers": SAMPLERS,
    "binarizations": BINARIZATIONS,
    "corruptions": CORRUPTIONS,
}
KINDS = ("presets", "shipped", "families", *TABLES, "combinations")

_ROOMS = {"data": "data", "model": "model", "objective": "objective", "beta_schedule": "objective"}
_PLACEHOLDERS = {int: "N", float: "X", str: "NAME"}


def train_help(parser: Parser, preset: str, config: Config, more: str = "") -> str:
    """Help of a verb that trains: its own arguments, what else is to be said, then every setting that `config` has."""
    lines = [
        *textwrap.wrap(f"{parser.prog}: {parser.description}", screen_width(), break_on_hyphens=False),
        "",
        f"usage: {parser.usage_line()} [options] [settings]",
        "",
        parser.rows(),
        "",
        *([*textwrap.wrap(more, screen_width()), ""] if more else []),
        *textwrap.wrap(
            f"Settings, as preset {preset} and the options beside --help have them: [value; allowed range]. "
            "Losses and bounds are in nats per image: summed over pixels and latents, averaged over images.",
            screen_width(),
        ),
    ]
    section = ""
    for flag in flags(config):
        if (room := _ROOMS.get(flag.path[0], "training")) != section:
            section = room
            lines += ["", f"{section}:"]
        lines.append(entry(*setting_row(flag)))
    lines += [
        "",
        *textwrap.wrap(
            "A part that is chosen brings settings of its own: vaekit train --network mlp --help shows those "
            "of that network, and vaekit list shows every part. A setting that is [none] takes a value or "
            "the word none. The order of options does not matter: a preset comes first, then the parts "
            "chosen, then the other settings.",
            screen_width(),
        ),
        "",
        "examples:",
        *(f"  {line}" for line in parser.examples),
    ]
    return "\n".join(lines)


def setting_row(flag: Flag) -> tuple[str, str]:
    """Option with its placeholder, and its help with value and range."""
    if flag.table:
        return f"{flag.option} NAME", f"{flag.help}: {', '.join(flag.table)} {facts(flag.value)}"
    assert flag.leaf is not None
    kind = next((o for o in typing.get_args(flag.type) if o is not type(None)), flag.type)
    shown = facts(flag.value, limits(flag.leaf))
    if flag.type is bool:
        return f"{flag.option}, --no-{flag.option[2:]}", f"{flag.help} {shown}"
    if typing.get_origin(flag.type) is tuple:
        return f"{flag.option} N,N,...", f"{flag.help} {shown}"
    if typing.get_origin(flag.type) is typing.Literal:
        words = [str(word) for word in typing.get_args(flag.type)]
        listed = "" if all(word in flag.help for word in words) else ": " + ", ".join(words)
        return f"{flag.option} NAME", f"{flag.help}{listed} {shown}"
    return f"{flag.option} {_PLACEHOLDERS.get(kind, 'VALUE')}", f"{flag.help} {shown}"


_Row = tuple[str, str, str, str]  # label, key of the value, unit, meaning
_MEASURES: tuple[_Row, ...] = (
    ("ELBO", "elbo_nats", "nats", "higher is better; -(distortion + rate), a lower bound on log p(x)"),
    (
        "distortion",
        "distortion_nats",
        "nats",
        "lower is better; -E log p(target | z), error of reconstruction",
    ),
    ("rate", "rate_nats", "nats", "what the latents tell about an image; KL from posterior to prior"),
    ("NLL", "nll_nats", "nats", "lower is better; estimate of -log p(x), or -log p(x | label)"),
    ("  standard error", "standard_error_nats", "nats", "of the NLL, from the number of images"),
    (
        "  effective samples",
        "effective_sample_size",
        "",
        "of {num_importance_samples} importance samples: more is surer",
    ),
    ("rate by level", "rate_by_level_nats", "nats", "the rate's parts, from the level that is drawn first"),
    ("bits per dimension", "bits_per_dim", "bits", "lower is better; NLL for each pixel and channel"),
    ("active units", "active_units", "", "of {latent_dim} latents: those that vary from image to image"),
    ("PSNR restored", "psnr_db", "dB", "higher is better; restored image against the clean one"),
    ("PSNR corrupted", "input_psnr_db", "dB", "the same of the input, for comparison"),
    ("SSIM restored", "ssim", "", "higher is better, 1 at most; structural similarity to the clean image"),
    ("SSIM corrupted", "input_ssim", "", "the same of the input, for comparison"),
)
_IN_HEADING = ("split", "num_images", "likelihood", "measure", "num_importance_samples", "latent_dim")
_NO_VALUE = {"bits_per_dim": "defined where the measure is discrete, or pixels are dequantized"}


def evaluation_text(run: str, record: dict[str, Any]) -> str:
    """The record of `vaekit.evaluate`, aligned, with units and meanings, then what the measure means."""
    lines = [
        f"{run}: {record['num_images']:,} {record['split']} images, in nats per image (summed over pixels and latents)",
        "",
    ]
    known = {key for _, key, _, _ in _MEASURES}
    others = [(name, name, "", "") for name in record if name not in known and name not in _IN_HEADING]
    for label, key, unit, meaning in (*_MEASURES, *others):
        if key not in record:
            continue
        value = record[key]
        if value is None:
            shown, unit, meaning = "-", "", _NO_VALUE.get(key, "this model has none")
        else:
            numbers = value if isinstance(value, list) else [value]
            shown = " + ".join(f"{each:.4f}" if isinstance(each, float) else str(each) for each in numbers)
        if key == "effective_sample_size" and value is not None:
            shown = f"{value:.1f}"
        text = f"{shown:>11} {unit:<5} {meaning.format_map(record)}"
        lines.append(f"  {label:<19} {text}".rstrip())
    name, meaning = MEASURES[record["measure"]]
    words = f"Likelihood {record['likelihood']}, measure {name}: {meaning[0].lower()}{meaning[1:]}"
    lines += ["", *textwrap.wrap(words, screen_width())]
    return "\n".join(lines)


def list_kinds(kind: str | None) -> list[str]:
    """The kinds that a word means, singular or plural; all of them for None.

    >>> list_kinds("network")
    ['networks']

    Raises:
        InputError: for another word.
    """
    if kind is None:
        return list(KINDS)
    for known in KINDS:
        if kind.replace("_", "-") in (known, known.removesuffix("s")):
            return [known]
    raise unknown("kind", kind, KINDS)


def listing(kind: str) -> dict[str, dict[str, Any]]:
    """Every entry of a kind: its help and its own settings, each with help, value and range."""
    if kind == "presets":
        return {name: {"help": help, "settings": _values(config)} for name, (help, config) in PRESETS.items()}
    if kind == "shipped":
        return {name: {"help": f"{each.about} ({each.licence})", "settings": {}} for name, each in shipped().items()}
    if kind == "families":
        return {name: {"help": _family(each), "settings": each.settings} for name, each in FAMILIES.items()}
    if kind == "combinations":
        return {name: {"help": combination(name), "settings": {}} for name in OBJECTIVES}
    table, found = TABLES[kind], {}
    for name in table:
        own = [flag for flag in flags(table[name]()) if len(flag.path) == 1]
        found[name] = {"help": table.summary(name), "settings": {f.option: setting_row(f)[1] for f in own}}
    return found


def _family(family: Family) -> str:
    return f"{family.command or 'what --model vae is'} ({family.source})"


def combination(objective: str) -> str:
    """With which posteriors, models and priors an objective trains, in a sentence or two.

    >>> combination("elbo")
    'every posterior and model but deterministic (needs a rate, and so a bound on log p(x))'
    """
    good: list[str] = []
    only: dict[str, list[str]] = {}  # priors that alone go, and with what
    bad: dict[str, list[str]] = {}  # reasons, and what they stand against
    for name, _ in latents():
        priors, lacking = fits(objective, name)
        if not priors:
            bad.setdefault(" and ".join(lacking), []).append(name)
            continue
        good.append(name)
        if priors != fitting_priors(name):
            only.setdefault(" or ".join(priors), []).append(name)
    reasons = [f"{', '.join(names)} (needs {why})" for why, names in bad.items()]
    limits = [f"{_names(names, good)} with prior {priors} alone" for priors, names in only.items()]
    if len(good) < sum(map(len, bad.values())):
        return "; ".join([", ".join(good), *limits, *(f"not {reason}" for reason in reasons)])
    but = f" but {', '.join(reasons)}" if reasons else ""
    return "; ".join([f"every posterior and model{but}", *limits])


def _names(names: list[str], of: list[str]) -> str:
    return "all" if names == of and len(of) > 1 else ", ".join(names)


def _values(config: Config) -> dict[str, Any]:
    return {flag.option: flag.value for flag in flags(config)}


def listing_text(kind: str, entries: dict[str, dict[str, Any]]) -> str:
    """The same, to read."""
    width = 2 + max(len(name) for name in entries)
    has_settings = any(_own(kind, found) for found in entries.values())
    lines = [f"{kind} (settings with [value; allowed range]):" if has_settings else f"{kind}:"]
    for name, found in entries.items():
        lines.append(entry(name, found["help"], width))
        lines += [entry(option, words, 28, 6) for option, words in _own(kind, found).items()]
    return "\n".join(lines)


def _own(kind: str, found: dict[str, Any]) -> dict[str, str]:
    return {} if kind in ("presets", "families") else found["settings"]


Progress = Callable[[float], None]


def progress(stream: typing.TextIO, what: str) -> Progress:
    """A percentage that is rewritten on a terminal; nothing elsewhere."""
    live = stream.isatty()

    def show(fraction: float) -> None:
        if live:
            done = "\r" + " " * (len(what) + 6) + "\r" if fraction >= 1 else ""
            stream.write(f"\r{what} {100 * fraction:3.0f}%{done}")
            stream.flush()

    return show
