"""What the throughput benchmark makes of its timings: speeds, ratios, a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

BASE = "vaekit"
FLOAT32 = "vaekit-float32"
TOLERANCE_NATS = 0.3  # published single runs differ by about as much from seed to seed


class BenchmarkError(Exception):
    """What stops the benchmark, in one sentence."""


@dataclass(frozen=True)
class Timing:
    """One process.

    Attributes:
        seconds: from start to exit, by the parent's clock.
        cpu_seconds: processor time, user and system; far more or less than usual tells of a disturbed run.
        images_trained: images through training steps, over all epochs.
        peak_memory_mib: largest resident set.
        test_loss_nats: -ELBO on the test images, nats per image.
    """

    seconds: float
    cpu_seconds: float
    images_trained: int
    peak_memory_mib: float
    test_loss_nats: float


def throughput(low: Timing, high: Timing) -> float | None:
    """Extra images over extra seconds; None when the longer process took no longer (runs far too short)."""
    seconds = high.seconds - low.seconds
    return (high.images_trained - low.images_trained) / seconds if seconds > 0 else None


def summary(values: Sequence[float | None]) -> dict[str, float] | None:
    """Median, least and greatest; None when there is none, or one could not be measured."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return {"median": statistics.median(known), "min": min(known), "max": max(known)}


def ratios(base: Sequence[float | None], peer: Sequence[float | None]) -> list[float | None]:
    """base / peer, round by round."""
    return [None if a is None or b is None else a / b for a, b in zip(base, peer, strict=True)]


def check_parameters(facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to compare different networks.

    Raises:
        BenchmarkError: when parameter counts differ.
    """
    counts = {system: fact["parameters"] for system, fact in facts.items()}
    if len(set(counts.values())) > 1:
        raise BenchmarkError(f"the systems do not train the same network; parameters: {counts}")


def summarize(rounds: Mapping[str, Sequence[Mapping[str, Timing]]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Medians and ranges of every system, ratios of vaekit to each peer, the precision check where run."""
    speeds = {
        system: [throughput(pair["low"], pair["high"]) for pair in pairs]
        for system, pairs in rounds.items()
        if system != FLOAT32
    }
    systems = {
        system: {
            **facts[system],
            "images_per_second": summary(speeds.get(system, [])),
            "peak_memory_mib": summary([pair["high"].peak_memory_mib for pair in pairs]),
            "test_loss_nats": summary([pair["high"].test_loss_nats for pair in pairs]),
            "rounds": [
                {
                    **({"images_per_second": speeds[system][i]} if system in speeds else {}),
                    **{key: asdict(timing) for key, timing in pair.items()},
                }
                for i, pair in enumerate(pairs)
            ],
        }
        for system, pairs in rounds.items()
    }
    found: dict[str, Any] = {"systems": systems, "ratios": {}}
    for peer in speeds:
        if BASE in speeds and peer != BASE:
            by_round = ratios(speeds[BASE], speeds[peer])
            found["ratios"][peer] = {"by_round": by_round, "median": None, **(summary(by_round) or {})}
    if FLOAT32 in rounds and BASE in rounds:
        found["precision_check"] = precision_check(
            [pair["high"].test_loss_nats for pair in rounds[BASE]],
            [pair["high"].test_loss_nats for pair in rounds[FLOAT32]],
        )
    return found


def precision_check(default: Sequence[float], float32: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds of the default's test loss less float32's, nats per image, against the tolerance."""
    differences = [a - b for a, b in zip(default, float32, strict=True)]
    mean = statistics.fmean(differences)
    return {
        "by_seed_nats": differences,
        "mean_nats": mean,
        "tolerance_nats": TOLERANCE_NATS,
        "passed": abs(mean) <= TOLERANCE_NATS,
    }


def table(found: Mapping[str, Any]) -> str:
    """The summary as text."""

    def cell(values: Mapping[str, float] | None, form: str) -> str:
        if values is None:
            return "-"
        median, least, most = (format(values[key], form) for key in ("median", "min", "max"))
        return f"{median} ({least} - {most})"

    lines = [f"{'system':<16}{'images/s':<28}{'peak memory MiB':<26}{'test loss, nats':<28}parameters"]
    for name, system in found["systems"].items():
        lines.append(
            f"{name:<16}{cell(system['images_per_second'], ',.0f'):<28}"
            f"{cell(system['peak_memory_mib'], ',.0f'):<26}"
            f"{cell(system['test_loss_nats'], '.2f'):<28}{system['parameters']:,}"
        )
    lines += [
        f"{BASE} / {peer}: {cell(ratio if ratio['median'] is not None else None, '.2f')}"
        for peer, ratio in found["ratios"].items()
    ]
    if check := found.get("precision_check"):
        verdict = ("within " if check["passed"] else "NOT within ") + str(check["tolerance_nats"])
        lines.append(f"default precision less float32: {check['mean_nats']:+.3f} nats, {verdict} nats")
    return "\n".join(lines)
