"""The one visual style of all figures, and how a figure becomes a file."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import TextToPath

from vaekit.figures.basics import FigureFile
from vaekit.figures.fonts import MAIN, families
from vaekit.runs import write_atomically

DPI = 192  # two pixels for each CSS pixel: sharp on dense screens, and text has one size in every figure
PAGE = 1800  # widest figure in pixels: 900 CSS pixels, the width of the report
INK, FAINT, RULE = "#1b1f24", "#5b6470", "#d5dae0"
TRAIN, HELD_OUT = "#0072B2", "#D55E00"
# Okabe and Ito's colours, distinct to colour-blind eyes (yellow darkened to show on white), and two more
PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00",
    "#56B4E9", "#A89600", "#000000", "#8E8E8E", "#6A2E9A",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")

_STYLE: dict[Any, Any] = {
    "font.family": [MAIN],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.usetex": False,
    "text.parse_math": False,  # a class may be called "$5"
}


@dataclass(frozen=True)
class Drawn:
    """A picture in memory; `name` becomes its file name."""

    name: str
    figure: Figure
    title: str
    caption: str


@contextmanager
def style(names: Iterable[str] = ()) -> Iterator[None]:
    """Within it, figures are made and written in the style, whatever the user's own matplotlib settings.

    Args:
        names: texts of the data's own, such as class names; fonts are chosen that can draw them.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        matplotlib.rcParams["font.family"] = families(names)
        yield


def new_figure(width: int, height: int) -> Figure:
    """An empty white figure of so many pixels."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


class _Pixels(Artist):
    """Pixels drawn as they are; `Figure.figimage` resamples them, which takes long and shifts rows of large pictures."""

    def __init__(self, rgba: np.ndarray, left: int, bottom: int):
        super().__init__()
        self.rgba, self.left, self.bottom = rgba, left, bottom
        self.set_zorder(0)

    def draw(self, renderer: RendererBase) -> None:
        context = renderer.new_gc()
        renderer.draw_image(context, self.left, self.bottom, self.rgba)
        context.restore()


def blit(figure: Figure, pixels: np.ndarray, left: int, bottom: int) -> None:
    """Put uint8 pixels (height, width, 3) into a figure, their lower left corner at pixel (left, bottom)."""
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    figure.add_artist(_Pixels(np.ascontiguousarray(rgba[::-1]), left, bottom))


def text_width(text: str, size: float = 9.5, weight: str = "normal") -> int:
    """Width of a text in pixels."""
    chosen = matplotlib.rcParams["font.family"]
    font = FontProperties(family=chosen if MAIN in chosen else MAIN, size=size, weight=weight)
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, False)
    return int(width * DPI / 72) + 1


def shorten(text: str, length: int = 18) -> str:
    """`text`, cut with an ellipsis where it is longer than `length`."""
    return text if len(text) <= length else text[: length - 1] + "…"


def png(figure: Figure) -> bytes:
    """The figure as PNG bytes that follow from its content alone."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def save(drawn: Drawn, folder: Path, renamed: Collection[str] = ()) -> FigureFile:
    """Write a picture into `folder`, atomically; its caption tells of names in it that stand for others."""
    path = folder / f"{drawn.name}.png"
    write_atomically(path, png(drawn.figure))
    caption = drawn.caption
    texts = {text.get_text().strip() for text in drawn.figure.findobj(Text)} if renamed else set()  # type: ignore[arg-type]
    if texts & set(renamed):
        caption += " Classes whose names no font on this machine can draw are called by their numbers."
    return FigureFile(path, drawn.title, caption)
