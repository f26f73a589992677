"""An inspection to read: short, aligned, one fact a line."""

from __future__ import annotations

import itertools
import re
import textwrap
from typing import Any

from vaekit.columns import entry, screen_width

_HEAD = 20
_MOST_CLASSES = 12
_EXAMPLES = 3
_BAR = 24
SPLITS = ("train", "val", "test")
_CHANNELS = {1: ("grey",), 2: ("grey", "second"), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "fourth")}


def inspection_text(record: dict[str, Any]) -> str:
    """The record of `vaekit.inspection.inspect.inspect`, to read."""
    parts = [_heading(record), _splits(record), _files(record), _values(record), _classes(record), _attributes(record)]
    parts += [_findings(record), _suggestions(record)]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _row(head: str, text: str) -> str:
    return textwrap.fill(
        text,
        screen_width(),
        initial_indent=f"  {head:<{_HEAD}}",
        subsequent_indent=" " * (2 + _HEAD),
        break_on_hyphens=False,
        break_long_words=False,
    )


def _heading(record: dict[str, Any]) -> list[str]:
    channels, height, width = record["shape"].values()
    colour = {1: "grey", 3: "in colour"}.get(channels, f"of {channels} channels")
    kind = "black and white" if record["binary"] else "whole grey levels" if record["whole_levels"] else "fractions"
    line = f"{record['data']}: {record['num_images']:,} images, {width}x{height} {colour}, {kind}"
    if record["input_shape"]:
        line += f"; to be restored from {record['input_shape'][2]}x{record['input_shape'][1]}"
    notes = [textwrap.wrap(note, screen_width(), break_on_hyphens=False) for note in record["notes"]]
    return [line, *itertools.chain(*notes)]


def _splits(record: dict[str, Any]) -> list[str]:
    lines = ["splits"]
    for name, part in record["splits"].items():
        source = "official" if part["official"] else "held out of the training images"
        if not part["official"] and record["grouped"]:
            source += ", group by group"
        if name == "train":
            source = ""
        lines.append(f"  {name:<{_HEAD}}{part['num_images']:>9,}  {source}".rstrip())
    if record["groups"] and not (record["classes"] and len(record["classes"]) == record["groups"]):
        word = (
            "kept whole by splits" if record["grouped"] else "which splits may cut; --group-by folder keeps them whole"
        )
        lines.append(f"  {'groups':<{_HEAD}}{record['groups']:>9,}  {word}")
    return lines


def _files(record: dict[str, Any]) -> list[str]:
    files = record["files"]
    if not files:
        return []
    sizes = [f"{width}x{height} ({count:,})" for width, height, count in files["sizes"][:4]]
    if more := len(files["sizes"]) - 4:
        sizes += [f"{more:,} other sizes"] if more > 0 else []
    lines = [f"files ({files['num_files']:,})", _row("sizes", ", ".join(sizes) or "none")]
    for kind in ("formats", "modes"):
        lines.append(_row(kind, ", ".join(f"{name} ({count:,})" for name, count in files[kind].items()) or "none"))
    if files["num_extreme"]:
        shown = [f"{file['file']} ({file['width']}x{file['height']})" for file in files["extreme"]]
        lines.append(_row("long or tall", _some(files["num_extreme"], shown)))
    return lines  # what was left out stands in the notes: headers do not show all of it, such as truncated files


def _values(record: dict[str, Any]) -> list[str]:
    values, channels = record["values"], record["shape"]["channels"]
    names = _CHANNELS.get(channels, tuple(f"channel {number}" for number in range(channels)))
    title = "values of all but the official test images" if _official(record) else "values"
    lines = [f"{title}, black 0 and white 1", f"  {'':<{_HEAD}}{'mean':>9} {'std':>8}"]
    for name, mean, deviation in zip(names, values["mean"], values["std"], strict=True):
        lines.append(f"  {name:<{_HEAD}}{mean:>9.4f} {deviation:>8.4f}")
    words = f"{values['min']:.4g} to {values['max']:.4g}"
    if record["whole_levels"]:
        words += f" in {values['levels']} levels"
    lines.append(_row("range", f"{words}; {values['black']:.1%} black, {values['white']:.1%} white"))
    if record["grey_images"]:
        lines.append(_row("without colour", f"{record['grey_images']:,} images"))
    return lines


def _official(record: dict[str, Any]) -> bool:
    return "test" in record["splits"] and record["splits"]["test"]["official"]


def _classes(record: dict[str, Any]) -> list[str]:
    classes = record["classes"]
    if not classes:
        return []
    counted = [(entry["name"], sum(entry["num_images"].values())) for entry in classes]
    counts = [count for _, count in counted]
    balance = (
        "equally many of each" if max(counts) == min(counts) else f"{min(counts):,} to {max(counts):,} images each"
    )
    lines = [f"classes ({len(classes):,}; {balance})"]
    width = max(1, *counts)
    if len(counted) > _MOST_CLASSES:
        order = sorted(counted, key=lambda pair: -pair[1])
        counted = [*order[: _MOST_CLASSES // 2], *order[-_MOST_CLASSES // 2 :]]
        lines[0] += ", the largest and the smallest"
    for name, count in counted:
        label = name if len(name) < _HEAD else name[: _HEAD - 4] + "..."
        lines.append(f"  {label:<{_HEAD}}{count:>9,}  {'#' * round(_BAR * count / width)}".rstrip())
    return lines


def _attributes(record: dict[str, Any]) -> list[str]:
    found = record["attributes"]
    if not found:
        return []
    width = max(len(entry["name"]) for entry in found) + 2
    columns = max(1, (screen_width() - 2) // (width + 8))
    cells = [f"{entry['name']:<{width}}{entry['mean']:>5.2f}   " for entry in found]
    rows = ["".join(cells[start : start + columns]).rstrip() for start in range(0, len(cells), columns)]
    return [f"attributes ({len(found)}), means", *(f"  {row}" for row in rows)]


def _findings(record: dict[str, Any]) -> list[str]:
    exact, near = record["duplicates"], record["near_duplicates"]
    lines = ["what to look at"]
    shown = [" = ".join([*map(_place, group[:3]), *["..."] * (len(group) > 3)]) for group in exact["groups"]]
    what = _counted(exact["num_groups"], "group") + " of " + _counted(exact["num_images"], "image")
    lines += _examples("same pixels", what if shown else "none", shown)
    shown = [f"{_place(pair['first'])} ~ {_place(pair['second'])}" for pair in near["pairs"]]
    lines += _examples("nearly the same", _counted(near["num_pairs"], "pair") if shown else "none found", shown)
    for between, leak in record["leakage"].items():
        held, _, other = between.partition("_in_")
        if leak["exact"] + leak["near"]:
            counts = ((leak["exact"], "with the same pixels"), (leak["near"], "nearly the same"))
            words = " and ".join(f"{count:,} {how}" for count, how in counts if count)
            lines.append(_row(f"{held} also in {other}", f"{words} ({leak['fraction']:.2%} of {held})"))
    names = {"even": "nearly one colour", "dark": "much darker", "bright": "much brighter"}
    for kind, found in record["odd"].items():
        if found:
            lines.append(_row(names[kind], _some(len(found), [_place(place) for place in found])))
    if any(_is_number(line) for line in lines[1:]):
        lines.append(_row("", "(a number: the place among the published images that the split was taken from)"))
    for warning in record["warnings"]:
        lines += ["", *textwrap.wrap(warning, screen_width(), initial_indent="  ! ", subsequent_indent="    ")]
    return lines


def _suggestions(record: dict[str, Any]) -> list[str]:
    settings = [(f"{advice['option']} {advice['value']}", advice["reason"]) for advice in record["suggestions"]]
    head = 2 + max(len(setting) for setting, _ in settings)
    return ["suggestions for vaekit train", *(entry(setting, reason, head) for setting, reason in settings)]


def _place(place: dict[str, Any]) -> str:
    return place["file"] or f"{place['split']} {place['image']}"


def _is_number(line: str) -> bool:
    """Whether a line shows an image by its number."""
    return re.search(rf"\b({'|'.join(SPLITS)}) \d+", line) is not None


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _examples(head: str, what: str, shown: list[str]) -> list[str]:
    """A fact and a few examples, one on a line."""
    more = [_row("", "...")] if len(shown) > _EXAMPLES else []
    return [_row(head, what), *(_row("", example) for example in shown[:_EXAMPLES]), *more]


def _some(count: int, shown: list[str]) -> str:
    return f"{count:,}: {', '.join(shown[:_EXAMPLES])}" + (", ..." if len(shown) > _EXAMPLES else "")
