"""What a reader of a report should know before trusting its numbers, said with the run's own numbers."""

# ruff: noqa: RUF001 - true minus and multiplication signs, for readers

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vaekit.config import flags
from vaekit.runs import Run

MEASURES = {
    "discrete": (
        "discrete",
        "The likelihood is a probability of the image's pixels, so these nats compare with those of any "
        "model of the same data.",
    ),
    "density": (
        "density",
        "The likelihood is a probability density over continuous pixels. It can exceed 1, so the NLL can be "
        "negative and the ELBO positive; compare it with densities on the same scale of pixels only. Bits per "
        "dimension, given where pixels are dequantized, are an upper bound on those of the grey levels.",
    ),
    "surrogate": (
        "surrogate",
        "The pixel cost is the cross-entropy between grey values and the decoder's output. It is a fine "
        "loss, but no likelihood of grey images: use it to compare models trained the same way, and not with "
        "published log-likelihoods of binary images.",
    ),
}


def number(value: float | None, digits: int = 2) -> str:
    """A number for readers: a true minus sign, thousands apart; a dash for what does not exist.

    >>> number(-1234.567), number(None), number(7)
    ('−1,234.57', '–', '7')
    """
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.{digits}f}".replace("-", "−")


def notes(run: Run, numbers: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Headline and explanation of each thing that matters for this run.

    Args:
        run: the run.
        numbers: of its evaluation, or of an epoch's validation.
        records: of its epochs.
    """
    rules = (_beta, _weights)
    return [note for rule in rules if (note := rule(run, numbers, records)) is not None]


Note = tuple[str, str] | None


def _beta(run: Run, numbers: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Note:
    beta = next((flag.value for flag in flags(run.config.objective) if flag.name == "beta"), None)
    rate, distortion = numbers.get("rate_nats"), numbers.get("distortion_nats")
    if beta is None or rate is None or distortion is None:
        return None
    latents = run.config.model.num_latents(run.info)
    if beta < 0.5:
        per_latent = rate / latents
        price = "nothing" if beta == 0 else f"{beta:.3g} of a nat of distortion"
        return (
            f"Beta is {beta:.3g}, so expect poorer samples from the prior than reconstructions.",
            f"In the loss a nat of rate cost only {price}, so the encoder spends {rate:.1f} nats on an "
            f"image, {per_latent:.1f} for each of {latents} latents: it could tell about e{_power(rate)} "
            "images apart. Each image then owns a small spot of the latent space, roughly a share "
            f"e{_power(-rate)} of the prior, and the decoder was never trained between the spots, where most "
            "prior samples fall. Reconstructions are good for the same reason. What training minimized is "
            f"distortion + beta × rate = {distortion + beta * rate:.2f}; the ELBO counts the rate in full: "
            f"−({distortion:.2f} + {rate:.2f}) = {number(-(distortion + rate))}.",
        )
    if beta > 2:
        return (
            f"Beta is {beta:.3g}, so the ELBO is not what was maximized.",
            f"A nat of rate cost {beta:.3g} nats in the loss, which keeps the rate down at {rate:.2f} and "
            f"blurs reconstructions (distortion {distortion:.2f}). The loss is "
            f"{distortion + beta * rate:.2f}, the ELBO {number(-(distortion + rate))}; a model with beta 1 "
            "should have the better ELBO.",
        )
    return None


def _power(value: float) -> str:
    """A whole exponent in superscript.

    >>> _power(-44.3)
    '⁻⁴⁴'
    """
    return f"{value:.0f}".translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))


def _weights(run: Run, numbers: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Note:
    effective, samples = numbers.get("effective_sample_size"), numbers.get("num_importance_samples")
    nll = numbers.get("nll_nats")
    if effective is None or nll is None or samples is None or samples < 10 or effective >= max(2.0, 0.05 * samples):
        return None
    return (
        "The NLL is an upper estimate.",
        f"Of {samples} importance samples only {effective:.1f} count on average (the effective sample size), "
        f"so one sample decides most of the estimate; with more samples the {nll:.2f} nats would still fall.",
    )
