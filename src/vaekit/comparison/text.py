"""A comparison to read: as text for the terminal, and as one HTML page with its pictures inside."""

from __future__ import annotations

import base64
import struct
import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

from vaekit.columns import screen_width
from vaekit.comparison.compare import QUANTITIES
from vaekit.figures.basics import FigureFile
from vaekit.report.style import CSS

HEADS = {
    "elbo_nats": "ELBO",
    "distortion_nats": "distortion",
    "rate_nats": "rate",
    "nll_nats": "NLL",
    "psnr_db": "PSNR dB",
}
_BETTER = {"elbo_nats": 1, "distortion_nats": -1, "nll_nats": -1, "psnr_db": 1}  # a rate is neither
_NO_BREAKS = ".values td:first-child{white-space:nowrap}"
_MOST_IN_PAIRS = 4  # runs of which the text shows every pair
_MEANING = (
    "Intervals hold the mean difference with 95% confidence over images like these. They speak of these trained models: "
    "another seed may move each of them by more, so compare configurations by several seeds."
)


def comparison_text(record: dict[str, Any]) -> str:
    """The record of `vaekit.comparison.compare`, aligned."""
    shown = shown_quantities(record)
    rows = [["", "run", *(HEADS[name] for name in shown), "active units"]]
    for run in record["runs"]:
        rows.append([run["name"], run["run"], *(_number(run[name]) for name in shown), _active(run)])
    images, samples = record["num_images"], record["num_importance_samples"]
    lines = [
        f"{images:,} {record['split']} images, {samples} importance samples, nats per image "
        "(ELBO and PSNR: higher is better; distortion and NLL: lower)",
        "",
        *_aligned(rows),
    ]
    kinds = {f"{run['likelihood']}, {run['measure']}" for run in record["runs"]}
    lines += ["", _likelihoods(record) if len(kinds) > 1 else f"Likelihood and measure: {kinds.pop()}"]
    pairs, more = record["differences"], ""
    if len(record["runs"]) > _MOST_IN_PAIRS:
        pairs, more = [one for one in pairs if one["minus"] == record["runs"][0]["name"]], "; other pairs: --json"
    lines += ["", f"Paired differences, image by image: mean, [95% interval], * where it excludes 0{more}", ""]
    lines += _aligned([["", *(HEADS[name] for name in shown)], *([_minus(d), *_cells(d, shown)] for d in pairs)])
    lines += [f"  {reason}" for reason in reasons(pairs, shown)]
    for group in record["configurations"]:
        lines += ["", f"{len(group['runs'])} runs that differ in their seed alone ({', '.join(group['runs'])}):", ""]
        heads = [["", "mean", "standard deviation", "lowest", "highest"]]
        lines += _aligned(
            heads
            + [[HEADS[name], *(_number(value) for value in _of_spread(group[name]))] for name in shown if group[name]]
        )
    lines.append("")
    for note in (*record["notes"], _MEANING):
        lines += textwrap.wrap(note, screen_width())
    return "\n".join(lines)


def shown_quantities(record: dict[str, Any]) -> list[str]:
    """The quantities that at least one run has."""
    return [name for name in QUANTITIES if any(run[name] is not None for run in record["runs"])]


def reasons(differences: Sequence[dict[str, Any]], shown: Sequence[str]) -> list[str]:
    """Why differences are left out, a sentence for each pair and reason."""
    found = []
    for one in differences:
        by_reason: dict[str, list[str]] = {}
        for name, reason in one["why_not"].items():
            if name in shown:
                by_reason.setdefault(reason, []).append(HEADS[name])
        found += [f"{_minus(one)}: no {', '.join(heads)}: {reason}" for reason, heads in by_reason.items()]
    return found


def verdict(quantity: str, found: dict[str, Any] | None) -> str:
    """``better``, ``worse`` or ``unclear`` for the later run; nothing where a quantity is neither.

    >>> verdict("nll_nats", {"mean": -1.0, "excludes_zero": True})
    'better'
    """
    if found is None or quantity not in _BETTER:
        return ""
    if not found["excludes_zero"]:
        return "unclear"
    return "better" if found["mean"] * _BETTER[quantity] > 0 else "worse"


def _minus(one: dict[str, Any]) -> str:
    return f"{one['run']} - {one['minus']}"


def _whole(text: str) -> str:
    """A text that is not broken over lines."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _active(run: dict[str, Any]) -> str:
    units = run["active_units"]
    return f"{'-' if units is None else units} of {run['latent_dim']}"


def _of_spread(group: dict[str, float]) -> list[float]:
    return [group[name] for name in ("mean", "standard_deviation", "lowest", "highest")]


def _likelihoods(record: dict[str, Any]) -> str:
    each = (f"{run['name']} {run['likelihood']}, {run['measure']}" for run in record["runs"])
    return f"Likelihoods and measures: {'; '.join(each)}"


def _cells(one: dict[str, Any], shown: Sequence[str]) -> list[str]:
    return [_cell(one[name]) for name in shown]


def _cell(found: dict[str, Any] | None) -> str:
    """A difference in one cell; in a column all ends stand under each other."""
    if found is None:
        return "-  "
    if found["standard_error"] is None:
        return f"{found['mean']:+.2f}  "
    return f"{found['mean']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]" + (
        " *" if found["excludes_zero"] else "  "
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines: the first columns from the left while they hold words, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = 2 if rows[0][1] == "run" else 1
    lines = []
    for row in rows:
        parts = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(parts)).rstrip())
    return lines


def comparison_page(record: dict[str, Any], figures: Sequence[FigureFile]) -> str:
    """One HTML file that holds the tables and the pictures, and asks the network for nothing."""
    shown = shown_quantities(record)
    names = ", ".join(run["run"] for run in record["runs"])
    head = ["run", *(HEADS[name] for name in shown), "active units"]
    rows = [
        [f"{run['name']}  {run['run']}", *(_number(run[name]) for name in shown), _active(run)]
        for run in record["runs"]
    ]
    gaps = [
        [_whole(_minus(one)), *(f"{_whole(_cell(one[name]).strip(' *'))} {verdict(name, one[name])}" for name in shown)]
        for one in record["differences"]
    ]
    notes = [*reasons(record["differences"], shown), *record["notes"], _MEANING]
    body = [
        f"<h1>{len(rows)} runs compared</h1>",
        f'<p class="lede">{record["num_images"]:,} {record["split"]} images, {record["num_importance_samples"]} importance '
        "samples; nats per image. ELBO and PSNR: higher is better; distortion and NLL: lower.</p>",
        _table(head, rows),
        "<h2>Paired differences, image by image</h2>",
        _table(["", *(HEADS[name] for name in shown)], gaps),
        "".join(_seeds(group, shown) for group in record["configurations"]),
        "".join(f'<p class="small">{escape(note)}</p>' for note in notes),
        *(_figure(figure) for figure in figures),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(names)} · vaekit</title>\n<style>{CSS}{_NO_BREAKS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _seeds(group: dict[str, Any], shown: Sequence[str]) -> str:
    title = f"{len(group['runs'])} runs that differ in their seed alone: {', '.join(group['runs'])}"
    rows = [[HEADS[name], *map(_number, _of_spread(group[name]))] for name in shown if group[name]]
    return f"<h2>{title}</h2>" + _table(["", "mean", "standard deviation", "lowest", "highest"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="values">\n<thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _figure(figure: FigureFile) -> str:
    content = figure.path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # of a PNG; two pixels for each CSS pixel
    code = base64.b64encode(content).decode()
    return (
        f'<figure><div class="frame"><img src="data:image/png;base64,{code}" width="{width // 2}" height="{height // 2}" '
        f'alt="{escape(figure.title)}" style="--wide:{width // 2}px"></div>'
        f"<figcaption><b>{escape(figure.title)}.</b> {escape(figure.caption)}</figcaption></figure>"
    )
