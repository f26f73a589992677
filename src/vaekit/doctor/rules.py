"""What the measurements of a model show. The thresholds are stated with what healthy and sick runs were seen to have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from vaekit.doctor.evidence import Evidence, learned_sigma
from vaekit.doctor.findings import Finding, several
from vaekit.doctor.history import Records, steady
from vaekit.doctor.latents import prior_samples, unused_latents
from vaekit.probability.likelihoods import LIKELIHOODS

_DEAD, _FEWEST_UNITS = 0.97, 16
_MOVED, _LATE = 0.4, 0.3
_FEW_STEPS, _FEW_IMAGES = 100, 1000
_HOLD = "--likelihood gaussian --no-learn-sigma"


def dead_units(evidence: Evidence, records: Records) -> Iterator[Finding]:
    """ReLU units that are 0 for every image, and so learn no more.

    Many are dead in sound encoders, for few latents need few units: up to 89% of a layer in healthy runs of
    MNIST, digits and Fashion-MNIST. A layer with hardly a unit alive is another thing: learning rates of 0.1 and 0.3
    left 0% to 0.5%.
    """
    sick = [layer for layer in evidence.layers if layer.units >= _FEWEST_UNITS and layer.share >= _DEAD]
    if not sick:
        return
    worst = max(sick, key=lambda layer: layer.share)
    rate = evidence.config.training.learning_rate
    counts = "; ".join(f"{layer.name}: {layer.dead} of {layer.units}" for layer in sick)
    yield Finding(
        "dead-units",
        "illness",
        f"{worst.dead} of {worst.units} units of a layer are dead: 0 for every image.",
        f"ReLU units that none of {evidence.num_images} {evidence.split} images makes positive: {counts}.",
        f"Lower the learning rate, --learning-rate {min(rate / 4, 0.004):.2g} in place of {rate:g}, and warm it up longer: "
        "--warmup 0.1.",
        ", ".join(layer.name for layer in sick),
        {"layers": {layer.name: layer.share for layer in sick}},
    )


def slow_learning(evidence: Evidence, records: Records) -> Iterator[Finding]:
    """Learning rate too low, or too few steps.

    Two measures agree then. Weights are near where they began: within 0.4 of their initial size (healthy runs: 0.4 to 10).
    And a unit of learning rate, under whatever schedule, bought at least 0.3 as much in the second half of the run as in the
    first (healthy runs: 0.02 to 0.29; far too low a rate: 0.32 to 0.95, 1 being a straight line).
    """
    training, steps = evidence.config.training, records[-1]["step"] if records else 0
    longer = f"--learning-rate {4 * training.learning_rate:.2g}, or --epochs {4 * training.epochs:g}"
    moved, late = evidence.moved, late_progress(records)
    if moved is not None and late is not None and moved < _MOVED and late > _LATE:
        yield Finding(
            "learning-rate-low",
            "warning",
            "Training ended while the loss was still on its way: the learning rate is too low, or the steps too few.",
            f"{steps:,} steps at a learning rate of up to {training.learning_rate:g} moved the weights by {moved:.2f} of "
            f"their initial size, and a unit of learning rate bought {late:.2f} times as much in the second half of "
            "the run as in the first.",
            f"Take {longer}.",
            None,
            {"moved": moved, "late_progress": late, "steps": steps},
        )
    elif 0 < steps < _FEW_STEPS:
        yield Finding(
            "few-steps",
            "warning",
            f"The model was trained for {several(steps, 'step')} only.",
            f"{evidence.info.num_train:,} training images in batches of {training.batch_size} make "
            f"{evidence.info.num_train / training.batch_size:.3g} steps an epoch.",
            f"Train longer, --epochs {math.ceil(500 / steps * training.epochs)}"
            + (", or in smaller batches: --batch-size 32." if training.batch_size > 32 else "."),
            None,
            {"steps": steps},
        )


def late_progress(records: Records) -> float | None:
    """How much the loss fell for each unit of learning rate in the second half of a run, as a ratio to the first half."""
    records = steady(records)
    if len(records) < 4:
        return None
    losses, rates = [r["train"]["loss"] for r in records], [r["learning_rate"] for r in records]
    spent = [(a + b) / 2.0 for a, b in pairwise(rates)]
    half = len(records) // 2
    first, second = losses[0] - losses[half], losses[half] - losses[-1]
    if not (first > 0 and sum(spent[:half]) > 0 and sum(spent[half:]) > 0):
        return None
    return (second / sum(spent[half:])) / (first / sum(spent[:half]))


def likelihood(evidence: Evidence, records: Records) -> Iterator[Finding]:
    """Likelihood and pixels do not fit."""
    pixels, config, info = evidence.pixels, evidence.config, evidence.info
    chosen = config.model.likelihood
    name = LIKELIHOODS.name_of(chosen)
    binary = config.data.is_binary(info)
    if binary and chosen.measure(True) == "density":
        yield Finding(
            "likelihood-misfit",
            "illness",
            f"Likelihood {name!r} is a density over grey values, and every pixel is black or white.",
            "A density has no largest value at pixels that are exactly 0 or 1: the ELBO can grow without bound and says "
            "nothing about the images.",
            "Choose a probability of black and white: --likelihood bernoulli.",
        )
        return
    if name == "bernoulli" and not binary and pixels.grey > 0.6:
        other = "optimal-gaussian" if "optimal-gaussian" in LIKELIHOODS else "gaussian"
        yield Finding(
            "likelihood-misfit",
            "warning",
            "A Bernoulli likelihood scores pixels that are far from black and white.",
            f"{100 * pixels.grey:.0f}% of the values lie between 0.1 and 0.9, so that {pixels.entropy:.0f} nats of the "
            "distortion are the cross-entropy of grey values with themselves, which no decoder can lower, and which hide "
            "what it does learn.",
            f"Choose a likelihood of grey values: --likelihood {other}.",
            None,
            {"grey": pixels.grey, "entropy_nats": pixels.entropy},
        )
    yield from _sigma(evidence)
    if pixels.sigma is not None and pixels.beyond > 0.05:
        yield Finding(
            "out-of-range",
            "remark",
            "The decoder's means leave the range of pixels.",
            f"{100 * pixels.beyond:.0f}% of them are below -0.1 or above 1.1; pictures show them cut.",
            "Train longer, or choose a likelihood that keeps to the range: --likelihood bernoulli.",
            None,
            {"beyond": pixels.beyond},
        )
    if name in ("gaussian", "optimal-gaussian") and "laplace" in LIKELIHOODS:
        # the best Gaussian and the best Laplace of these residuals, in nats a pixel
        gain = math.log(max(pixels.rmse, 1e-9) / max(pixels.mae, 1e-9)) + 0.5 * math.log(0.5 * math.pi / math.e)
        if gain > 0.1:
            yield Finding(
                "heavy-tails",
                "remark",
                "A Laplace likelihood would fit the errors better: most are tiny and a few are large.",
                f"The root of the mean squared error is {pixels.rmse:.3f} and the mean absolute error {pixels.mae:.3f}; the "
                f"best Laplace density of these errors is {gain * pixels.size:.0f} nats an image above the best Gaussian.",
                "Try --likelihood laplace.",
                None,
                {"rmse": pixels.rmse, "mae": pixels.mae, "gain_nats": gain * pixels.size},
            )


def _sigma(evidence: Evidence) -> Iterator[Finding]:
    """The standard deviation of pixels against the errors that there are: equal at the best likelihood."""
    pixels, learned = evidence.pixels, learned_sigma(evidence.config)
    if pixels.sigma is None or pixels.rmse == 0:
        return
    ratio = pixels.sigma / pixels.rmse
    numbers = {"sigma": pixels.sigma, "rmse": pixels.rmse}
    said = f"Sigma is {pixels.sigma:.3g}, and the errors have a root mean square of {pixels.rmse:.3g} on "
    said += f"{evidence.num_images} {evidence.split} images"
    if learned and pixels.sigma < 1.0 / 255.0:
        whole = evidence.info.whole and "discretized-logistic" in LIKELIHOODS
        yield Finding(
            "variance-floor",
            "illness",
            "The decoder's variance collapses: sigma is below one grey level.",
            f"{said}. Below 1/255 = 0.0039 a density rewards pixels that are rounded, not a better model, and has no upper "
            "bound.",
            "Score grey levels (--likelihood discretized-logistic)" if whole else f"Hold it: {_HOLD} --sigma 0.02.",
            None,
            numbers,
        )
        return
    if 0.5 <= ratio <= 2.0:
        return
    loss = pixels.size * (math.log(ratio) + 0.5 / ratio**2 - 0.5)
    size = "small" if ratio < 1 else "large"
    if learned:
        remedy = (
            "Sigma is learned and still on its way down: train longer (--epochs)."
            if ratio > 1
            else f"Sigma is that of training images, which are known by heart: give more of them, or hold it ({_HOLD})."
        )
    else:
        remedy = f"Learn it (--learn-sigma), or set --sigma {pixels.rmse:.2g}."
    yield Finding(
        "sigma-misfit",
        "warning" if learned or 0.25 <= ratio <= 4.0 else "illness",
        f"The likelihood's sigma is {max(ratio, 1 / ratio):.1f} times too {size} for the errors there are.",
        f"{said}; the mismatch costs {loss:.0f} nats an image, and weighs distortion against rate as if beta were "
        f"{ratio**2:.2g} times as large.",
        remedy,
        None,
        numbers,
    )


def restoration(evidence: Evidence, records: Records) -> Iterator[Finding]:
    """Restored images that are worse than the corrupted ones."""
    if evidence.restored is None or evidence.restored[0] >= evidence.restored[1]:
        return
    after, before = evidence.restored
    yield Finding(
        "restoration",
        "warning",
        "Restoring loses more than it mends.",
        f"Against the clean images, restored {evidence.split} images are at {after:.2f} dB PSNR and the corrupted inputs at "
        f"{before:.2f} dB: by squared error, leaving them as they are is better.",
        "Take more latents (--latent-dim), a lower --beta, or more --epochs.",
        None,
        {"psnr_db": after, "input_psnr_db": before},
    )


def data(evidence: Evidence, records: Records) -> Iterator[Finding]:
    """Too few images, or none to validate on."""
    info, config = evidence.info, evidence.config
    if records and not any(record["val"] for record in records):
        yield Finding(
            "no-validation",
            "remark",
            "No images were held out for validation.",
            "The weights are those of the last epoch, over-fitting cannot be seen, and figures and this examination use "
            "training images; vaekit evaluate measures on test images.",
            f"Hold some out with --validation {max(1, min(5000, info.num_train // 10))}, unless all are meant for training.",
        )
    if info.num_train < _FEW_IMAGES:
        yield Finding(
            "few-images",
            "remark",
            f"There are {info.num_train:,} training images only.",
            f"{several(config.model.num_latents(info), 'latent')} and a decoder can learn so few images by heart.",
            "Give more images, or keep the network small and the best weights: --select-best, with --validation above 0.",
            None,
            {"num_train": info.num_train},
        )
    if config.training.batch_size > info.num_train / 4:
        yield Finding(
            "large-batch",
            "remark",
            f"An epoch has {several(max(info.num_train // config.training.batch_size, 1), 'step')} only.",
            f"A batch of {config.training.batch_size} is a large part of {info.num_train:,} training images.",
            f"Take smaller batches: --batch-size {max(1, min(32, info.num_train // 8))}.",
        )


RULES = (unused_latents, prior_samples, likelihood, dead_units, slow_learning, restoration, data)
