"""How the rate is shared out among the latents."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vaekit.evaluation.likelihood import ACTIVE_VARIANCE
from vaekit.figures.style import HELD_OUT, PAGE, RULE, TRAIN, Drawn, new_figure
from vaekit.figures.subject import Subject

_NUMBERED = 40  # up to so many latents each bar is named
_SLOTS = 10
_IDLE = "#b9c0c8"


def rate_bars(subject: Subject) -> Drawn | None:
    """Rate of each latent from the highest, and what they add up to; None with one latent or without such rates."""
    codes = subject.codes
    if codes.rates is None or len(codes.rates) < 2:
        return None
    order, active = codes.order, codes.active
    rates, total = codes.rates[order], float(codes.rates.sum())
    count = len(rates)
    share = np.cumsum(rates) / total if total > 0 else np.ones(count)

    title = f"Rate of each of {count} latents"
    figure = new_figure(PAGE, 620)
    axes = figure.add_axes((0.07, 0.16, 0.865, 0.66))
    places = np.arange(count)
    colours = [TRAIN if active[latent] else _IDLE for latent in order]
    axes.bar(places, rates, width=0.8 if count <= 100 else 1.0, color=colours, zorder=2)
    spare = max(0, _SLOTS - count) / 2  # few bars stay slim, in the middle
    axes.set_xlim(-0.7 - spare, count - 0.3 + spare)
    axes.set_ylabel("nats per image")
    if count <= _NUMBERED:
        axes.set_xticks(places, [str(latent + 1) for latent in order])
        axes.set_xlabel("latent, by its number, in order of rate")
    else:
        axes.set_xlabel("latents in order of rate")
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(5))

    sums = axes.twinx()
    sums.plot(places, share, color=HELD_OUT, marker="o" if count <= _NUMBERED else None, markersize=3.5, zorder=3)
    sums.set_ylim(0, 1.04)
    sums.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    sums.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    sums.grid(False)
    sums.spines["right"].set_visible(True)
    sums.spines["right"].set_color(RULE)
    sums.tick_params(colors=HELD_OUT, length=0)
    figure.text(12 / PAGE, 0.95, title, size=11, weight="bold", va="center")
    idle = count - int(active.sum())
    swatches = [
        Patch(color=TRAIN, label=f"active: {count - idle} of {count}"),
        *([Patch(color=_IDLE, label=f"not active: {idle}")] if idle else []),
        Line2D([], [], color=HELD_OUT, label="share of the whole rate, added up from the left"),
    ]
    axes.legend(handles=swatches, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.4, borderpad=0)

    most = int(np.searchsorted(share, 0.9) + 1)
    caption = (
        f"What each latent tells of an image, KL(q‖p) in nats, averaged over {codes.num_rated:,} {subject.split} "
        f"images; together {total:.2f} nats. "
    )
    if active.any():
        caption += f"{most} latent{'s' * (most != 1)} hold{'s' * (most == 1)} 90% of it. "
    caption += (
        f"A latent is called active when its posterior mean varies by more than {ACTIVE_VARIANCE:g} between images. "
    )
    if len(codes.sizes) > 1:
        caption += "Past the first level a mean also moves with the levels before it, whatever its own rate. "
    if idle:
        caption += (
            f"{'The others hold' if active.any() else 'All hold'} the same code for every image, so the decoder learns "
        )
        caption += "nothing of an image from them; at a rate of zero the posterior has collapsed onto the prior."
    else:
        caption += "All are in use here: more latents might lower the distortion."
    return Drawn("rate", figure, title, caption)
