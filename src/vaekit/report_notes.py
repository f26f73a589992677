"""What a reader of a report should know before trusting its numbers, said with the run's own numbers."""

# ruff: noqa: RUF001 - true minus and multiplication signs, for readers

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vaekit.config import flags
from vaekit.figures.basics import best_epoch
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
        "negative and the ELBO positive; compare it with densities on the same scale of pixels only.",
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
    rules = (_beta, _collapse, _unused, _weights, _restoration, _overfitting, _no_validation)
    return [note for rule in rules if (note := rule(run, numbers, records)) is not None]


Note = tuple[str, str] | None


def _beta(run: Run, numbers: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Note:
    beta = next((flag.value for flag in flags(run.config.objective) if flag.name == "beta"), None)
    rate, distortion = numbers.get("rate_nats"), numbers.get("distortion_nats")
    if beta is None or rate is None or distortion is None:
        return None
    latents = run.config.model.latent_dim
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


def _collapse(run: Run, numbers: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Note:
    rate = numbers.get("rate_nats")
    if rate is None or rate >= 0.5:
        return None
    return (
        f"The latents are almost unused: the rate is {rate:.2f} nats.",
        f"An encoder that says {rate:.2f} nats about an image can hardly tell two images apart (that takes "
        "log 2 = 0.69), so the decoder draws nearly the same image for every code. Train longer, lower beta, "
        "or let beta grow from 0 with --beta-schedule linear.",
    )


def _unused(run: Run, numbers: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Note:
    active, latents = numbers.get("active_units"), numbers.get("latent_dim")
    if active is None or latents is None or active == latents:
        return None
    return (
        f"{active} of {latents} latents are in use.",
        f"The posterior means of the other {latents - active} hardly change from image to image: they cost "
        "no rate and carry nothing. That is normal where there are more latents than the model finds worth "
        "their rate, and does no harm.",
    )


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


def _restoration(run: Run, numbers: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Note:
    after, before = numbers.get("psnr_db"), numbers.get("input_psnr_db")
    if after is None or before is None or after >= before:
        return None
    return (
        "Restoring loses more than it mends.",
        f"The restored images are at {after:.2f} dB PSNR and the corrupted inputs at {before:.2f} dB: by "
        "squared error, leaving the images as they are is better.",
    )


def _overfitting(run: Run, numbers: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Note:
    best = best_epoch(list(records))
    if best is None:
        return None
    last = records[-1]
    top = next(r for r in records if r["epoch"] == best)["val"]["elbo_nats"]
    end = last["val"]["elbo_nats"]
    if end is None or not math.isfinite(end) or top - end <= 0.01 * abs(top):
        return None
    before = next(r for r in records if r["epoch"] == best)["train"]["elbo_nats"]
    improved = before is not None and (now := last["train"]["elbo_nats"]) is not None and now > before
    heart = " while it rose on the training images: the model was learning those by heart" if improved else ""
    kept = (
        f"The weights of epoch {best} were kept."
        if run.config.training.select_best
        else "The last weights were kept all the same, as this configuration asks (--select-best false)."
    )
    return (
        "Training went on past the best epoch.",
        f"The validation ELBO was best at epoch {best} with {number(top)} nats and had fallen to "
        f"{number(end)} by epoch {last['epoch']}{heart}. {kept}",
    )


def _no_validation(run: Run, numbers: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Note:
    if not records or any(record["val"] for record in records):
        return None
    return (
        "No images were held out for validation.",
        "The weights are those of the last epoch, and nothing was selected by. Overfitting cannot be seen in "
        "the curves, and the figures show training images; vaekit evaluate measures on test images.",
    )
