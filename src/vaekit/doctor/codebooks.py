"""Codebooks of which training uses a small part, told from the records alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vaekit.doctor.findings import Finding
from vaekit.settings import Config

_LEAST = 0.1  # of the codes, as perplexity; healthy runs of Fashion-MNIST and digits had 0.6 to 0.9
_PREFIX = "perplexity_"


def codebook_collapse(records: Sequence[Mapping[str, Any]], config: Config) -> Iterator[Finding]:
    """Codes that stand unused while a few say everything (Kaiser et al. 2018 call it index collapse).

    The perplexity is the number of codes, all alike in use, that would say as much as those that there are. Below a tenth of
    the book the rest of it is wasted: a smaller book would do, or this one could hold more of the image.
    """
    quantizer = getattr(config.model, "quantizer", None)
    if quantizer is None or not records:
        return
    latest = records[-1]["val"] or records[-1]["train"]
    size = quantizer.num_codes
    found = {name.removeprefix(_PREFIX): value for name, value in latest.items() if name.startswith(_PREFIX)}
    sick = {name: value for name, value in found.items() if value < max(_LEAST * size, 1.5)}
    if not sick:
        return
    each = "; ".join(
        f"{name.replace('_', ' ')}: {latest[f'used_{name}']:,} of {size:,} in use, perplexity {value:.1f}"
        for name, value in sick.items()
    )
    yield Finding(
        "codebook-collapse",
        "warning",
        "Codebook collapse: a few codes stand for almost everything.",
        f"In epoch {records[-1]['epoch']}, {each}.",
        _remedy(quantizer, max(sick.values()), config),
        ", ".join(name.replace("_", " ") for name in sick),
        {"num_codes": size, "perplexity": sick},
    )


def _remedy(quantizer: Any, perplexity: float, config: Config) -> str:
    if getattr(quantizer, "reset_dead_codes", True) is False:
        return "Let codes that are hardly chosen begin anew: --reset-dead-codes."
    decay = getattr(quantizer, "codebook_decay", None)
    if decay is not None and decay > 0.95:
        return f"Let codes follow the encoder faster: --codebook-decay 0.9 in place of {decay:g}."
    if hasattr(quantizer, "entropy_weight"):
        return f"Ask for all codes to be used: --entropy-weight {4 * max(quantizer.entropy_weight, 0.1):.2g}."
    lower = f"Lower the learning rate, --learning-rate {config.training.learning_rate / 4:.2g}"
    if hasattr(quantizer, "scalar_levels"):
        return f"{lower}, train longer, or take fewer levels: --scalar-levels."
    return f"{lower}, train longer, or take a smaller book: --num-codes {2 ** math.ceil(math.log2(2 * perplexity))}."
