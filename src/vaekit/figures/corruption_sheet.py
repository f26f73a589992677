"""Every corruption at three strengths, on the same images."""

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.corruptions.chain import Chain, with_strength
from vaekit.corruptions.table import Corruption
from vaekit.evaluation.restoration import as_target
from vaekit.figures.sheets import columns_that_fit, sheet
from vaekit.figures.style import Drawn
from vaekit.noise import Noise

_STRENGTHS: dict[str, tuple[float, float, float]] = {
    "blur": (2, 3, 5),
    "downsample": (2, 3, 5),
    "gaussian-blur": (0.7, 1.5, 3),
    "defocus": (1, 2, 4),
    "motion-blur": (4, 8, 14),
    "gaussian-noise": (0.1, 0.25, 0.5),
    "poisson-noise": (50, 12, 3),
    "speckle": (0.2, 0.5, 1),
    "salt-and-pepper": (0.05, 0.15, 0.4),
    "mask-pixels": (0.25, 0.5, 0.8),
    "mask-blocks": (0.15, 0.3, 0.6),
    "mask-stripes": (0.2, 0.4, 0.6),
    "low-light": (0.5, 0.25, 0.1),
    "jpeg": (50, 15, 4),
}
_CHAINS = (
    "gaussian-blur:0.7,gaussian-noise:0.05",
    "gaussian-blur:1,gaussian-noise:0.15",
    "downsample:2,gaussian-noise:0.15",
)


def corruption_sheet(images: Tensor, seed: int = 0) -> Drawn:
    """A row for each corruption: the images clean, then at three strengths.

    Args:
        images: float (n, channels, height, width) in [0, 1], n from 1 up; as many of them are shown as fit a page.
        seed: of the noise.
    """
    channels, height, width = images.shape[1:]
    images = images[: max(1, columns_that_fit((channels, height, width), "salt-and-pepper", 16, 3) // 4)]
    noise = Noise.from_seed(seed, len(images), "corruptions")
    rows: list[Tensor] = []
    labels: list[str] = []
    notes: dict[int, list[str]] = {}
    table: list[tuple[str, list[tuple[str, Corruption]]]] = [
        (name, [(f"{strength:g}", with_strength(name, strength)) for strength in strengths])
        for name, strengths in _STRENGTHS.items()
    ]
    table.append(("chain", [(place, Chain(text)) for place, text in zip("ABC", _CHAINS, strict=True)]))
    for name, steps in table:
        shown = [images, *(as_target(corruption(images, noise), images.shape) for _, corruption in steps)]
        words = ("clean", *(text for text, _ in steps))
        notes[len(rows)] = [text if place == 0 else "" for text in words for place in range(len(images))]
        rows.append(torch.cat(shown))
        labels.append(name)
    breaks = tuple(len(images) * step for step in (1, 2, 3))
    title = "Corruptions, each at three strengths"
    chains = ", ".join(f"{place}: {text}" for place, text in zip("ABC", _CHAINS, strict=True))
    caption = (
        "Each row is a corruption of the same images, from weak to strong; the number under the first is the strength, "
        f"and smaller images are shown enlarged. Chains join several: {chains}."
    )
    return Drawn(
        "corruptions", sheet(title, torch.stack(rows), labels, column_breaks=breaks, notes=notes), title, caption
    )
