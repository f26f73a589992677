"""`anomaly`: how unlike a model's own images others are, with a threshold that keeps a stated rate of false alarms."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vaekit import generation
from vaekit.data.images import Images
from vaekit.errors import InputError
from vaekit.evaluation.likelihood import estimate
from vaekit.trained import Progress, Trained, silent

Score = Literal["bound", "reconstruction", "complexity-corrected"]
SCORES: tuple[Score, ...] = ("bound", "reconstruction", "complexity-corrected")
UNITS = {
    "bound": "nats: minus the importance-weighted bound on log p(x)",
    "reconstruction": "mean squared error of a pixel, grey values from 0 to 1",
    "complexity-corrected": "bits: minus the bound on log2 p(x), minus the size of the image as a PNG",
}
DEFAULT_SAMPLES = 20


@dataclass(frozen=True)
class Anomalies:
    """Scores of n images against those of m normal ones.

    Attributes:
        score: which score it is.
        scores: float64 (n,), higher is more anomalous; units are those of `UNITS`.
        p_values: float64 (n,), chance that a normal image scores as high or higher.
        threshold: the score that an image must exceed to be called anomalous.
        false_alarms: the rate of normal images above the threshold that it promises not to pass.
        num_normal: m.
    """

    score: Score
    scores: Tensor
    p_values: Tensor
    threshold: float
    false_alarms: float
    num_normal: int

    @property
    def anomalous(self) -> Tensor:
        """bool (n,)."""
        return self.scores > self.threshold

    @property
    def ranked(self) -> list[int]:
        """Rows of the images, the most anomalous first."""
        return self.scores.argsort(descending=True, stable=True).tolist()


def anomalies(
    trained: Trained,
    images: Images,
    normal: Images,
    score: Score | None = None,
    false_alarms: float = 0.01,
    num_samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    progress: Callable[[str, float], None] = lambda what, fraction: None,
) -> Anomalies:
    """Score images, and calibrate the scores on images that are known to be normal.

    Args:
        trained: a trained model; see `vaekit.load`.
        images: n images of the shape that the model reads.
        normal: m images that the model was not trained on, such as the run's validation images: their scores set the
            threshold, and those of training images would set it too low.
        score: one of `SCORES`; None is bound where the model has one, else reconstruction.
        false_alarms: of normal images, the rate that may exceed the threshold, between 0 and 1.
        num_samples: importance samples an image.
        seed: of the noise.
        progress: is told what is done, and the fraction.

    Raises:
        InputError: for a score that the model does not have, or too few normal images for this rate.

    >>> import tempfile, vaekit
    >>> from vaekit.data.splits import load_splits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = vaekit.train(folder + "/run", "mlp", data="digits", epochs=1)
    ...     trained, splits = vaekit.load(run.path), load_splits("digits", None)
    >>> found = vaekit.anomalies(trained, splits.test, splits.val, false_alarms=0.05)
    >>> found.score, found.num_normal, len(found.ranked)
    ('bound', 161, 179)
    """
    chosen = chosen_score(trained, score)
    check_rate(len(normal), false_alarms)
    known = scores_of(trained, normal, chosen, num_samples, seed, lambda done: progress("scoring normal images", done))
    found = scores_of(trained, images, chosen, num_samples, seed, lambda done: progress("scoring", done))
    limit, p_values = calibrated(found, known, false_alarms)
    return Anomalies(chosen, found, p_values, limit, false_alarms, len(known))


def chosen_score(trained: Trained, score: Score | None) -> Score:
    """The score to use: that asked for, or the best that a model has.

    Raises:
        InputError: for one that it does not have.
    """
    config, info = trained.config, trained.info
    trained.check_same("anomaly")
    bounded = "log_w" in trained.model.provides
    chosen = score or ("bound" if bounded else "reconstruction")
    if chosen != "reconstruction" and not bounded:
        raise InputError(f"--score {chosen}: the model has no bound on log p(x); choose reconstruction")
    if chosen == "complexity-corrected" and config.model.likelihood.measure(config.data.is_binary(info)) == "surrogate":
        raise InputError(
            "--score complexity-corrected: the run's likelihood is no probability of its grey pixels, so it has no bits; "
            "choose bound or reconstruction"
        )
    return chosen


def check_rate(num_normal: int, false_alarms: float) -> None:
    """Refuse a rate of false alarms that so few normal images cannot tell."""
    needed = math.ceil(1.0 / false_alarms - 1e-9) - 1
    if num_normal < needed:
        raise InputError(
            f"--false-alarms {false_alarms:g}: takes {needed:,} normal images or more, and there are {num_normal:,}; "
            "give more with --normal, or a higher rate"
        )


def calibrated(scores: Tensor, normal: Tensor, false_alarms: float) -> tuple[float, Tensor]:
    """The threshold for a rate of false alarms, and the p-value of each score.

        p(s) = (1 + number of normal scores >= s) / (1 + m)

    These are conformal p-values (Vovk, Gammerman and Shafer 2005; Bates et al. 2023, arXiv:2104.08279): for an image from
    where the normal ones are from, P(p <= a) <= a whatever the scores' distribution. The threshold is the lowest normal
    score above which p <= false_alarms.

    Args:
        scores: (n,).
        normal: (m,), with 1 / (1 + m) <= false_alarms.

    Returns:
        The threshold and p-values float64 (n,).

    >>> limit, p = calibrated(torch.tensor([0.5, 9.5, 20.0]), torch.arange(1.0, 20.0), 0.1)
    >>> limit, p.tolist()
    (18.0, [1.0, 0.55, 0.05])
    """
    ordered = normal.double().sort().values
    count = len(ordered)
    p_values = (1.0 + count - torch.searchsorted(ordered, scores.double()).double()) / (1.0 + count)
    above = math.floor(false_alarms * (count + 1) + 1e-9) - 1  # normal scores that may lie above the threshold
    return float(ordered[count - 1 - above]), p_values


def scores_of(
    trained: Trained, images: Images, score: Score, num_samples: int, seed: int = 0, progress: Progress = silent
) -> Tensor:
    """Scores float64 (n,), higher for less likely images; see `UNITS`.

    `complexity-corrected` is that of Serra et al. 2020 (arXiv:1909.11480), S(x) = -log2 p(x) - L(x), with L(x) the bits of
    the image as a PNG file: simple images are likely under any model, and are not held for normal because of it.
    """
    if score == "reconstruction":
        reader = _squared_error(trained)
        parts = list(trained.each(images, reader, 256, progress))
        return torch.cat(parts).double() if parts else torch.empty(0, dtype=torch.float64)
    known = _conditioned(trained, images)
    found = estimate(trained.model, trained.data, known.to(trained.device), num_samples, seed, progress=progress)
    assert found.log_p is not None
    if score == "bound":
        return -found.log_p
    return -found.log_p / math.log(2.0) - png_bits(images)


def _conditioned(trained: Trained, images: Images) -> Images:
    """The images with the condition that the model takes for theirs."""
    given = trained.condition(images)
    if given is None:
        return images
    if trained.model.num_classes is not None:
        return dataclasses.replace(images, labels=given)
    return dataclasses.replace(images, labels=None, attributes=given)


def _squared_error(trained: Trained) -> Callable[[Tensor, Tensor | None], Tensor]:
    def error(seen: Tensor, condition: Tensor | None) -> Tensor:
        made = generation.reconstruct(trained.model, seen, condition)
        return (made - seen).square().mean((1, 2, 3))

    return error


def png_bits(images: Images) -> Tensor:
    """Bits of each image as a PNG file, less those of a file of one black pixel, float64 (n,); channels one by one."""
    empty = _png_bytes(np.zeros((1, 1), np.uint8))
    bits = []
    for row in range(len(images)):
        pixels = images.unit(torch.tensor([row])).mul(255.0).round().byte()[0].numpy()
        # colours together compress better than apart; other numbers of channels PNG does not know
        planes: Sequence[np.ndarray] = [np.moveaxis(pixels, 0, 2)] if len(pixels) == 3 else list(pixels)
        bits.append(8.0 * sum(_png_bytes(plane) - empty for plane in planes))
    return torch.tensor(bits, dtype=torch.float64)


def _png_bytes(plane: np.ndarray) -> int:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(buffer, "PNG", optimize=True)
    return buffer.tell()
