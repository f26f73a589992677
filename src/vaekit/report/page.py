"""The report of a run: one HTML file that holds everything and asks the network for nothing."""

# ruff: noqa: RUF001 - true minus and multiplication signs, for readers

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from vaekit import __version__
from vaekit.config import Flag, flags
from vaekit.doctor.findings import Examination, several
from vaekit.figures.basics import BOUNDS, FigureFile, best_epoch
from vaekit.models.table import code_in_words
from vaekit.records import by_level
from vaekit.report.notes import MEASURES, notes, number
from vaekit.report.repeat import as_text, nearest_preset, repeat_command
from vaekit.report.style import CSS
from vaekit.runs import Run, write_atomically
from vaekit.settings import PRESETS, Config, preset

_LARGE_PICTURE = 400_000  # bytes of a PNG; photographs make larger ones, and a report holds a dozen
_MOST_LEVELS = 5  # whose rates are key numbers; the figure has those of any number
_SECTIONS = {
    "data": "Data",
    "model": "Model",
    "objective": "Objective",
    "beta_schedule": "Objective",
    "training": "Training",
}


def write_report(
    run: Run, evaluation: dict[str, Any] | None, figures: list[FigureFile], examination: Examination | None = None
) -> Path:
    """Write `run.report`, atomically.

    Args:
        run: a run with metrics.
        evaluation: the record of `vaekit.evaluate`; None reports what validation measured during training.
        figures: the pictures to hold, in order; see `vaekit.figures.make_figures`.
        examination: what the doctor found, see `vaekit.doctor.examine`; None leaves the section out.

    Returns:
        The file's path.
    """
    records = run.metrics()
    name, settings = nearest_preset(run.config)
    title = f"{name} on {_data_name(run.info.name)}"
    body = [
        f"<header><h1>{escape(title)}</h1>{_lede(run, name, settings, records)}</header>",
        _summary(run, evaluation, records),
        _doctor(examination),
        _notes(run, evaluation, records),
        "".join(_figure(number, figure) for number, figure in enumerate(figures, 1)),
        _details("Every number of the evaluation", _evaluation_table(evaluation)) if evaluation else "",
        _details("Every epoch", _epoch_table(records, run.config.objective.selects)) if records else "",
        _details("The whole configuration", _configuration_table(run.config, name)),
        _repeat(run, name, settings),
    ]
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)} · vaekit</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )
    write_atomically(run.report, page)
    return run.report


def _data_name(name: str) -> str:
    return Path(name).name or name


def _lede(run: Run, name: str, settings: dict[str, Any], records: Sequence[dict[str, Any]]) -> str:
    info, model = run.info, run.config.model
    channels, height, width = info.shape
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")
    changed = len([setting for setting in settings if setting != "data"])
    changes = f", with {changed} setting{'s' * (changed != 1)} changed" if changed else ""
    labels = f" in {len(info.class_names)} classes" if info.class_names else ""
    epochs = f" for {number(records[-1]['epoch'])} epoch{'s' * (records[-1]['epoch'] != 1)}" if records else ""
    code = code_in_words(model, info, "latent")
    return (
        f"<p class=lede>A model with {code}, trained{epochs} on {number(info.num_train)} {colour} images "
        f"of {height}×{width} pixels{labels}. It began as preset <b>{escape(name)}</b> "
        f"({escape(PRESETS[name][0])}){changes}.</p>"
    )


def _tile(label: str, value: str, unit: str, meaning: str) -> str:
    return (
        f"<div class=tile><dt>{label}</dt><dd><b>{value}</b> <span class=unit>{unit}</span>"
        f"<span class=meaning>{meaning}</span></dd></div>"
    )


def _tiles(run: Run, numbers: dict[str, Any], measure: str, records: Sequence[dict[str, Any]]) -> str:
    """The strip of key numbers; what a model cannot have is left out."""
    nats, tiles = "nats per image", []

    def add(label: str, key: str, unit: str, meaning: str, digits: int = 2) -> None:
        if numbers.get(key) is not None:
            tiles.append(_tile(label, number(numbers[key], digits), unit, meaning))

    bound = "" if measure == "surrogate" else ", a lower bound on log p(x)"
    add("ELBO", "elbo_nats", nats, f"−(distortion + rate){bound}; higher is better")
    add("Rate", "rate_nats", nats, "what the latents say about an image, KL(q‖p)")
    add("Distortion", "distortion_nats", nats, "cost of the pixels, given the latents")
    error = numbers.get("standard_error_nats")
    samples = several(numbers.get("num_importance_samples") or 0, "importance sample")
    plus = "" if error is None else f"± {number(error)} "
    add("NLL", "nll_nats", plus + nats, f"−log p(x), from {samples}; lower is better")
    add("Bits per dimension", "bits_per_dim", "bits per pixel value", "the NLL in another unit", 3)
    if 1 < len(levels := by_level(numbers)) <= _MOST_LEVELS:
        parts = " + ".join(number(rate, 1) for rate in levels)
        tiles.append(_tile("Rate by level", parts, nats, "from the level that is drawn first to the last"))
    dimensions = number(numbers.get("latent_dim"))
    add("Active units", "active_units", f"of {dimensions} latents", "whose mean differs between images")
    before = number(numbers.get("input_psnr_db"))
    add("Restored PSNR", "psnr_db", "dB", f"against the clean image; {before} dB before restoring")
    similar = number(numbers.get("input_ssim"), 3)
    add("Restored SSIM", "ssim", "of at most 1", f"structural similarity to the clean image; {similar} before", 3)
    if records:
        last = records[-1]
        trained = f"{number(last['seconds'], 1)} s of training in all, on {escape(run.resolved.device)}"
        tiles.append(_tile("Speed", number(round(last["images_per_second"])), "images/s", trained))
    return "".join(tiles)


def _summary(run: Run, evaluation: dict[str, Any] | None, records: Sequence[dict[str, Any]]) -> str:
    if evaluation is None:
        numbers, source = _from_training(run, records)
    else:
        numbers = evaluation
        source = f"Measured on {number(numbers['num_images'])} {escape(str(numbers['split']))} images. "
    binary = run.config.data.is_binary(run.info)
    measure = numbers.get("measure") or run.config.model.likelihood.measure(binary)
    word, meaning = MEASURES[measure]
    return (
        f"<section><h2>Key numbers</h2><dl class=strip>{_tiles(run, numbers, measure, records)}</dl>"
        f"<p class=small>{source}<b>Measure: {word}.</b> {meaning}</p></section>"
    )


def _from_training(run: Run, records: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """The numbers of the epoch whose weights were kept, and where they come from."""
    best = best_epoch(records, run.config.objective.selects) if run.config.training.select_best else None
    kept = next((r for r in records if r["epoch"] == best), records[-1] if records else None)
    if kept is None:
        return {}, "The run has not finished an epoch. "
    part = "val" if kept["val"] else "train"
    where = "validation images" if part == "val" else "the training images themselves"
    return kept[part], (
        f"Measured during training on {where}, epoch {kept['epoch']}, with one latent sample an image; "
        "<code>vaekit evaluate</code> measures on test images. "
    )


def _notes(run: Run, evaluation: dict[str, Any] | None, records: Sequence[dict[str, Any]]) -> str:
    numbers = evaluation if evaluation is not None else _from_training(run, records)[0]
    found = notes(run, numbers, records)
    if not found:
        return ""
    items = "".join(f"<li><b>{escape(head)}</b> {escape(text)}</li>" for head, text in found)
    return f"<section class=notes><h2>Read this with care</h2><ul>{items}</ul></section>"


def _doctor(examination: Examination | None) -> str:
    if examination is None:
        return ""
    items = "".join(
        f"<li><b>{escape(finding.severity.capitalize())}: {escape(finding.headline)}</b> {escape(finding.evidence)} "
        f"<i>{escape(finding.remedy)}</i>{f' ({escape(finding.concerns)})' if finding.concerns else ''}</li>"
        for finding in examination.findings
    )
    well = "No illness was found. Looked at" if examination.healthy else "Also looked at"
    looked = f"<p class=small>{well}: {escape(', '.join(examination.checked))}.</p>"
    look = "notes well" if examination.healthy else "notes"
    return f'<section class="{look}"><h2>Doctor</h2>{f"<ul>{items}</ul>" if items else ""}{looked}</section>'


def _figure(order: int, figure: FigureFile) -> str:
    content = figure.path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # of a PNG, drawn with two pixels for each CSS pixel
    kind = "png"
    if len(content) > _LARGE_PICTURE:
        kind, content = "webp", _as_webp(content)
    code = base64.b64encode(content).decode()
    return (
        "<figure><div class=frame>"
        f'<img src="data:image/{kind};base64,{code}" width="{width // 2}" height="{height // 2}" '
        f'alt="{escape(figure.title)}" style="--wide:{min(width // 2, 620)}px"></div>'
        f"<figcaption><b>Figure {order}.</b> {escape(figure.caption)}</figcaption></figure>"
    )


def _as_webp(content: bytes) -> bytes:
    """A picture many times smaller, with losses that the eye hardly finds; the PNG beside the report has none."""
    file = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(file, "WEBP", quality=90, method=2)
    return file.getvalue()


def _details(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary><div class=scroll>{content}</div></details>"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    head = "".join(f"<th scope=col>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _evaluation_table(evaluation: dict[str, Any]) -> str:
    rows = []
    for key, value in evaluation.items():
        text = number(value, 4) if isinstance(value, float) or value is None else escape(str(value))
        rows.append((f"<code>{escape(key)}</code>", text))
    return _table(("quantity", "value"), rows, "values")


def _epoch_table(records: Sequence[dict[str, Any]], bound: str | None) -> str:
    names = {"loss": "loss", "elbo_nats": "ELBO", "rate_nats": "rate", "distortion_nats": "distortion"}
    parts = [("train", "training"), ("val", "validation")]
    parts = [part for part in parts if any(record[part[0]] for record in records)]
    extra = [key for key in ("learning_rate", "beta") if any(key in record for record in records)]
    heads = ["epoch", *(f"{label} {name}" for _, label in parts for name in names.values())]
    sizes = any("resolution" in record for record in records)
    heads += [*(["image size"] if sizes else []), *(key.replace("_", " ") for key in extra), "seconds", "images/s"]
    best = best_epoch(records, bound)
    rows = []
    for record in records:
        star = "★ " if record["epoch"] == best else ""
        row = [f"{star}{number(record['epoch'])}"]
        row += [number((record[part] or {}).get(key)) for part, _ in parts for key in names]
        row += ["×".join(map(str, record["resolution"]))] if sizes else []
        row += [f"{record[key]:.3g}" if key in record else "–" for key in extra]
        row += [number(record["seconds"], 1), number(round(record["images_per_second"]))]
        rows.append(row)
    mark = f"; ★ marks the best validation {BOUNDS[bound]}" if best and bound else ""
    return _table(heads, rows, "numbers") + f"<p class=small>In nats per image; seconds count from the start{mark}.</p>"


def _configuration_table(config: Config, name: str) -> str:
    own = {flag.path: flag.value for flag in flags(preset(name))}
    rows: list[tuple[str, ...]] = []
    section = ""
    for flag in flags(config):
        if (here := _SECTIONS.get(flag.path[0], flag.path[0])) != section:
            section = here
            rows.append((f"<b>{escape(here)}</b>", "", ""))
        changed = flag.path not in own or own[flag.path] != flag.value
        rows.append((f"<code>{escape(flag.option)}</code>", _value(flag, changed), escape(flag.help)))
    changed_note = f"<p class=small>Values in colour differ from preset <b>{escape(name)}</b>.</p>"
    return _table(("setting", "value", "meaning"), rows, "settings") + changed_note


def _value(flag: Flag, changed: bool) -> str:
    text = escape(as_text(flag.value))
    return f"<b class=changed>{text}</b>" if changed else text


def _repeat(run: Run, name: str, settings: dict[str, Any]) -> str:
    stored = json.loads((run.path / "config.json").read_text())
    versions = {"vaekit": stored.get("vaekit", __version__), **stored.get("versions", {})}
    facts = [f"{escape(key)} {escape(str(value))}" for key, value in versions.items()]
    used = run.resolved
    facts += [
        f"device {escape(used.device)}",
        f"precision {escape(used.precision)}",
        f"{used.threads} CPU thread{'s' * (used.threads != 1)}",
        f"{used.processes} process{'es' * (used.processes != 1)}",
    ]
    return (
        "<section><h2>Repeat this run</h2>"
        f"<pre><code>{_command(repeat_command(run))}</code></pre>"
        "<p class=small>On the same machine and versions this ends with the same weights. If the data lie in "
        f"a folder of your own, add <code>--data-dir DIR</code>. Made with {', '.join(facts)}.</p></section>"
    )


def _command(command: str) -> str:
    """The command with lines broken between options only."""
    parts = escape(command).replace(" --", "\n--").split("\n")
    return " ".join(f"<span>{part}</span>" for part in parts)
