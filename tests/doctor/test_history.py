"""Illnesses that the epochs' records show, on records written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from vaekit.doctor.history import steady, symptoms
from vaekit.settings import Config, configure

CONFIG = configure("mlp", epochs=6)


def records(train: list[float], val: list[float] | None = None, rate: float = 20.0, **more: list[float]) -> Any:
    """Records of ELBOs, the loss their negative."""
    return [
        {
            "epoch": epoch,
            "learning_rate": 1e-3,
            "train": {"loss": -elbo, "elbo_nats": elbo, "rate_nats": rate},
            "val": None if val is None else {"loss": -val[epoch - 1], "elbo_nats": val[epoch - 1], "rate_nats": rate},
            **{name: values[epoch - 1] for name, values in more.items()},
        }
        for epoch, elbo in enumerate(train, 1)
    ]


def names(found: Any, config: Config = CONFIG, finished: bool = True) -> dict[str, str]:
    return {finding.name: finding.severity for finding in symptoms(found, config, finished)}


RISING = [-200.0, -130.0, -115.0, -108.0, -104.0, -100.0]
WELL = [-150.0, -125.0, -114.0, -109.0, -106.0, -104.5]


def test_a_healthy_history_has_no_symptom():
    assert names(records(RISING, WELL)) == {}
    assert names(records(RISING)) == {}
    assert names([]) == {}


def test_a_validation_bound_that_falls_while_training_rises():
    falling = [-150.0, -125.0, -114.0, -117.0, -120.0, -124.0]
    assert names(records(RISING, falling)) == {"over-fitting": "warning"}
    assert names(records(RISING, falling), configure("mlp", select_best=False)) == {"over-fitting": "illness"}
    (finding,) = symptoms(records(RISING, falling), CONFIG, True)
    assert finding.concerns == "epochs 4-6"
    assert "best at epoch 3 with -114.00 nats and stood at -124.00 at epoch 6" in finding.evidence
    assert "from -115.00 to -100.00" in finding.evidence


@pytest.mark.parametrize(
    "val",
    [
        [-150.0, -125.0, -114.0, -113.4, -113.9, -114.0],  # within one percent of the best
        [-150.0, -120.0, -112.0, -118.0, -110.0, -113.0],  # no more than it moves up and down
    ],
)
def test_a_fall_within_the_noise_is_none(val: list[float]):
    assert names(records([-200.0, -130.0, -115.0, -110.0, -108.0, -107.0], val)) == {}


def test_both_bounds_falling_is_no_over_fitting():
    found = names(
        records([-200.0, -130.0, -115.0, -117.0, -119.0, -121.0], [-150.0, -125.0, -114.0, -119.0, -121.0, -124.0])
    )
    assert "over-fitting" not in found


def test_a_gap_is_seen_with_densities_around_zero_too():
    train = [-900.0, -300.0, 0.0, 200.0, 300.0, 350.0]
    assert names(records(train, [-850.0, -310.0, -30.0, 160.0, 240.0, 250.0])) == {}
    assert names(records(train, [-850.0, -310.0, -80.0, 0.0, 5.0, 10.0])) == {"over-fitting": "warning"}


def test_a_loss_that_jumps():
    back = [-200.0, -130.0, -115.0, -150.0, -116.0, -110.0]
    assert names(records(back)) == {"learning-rate-high": "warning"}
    gone = [-200.0, -130.0, -115.0, -150.0, -170.0, -160.0]
    (finding,) = symptoms(records(gone), CONFIG, True)
    assert (finding.name, finding.severity, finding.concerns) == ("learning-rate-high", "illness", "epochs 4-6")
    assert "115.00 nats in epoch 3 and 170.00 in epoch 5" in finding.evidence
    assert "--learning-rate 0.002" in finding.remedy


@pytest.mark.parametrize(
    ("used", "distortions", "jumped"),
    [
        ([20, 7, 9, 117, 120, 121], [95.0, 88.0, 80.0, 76.0, 75.0, 74.0], False),
        ([20, 7, 9, 117, 120, 121], [95.0, 88.0, 80.0, 85.0, 75.0, 74.0], True),
        ([120, 120, 120, 120, 120, 120], [95.0, 88.0, 80.0, 76.0, 75.0, 74.0], True),
    ],
)
def test_codes_that_come_into_use_are_no_jump(used: list[int], distortions: list[float], jumped: bool):
    """Their rate rises until the prior over them has learned; a distortion that rises too, or a full book, is a jump."""
    found = records([-200.0, -130.0, -115.0, -150.0, -116.0, -110.0])
    for record, count, distortion in zip(found, used, distortions, strict=True):
        record["train"] |= {"used_codes": count, "distortion_nats": distortion}
    assert ("learning-rate-high" in names(found)) is jumped


def test_a_growing_beta_is_no_jump():
    found = records(RISING, beta=[0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    for record, loss in zip(found, (100.0, 110.0, 120.0, 130.0, 140.0, 139.0), strict=True):
        record["train"]["loss"] = loss
    assert names(found) == {}
    assert [record["epoch"] for record in steady(found)] == [5, 6]


def test_collapse_is_told_from_the_middle_on():
    assert names(records(RISING, WELL, rate=0.1)) == {"posterior-collapse": "illness"}
    assert names(records(RISING[:2], WELL[:2], rate=0.1), finished=False) == {}
    assert names(records(RISING[:3], WELL[:3], rate=0.1), finished=False) == {"posterior-collapse": "illness"}


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({}, "--beta-schedule linear"),
        ({"beta": 30}, "--beta 1 in place of 30"),
        ({"learning_rate": 0.5}, "--learning-rate 0.004 in place of 0.5"),
        ({"likelihood": "gaussian", "learn_sigma": False, "sigma": 1.0}, "--sigma 0.1 in place of 1"),
    ],
)
def test_the_remedy_of_a_collapse_follows_its_cause(settings: dict[str, Any], remedy: str):
    (finding,) = symptoms(records(RISING, rate=0.1), configure("mlp", **settings), True)
    assert remedy in finding.remedy
