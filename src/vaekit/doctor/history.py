"""What the epochs' records alone show: cheap enough to look at after each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from vaekit.config import flags
from vaekit.doctor.codebooks import codebook_collapse
from vaekit.doctor.findings import Finding, span
from vaekit.settings import Config

Records = Sequence[Mapping[str, Any]]

WARM_UP = "Let beta grow from 0: --beta-schedule linear --beta-warmup-epochs 5; and train longer with --epochs."
LEAST_RATE = 0.5  # nats: to tell two images apart takes log 2 = 0.69
_NO_HYPER = {"epoch", "step", "seconds", "images_per_second", "learning_rate", "train", "val"}
_DROP, _DROP_OF_GAIN = 0.01, 0.02  # of the best validation ELBO, and of all that training had gained on it
_GAP = 0.1
_RISE, _RISE_OF_LOSS = 0.1, 0.02


def symptoms(records: Records, config: Config, finished: bool) -> Iterator[Finding]:
    """Findings from the records of a run.

    Args:
        records: of `metrics.jsonl`, in order.
        config: the run's.
        finished: whether no epoch will follow; what could still mend itself is said only then.
    """
    rules = (_overfitting, _unstable)
    for rule in rules:
        yield from rule(records, config)
    halfway = bool(records) and records[-1]["epoch"] >= max(3.0, 0.5 * config.training.epochs)
    if finished or halfway:
        yield from codebook_collapse(records, config)
    rate = (records[-1]["val"] or records[-1]["train"]).get("rate_nats") if records else None
    if rate is not None and (finished or halfway) and rate < LEAST_RATE:
        yield collapse(rate, config)


def setting(config: Config, name: str) -> Any:
    """The value of a setting by its flat name, None where the configuration has no such setting."""
    return next((flag.value for flag in flags(config) if flag.name == name), None)


def collapse(rate: float, config: Config) -> Finding:
    """The latents carry nothing: the decoder ignores them, or training has not begun to use them."""
    beta, sigma = setting(config, "beta"), setting(config, "sigma")
    if setting(config, "learn_sigma") is False and sigma is not None and sigma > 0.2:
        remedy = f"Learn the standard deviation (--learn-sigma), or set it lower: --sigma 0.1 in place of {sigma:g}."
    elif beta is not None and beta > 1:
        remedy = f"Lower the price of the rate: --beta 1 in place of {beta:g}."
    elif config.training.learning_rate > 0.02:
        remedy = f"Lower the learning rate: --learning-rate 0.004 in place of {config.training.learning_rate:g}."
    else:
        remedy = WARM_UP
    return Finding(
        "posterior-collapse",
        "illness",
        f"The latents carry almost nothing: the rate is {rate:.2f} nats an image.",
        f"An encoder that says {rate:.2f} nats about an image cannot tell two images apart (that takes log 2 = 0.69), "
        "so the decoder draws nearly the same image for every code.",
        remedy,
        "all latents",
        {"rate_nats": rate},
    )


def _bounds(records: Records) -> list[tuple[int, float, float]]:
    """(epoch, training ELBO, validation ELBO) of the records that have both, while no schedule runs."""
    found = []
    for record in records:
        if record.get("schedule_runs"):
            continue
        train, val = record["train"].get("elbo_nats"), (record["val"] or {}).get("elbo_nats")
        if train is not None and val is not None and math.isfinite(train) and math.isfinite(val):
            found.append((record["epoch"], train, val))
    return found


def _overfitting(records: Records, config: Config) -> Iterator[Finding]:
    """The validation ELBO falls while the training ELBO rises, or stays far below it.

    A fall counts when it is more than 1% of the best validation ELBO, 2% of all that training had gained on it, and three
    times its usual change of direction from epoch to epoch in the second half of the run. The noise of validation is the
    same in every epoch. The training ELBO is a mean over the epoch, so that its lead is, if anything, underestimated.
    """
    bounds = _bounds(records)
    if len(bounds) < 2:
        return
    epochs, train, val = (list(column) for column in zip(*bounds, strict=True))
    best = max(range(len(val)), key=lambda i: (val[i], -i))
    late = val[len(val) // 2 - 1 :]
    turns = [abs(a - 2.0 * b + c) for a, b, c in zip(late, late[1:], late[2:], strict=False)]
    margin = max(_DROP * abs(val[best]), _DROP_OF_GAIN * (val[best] - val[0]), 3.0 * median(turns) if turns else 0.0)
    numbers = {"best_epoch": epochs[best], "best_elbo_nats": val[best], "last_elbo_nats": val[-1]}
    if val[best] - val[-1] > margin and train[-1] > train[best] and _loss_rose(records, epochs[best]):
        kept = config.training.select_best
        keeping = f"the weights of epoch {epochs[best]} were kept" if kept else "the last weights were kept"
        stop = "Stop there with --patience 5" if kept else "Keep the best weights with --select-best --patience 5"
        yield Finding(
            "over-fitting",
            "warning" if kept else "illness",
            f"Over-fitting: since epoch {epochs[best]} the validation ELBO falls while the training ELBO rises.",
            f"Validation was best at epoch {epochs[best]} with {val[best]:.2f} nats and stood at {val[-1]:.2f} at epoch "
            f"{epochs[-1]}; training went from {train[best]:.2f} to {train[-1]:.2f} in that time, and {keeping}.",
            f"{stop}; give more images, or a smaller network or fewer latents.",
            f"epochs {span(epochs[best + 1 :])}",
            numbers,
        )
        return
    gap = train[-1] - val[-1]
    if gap > _GAP * max(abs(val[-1]), train[-1] - train[0]):
        yield Finding(
            "over-fitting",
            "warning",
            f"The model knows its training images better than others, by {gap:.1f} nats.",
            f"In epoch {epochs[-1]} the training ELBO was {train[-1]:.2f} nats and the validation ELBO {val[-1]:.2f}.",
            "Give more images, or a smaller network or fewer latents; training longer would widen the gap.",
            f"epoch {epochs[-1]}",
            {**numbers, "gap_nats": gap},
        )


def _loss_rose(records: Records, epoch: int) -> bool:
    """Whether the validation loss, too, is worse at the end than in an epoch; True where the two do not compare.

    With a small beta the ELBO may fall for good reason: training trades rate, which costs it little, for distortion.
    """
    last = records[-1]
    then = next(record for record in records if record["epoch"] == epoch)
    if len(steady([then, last])) < 2:
        return True
    losses = [(record["val"] or {}).get("loss") for record in (then, last)]
    before, after = losses
    return before is None or after is None or after > before


def steady(records: Records) -> Records:
    """The last records whose losses compare: those under the same numeric settings of the objective, such as beta."""

    def hyper(record: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in record.items() if name not in _NO_HYPER}

    first = len(records)
    while first > 0 and hyper(records[first - 1]) == hyper(records[-1]):
        first -= 1
    return records[first:]


def _in_use(record: Mapping[str, Any]) -> int:
    """How many codes, of all books, were used in an epoch of training; 0 without books."""
    return sum(count for name, count in record["train"].items() if name.startswith("used_"))


def _unstable(records: Records, config: Config) -> Iterator[Finding]:
    """The training loss rises above its lowest by more than a tenth of what it had fallen, and 2% of itself.

    Under a schedule of beta only the epochs at its last value are compared; and the ELBO must have fallen as well, for a
    schedule inside an objective changes the loss alone. Where codes of a book came into use, their rate rises until the
    prior over them has learned, and that is no jump so long as the distortion falls.
    """
    records = steady(records)
    losses = [record["train"]["loss"] for record in records]
    distortions = [record["train"].get("distortion_nats", math.inf) for record in records]
    if len(losses) < 2 or not all(map(math.isfinite, losses)):
        return
    low = 0
    risen: list[int] = []
    for now, loss in enumerate(losses):
        if loss < losses[low]:
            low = now
            continue
        margin = max(_RISE * (losses[0] - losses[low]), _RISE_OF_LOSS * abs(losses[low]))
        bounds = [records[i]["train"].get("elbo_nats") for i in (low, now)]
        fell = None in bounds or bounds[1] < bounds[0]
        opened = _in_use(records[now]) > _in_use(records[low]) and distortions[now] < distortions[low]
        if now > low and loss - losses[low] > margin and fell and not opened:
            risen.append(now)
    if not risen:
        return
    worst = max(risen, key=lambda i: losses[i])
    before = min(range(worst), key=lambda i: losses[i])
    epochs = [records[i]["epoch"] for i in risen]
    lasting = risen[-1] == len(losses) - 1
    rate = config.training.learning_rate
    yield Finding(
        "learning-rate-high",
        "illness" if lasting else "warning",
        "The training loss jumped up" + (" and did not come back down." if lasting else " and came back down."),
        f"It was {losses[before]:.2f} nats in epoch {records[before]['epoch']} and {losses[worst]:.2f} in epoch "
        f"{records[worst]['epoch']}, at a learning rate of up to {rate:g}.",
        f"Lower the learning rate: --learning-rate {rate / 4:.2g}; or cut large gradients: --gradient-clip 100.",
        f"epochs {span(epochs)}",
        {"lowest_loss": losses[before], "highest_loss": losses[worst], "learning_rate": rate},
    )
