"""The picture of a sweep: rate against distortion by beta, or the bound against another number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from vaekit.figures.style import FAINT, INK, MARKERS, PALETTE, RULE, Drawn, new_figure, save, style
from vaekit.sweeps.grid import value_text
from vaekit.sweeps.results import FINISHED, measured

_WIDTH, _HEIGHT = 1300, 900
_MOST_LINES = len(PALETTE)
_CLOSE = 40.0  # pixels between names of points
_WIDE = 8.0  # the largest value over the least from which their axis is logarithmic


@dataclass(frozen=True)
class Point:
    """A member: the swept number, and where it is drawn."""

    number: float
    x: float
    y: float


def picture(record: Mapping[str, Any], folder: Path) -> list[str]:
    """Write the picture into the folder; returns its path, or nothing where there is none to draw.

    Args:
        record: what ``sweep.json`` holds.
        folder: where to write.
    """
    name = swept_number(record["grid"])
    if name is None:
        return []
    with style():
        drawn = rate_distortion(record) if name == "beta" else bound(record, name)
        return [] if drawn is None else [str(save(drawn, folder).path)]


def swept_number(grid: Mapping[str, Sequence[Any]]) -> str | None:
    """The number that is drawn against: beta, else the first that is no seed; None without.

    >>> swept_number({"latent_dim": [2, 4], "beta": [1.0, 2.0], "seed": [0, 1]}), swept_number({"seed": [0, 1]})
    ('beta', None)
    """
    numbers = [
        name
        for name, values in grid.items()
        if name != "seed" and all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in values)
    ]
    return "beta" if "beta" in numbers else next(iter(numbers), None)


def lines_of(record: Mapping[str, Any], name: str, x: str, y: str) -> dict[str, list[Point]]:
    """The finished members that have both numbers, by what else was swept, from the least to the largest of `name`.

    Args:
        record: what ``sweep.json`` holds.
        name: the swept number.
        x: what is drawn to the right: a key of a member's numbers, or nothing for the swept number itself.
        y: what is drawn upwards.
    """
    lines: dict[str, list[Point]] = {}
    for each in record["members"]:
        numbers = measured(each, record["measured_on"])
        at = each["values"][name]
        right, up = numbers.get(x) if x else at, numbers.get(y)
        if each["status"] != FINISHED or right is None or up is None:
            continue
        others = [(key, value) for key, value in each["values"].items() if key not in (name, "seed")]
        label = ", ".join(f"{key.replace('_', ' ')} {value_text(value)}" for key, value in others)
        lines.setdefault(label, []).append(Point(at, right, up))
    return {label: sorted(points, key=lambda point: point.number) for label, points in lines.items()}


def means(points: Sequence[Point]) -> list[Point]:
    """The mean of the members of each number.

    >>> means([Point(1.0, 2.0, 4.0), Point(1.0, 4.0, 4.0), Point(2.0, 1.0, 0.0)])
    [Point(number=1.0, x=3.0, y=4.0), Point(number=2.0, x=1.0, y=0.0)]
    """
    found = []
    for number in dict.fromkeys(point.number for point in points):
        same = [point for point in points if point.number == number]
        found.append(Point(number, sum(p.x for p in same) / len(same), sum(p.y for p in same) / len(same)))
    return found


def rate_distortion(record: Mapping[str, Any]) -> Drawn | None:
    """Rate against distortion: a line through the means by beta, a dot for each member; None without a rate."""
    lines = lines_of(record, "beta", "rate_nats", "distortion_nats")
    if not lines:
        return None
    figure = new_figure(_WIDTH, _HEIGHT)
    axes = figure.add_axes((0.105, 0.125, 0.865, 0.735))
    _draw(axes, lines)
    axes.margins(0.12)
    axes.set_xlim(left=max(axes.get_xlim()[0], -0.03 * axes.get_xlim()[1]))  # there are no negative rates
    axes.set_xlabel("rate, nats per image")
    axes.set_ylabel("distortion, nats per image")
    _equal_bounds(axes)
    for betas, (x, y) in named_places(means(next(iter(lines.values()))), axes):
        axes.annotate(f"β {betas}", (x, y), (8, 7), textcoords="offset points", size=8.5, color=INK, zorder=5)
    title = "Rate and distortion by beta"
    _say(figure, axes, title, record, lines, [Line2D([], [], color=RULE, label="equal rate + distortion")])
    caption = (
        f"What the latents tell of an image against how badly it is predicted from them, on {record['measured_on']} images. "
        "A dot is a model, a line goes through the means over seeds; on a grey line the bound is the same, and nearer the "
        "lower left corner it is better."
    )
    return Drawn("rate-distortion", figure, title, caption)


def named_places(points: Sequence[Point], axes: Axes) -> list[tuple[str, tuple[float, float]]]:
    """The numbers of points, each at its place; of those that would be written over each other, joined at the first's."""
    found: list[tuple[list[str], Point]] = []
    for point in points:
        pixels = axes.transData.transform([(p.x, p.y) for p in (*(last for _, last in found[-1:]), point)])
        if found and float(np.abs(pixels[0] - pixels[-1]).max()) < _CLOSE:
            found[-1][0].append(value_text(point.number))
        else:
            found.append(([value_text(point.number)], point))
    return [(", ".join(names), (point.x, point.y)) for names, point in found]


def bound(record: Mapping[str, Any], name: str) -> Drawn | None:
    """The ELBO against a swept number: a line through the means, a dot for each member; None without a bound."""
    lines = lines_of(record, name, "", "elbo_nats")
    if not lines:
        return None
    figure = new_figure(_WIDTH, _HEIGHT)
    axes = figure.add_axes((0.105, 0.125, 0.865, 0.735))
    _draw(axes, lines)
    axes.margins(0.12)
    values = sorted({point.number for points in lines.values() for point in points})
    if values[0] > 0 and values[-1] / values[0] >= _WIDE:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(values, [value_text(value) for value in values])
    axes.set_xlabel(name.replace("_", " "))
    axes.set_ylabel("ELBO, nats per image")
    title = f"The bound by {name.replace('_', ' ')}"
    _say(figure, axes, title, record, lines, [])
    caption = f"The ELBO on {record['measured_on']} images; a dot is a model, a line goes through the means over seeds."
    return Drawn(f"bound-by-{name.replace('_', '-')}", figure, title, caption)


def _draw(axes: Axes, lines: Mapping[str, Sequence[Point]]) -> None:
    for place, points in enumerate(lines.values()):
        colour, marker = PALETTE[place % _MOST_LINES], MARKERS[place % len(MARKERS)]
        through = means(points)
        axes.plot([p.x for p in through], [p.y for p in through], color=colour, linewidth=1.6, zorder=3)
        several = len(through) < len(points)
        axes.plot(
            [p.x for p in through],
            [p.y for p in through],
            marker,
            color="white" if several else colour,
            markeredgecolor=colour,
            markeredgewidth=1.5,
            markersize=7,
            zorder=4,
        )
        if several:
            axes.plot([p.x for p in points], [p.y for p in points], marker, color=colour, markersize=3.2, zorder=5)


def _equal_bounds(axes: Axes) -> None:
    """Faint lines along which rate and distortion have one sum, within the axes as they are."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for total in np.linspace(left + bottom, right + top, 9)[1:-1]:
        axes.plot([left, right], [total - left, total - right], color=RULE, linewidth=0.9, zorder=1)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.grid(False)


def _say(figure: Any, axes: Axes, title: str, record: Any, lines: Mapping[str, Any], more: list[Line2D]) -> None:
    """Title, what was measured, and a legend."""
    seeds = len(record["grid"].get("seed", [None]))
    what = f"{record['measured_on']} images" + (
        f"; lines join means over {seeds} seeds, a dot is a model" if seeds > 1 else ""
    )
    figure.text(20 / _WIDTH, 1 - 42 / _HEIGHT, title, size=11, weight="bold", va="center")
    figure.text(20 / _WIDTH, 1 - 84 / _HEIGHT, what, size=9, color=FAINT, va="center")
    named = [label for label in lines if label]
    handles = [
        Line2D([], [], color=PALETTE[place % _MOST_LINES], marker=MARKERS[place % len(MARKERS)], label=label)
        for place, label in enumerate(lines)
        if named
    ]
    if handles or more:
        axes.legend(handles=[*handles, *more], loc="best")
