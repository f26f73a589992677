"""Lists of settings, what is refused, what is written and shown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vaekit
from commands import good, refused
from vaekit.errors import InputError
from vaekit.runs import Run
from vaekit.settings import configure, preset
from vaekit.sweeps.figure import Point, lines_of, means, named_places, picture, rate_distortion, swept_number
from vaekit.sweeps.grid import members, parted, shared
from vaekit.sweeps.reporting import Together
from vaekit.sweeps.results import measured_on
from vaekit.training.reporting import Silent

Capture = pytest.CaptureFixture[str]
TINY = "--preset mlp --data digits --train-limit 200 --batch-size 50 --hidden 8 --epochs 1 --threads 1 --device cpu"
LISTS = "--beta 0.5,1,2 --seed 0,1"


def test_members_are_the_product_with_parsed_values() -> None:
    found = members("mlp", {"beta": ["0.5", "1"], "hidden": ["64", "200,100"], "select_best": ["true", "false"]}, {})
    assert [member.name for member in found][:3] == [
        "beta-0.5-hidden-64-select-best-true",
        "beta-0.5-hidden-64-select-best-false",
        "beta-0.5-hidden-200x100-select-best-true",
    ]
    assert len(found) == 8
    last = found[-1]
    assert last.values == {"beta": 1.0, "hidden": (200, 100), "select_best": False}
    assert last.config == configure("mlp", beta=1, hidden=(200, 100), select_best=False)


@pytest.mark.parametrize(
    ("grid", "given", "message"),
    [
        ({}, {}, "nothing is swept; give a setting several values, such as --beta 0.5,1,2 or --seed 0,1,2"),
        ({"beta": [1, 1.0]}, {}, "two members would be called 'beta-1'; give each value once"),
        ({"beta": 2.0}, {}, "--beta: 2.0 is not a list of values; give one such as [0, 1, 2]"),
        ({"beta": [1]}, {"beta": 2}, "--beta: is given both as a list and as one value; leave one out"),
        ({"beta": [1, -1]}, {}, "--beta: -1 is out of range; it must be at least 0 and at most 1000000"),
        ({"seed": range(2000)}, {}, "the lists make 2,000 members; give at most 1,000"),
        ({"bta": [1, 2]}, {}, "option '--bta' is unknown; did you mean '--beta'?"),
        ({"batch_size": [32, 5000]}, {}, "--batch-size: 5000 is more than the 1457 training images; lower it"),
    ],
)
def test_what_is_refused_writes_nothing(grid: Any, given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        vaekit.sweep(tmp_path / "out", "mlp", grid, observer=Silent(), data="digits", **given)
    assert str(refusal.value) == message
    assert not (tmp_path / "out").exists()


def test_separators_leave_alone_what_may_hold_commas() -> None:
    words = {"beta": "1,2", "seed": "3", "hidden": "200,100", "data": "a,b.npz", "learn_sigma": True}
    assert parted(preset("mlp"), words) == (
        {"beta": ["1", "2"]},
        {"seed": "3", "hidden": "200,100", "data": "a,b.npz", "learn_sigma": True},
    )
    assert parted(preset("mlp"), {"hidden": "8; 8,4", "likelihood": "bernoulli,gaussian"})[0] == {
        "hidden": ["8", "8,4"],
        "likelihood": ["bernoulli", "gaussian"],
    }
    with pytest.raises(InputError, match=r"^--beta: '1,,2' has an empty value; write a list such as 0.5,1,2$"):
        parted(preset("mlp"), {"beta": "1,,2"})


def test_only_what_changes_no_shape_and_no_step_is_shared_by_a_stack() -> None:
    base = configure("mlp", beta=3.0)
    same = [
        configure("mlp", seed=5, beta=0.1),
        configure("mlp", learning_rate=0.5, warmup=0.3, adam_epsilon=1e-3),
        configure("mlp", beta_schedule="linear"),
    ]
    assert all(shared(each) == shared(base) for each in same)
    other = [
        {"latent_dim": 3},
        {"epochs": 3},
        {"batch_size": 3},
        {"num_samples": 2},
        {"decay": "none"},
        {"gradient_clip": 1.0},
        {"likelihood": "gaussian"},
        {"objective": "iwae"},
        {"train_limit": 9},
    ]
    assert all(shared(configure("mlp", **each)) != shared(base) for each in other)


def test_the_command_writes_runs_a_table_and_a_picture(folder: Path, capsys: Capture) -> None:
    answer = good(capsys, "sweep", "out", *TINY.split(), *LISTS.split())
    lines = answer.out.splitlines()
    assert lines[0] == "out: 6 members, validation images, in nats per image"
    assert lines[2].split() == ["member", "epoch", "ELBO", "rate", "distortion"]
    record = json.loads((folder / "out" / "sweep.json").read_text())
    assert record["grid"] == {"beta": [0.5, 1.0, 2.0], "seed": [0, 1]}
    for line, each in zip(lines[3:], record["members"], strict=True):
        val = Run(each["path"]).metrics()[0]["val"]
        shown = [f"{val[key]:.2f}" for key in ("elbo_nats", "rate_nats", "distortion_nats")]
        assert line.split() == [each["name"], "1", *shown]
    with Image.open(folder / "out" / "rate-distortion.png") as image:
        assert image.size == (1300, 900)
        assert len(image.getcolors(1 << 20) or []) > 50
    # every other verb takes a member
    assert good(capsys, "evaluate", "out/beta-2-seed-1", "--importance-samples", 2, "--limit", 9, "--json").record
    # the same again, measured on test images; then another grid
    again = good(
        capsys, "sweep", "out", *TINY.split(), *LISTS.split(), "--importance-samples", 3, "--limit", 20, "--json"
    )
    assert again.record["measured_on"] == "test"
    for each in again.record["members"]:
        assert each["evaluation"]["num_images"] == 20
        assert each["evaluation"]["nll_nats"] < -each["evaluation"]["elbo_nats"]
    with_nll = good(capsys, "sweep", "out", *TINY.split(), *LISTS.split()).out.splitlines()
    assert with_nll[0] == "out: 6 members, test images, in nats per image"
    assert with_nll[2].split()[-1] == "NLL"
    sentence = refused(capsys, "sweep", "out", *TINY.split(), "--beta", "0.5,1")
    assert sentence == (
        "'out' holds another sweep (beta 0.5,1.0,2.0 x seed 0,1); repeat the same to continue it, or choose another folder"
    )


def test_illnesses_of_members_trained_together_are_told(folder: Path, capsys: Capture) -> None:
    words = TINY.replace("--epochs 1", "--epochs 4")
    told = good(capsys, "sweep", "out", *words.split(), "--beta", "1,1000").err.splitlines()
    (line,) = [line for line in told if "beta-1000: doctor: illness" in line]
    assert "The latents carry almost nothing" in line


def test_words_that_are_wrong_are_refused_in_a_sentence(folder: Path, capsys: Capture) -> None:
    for words, sentence in {
        "": "the folder to write into comes first; write vaekit sweep OUT, and settings as --name value",
        "--beta 1,2 out": "the folder to write into comes first; write vaekit sweep OUT, and settings as --name value",
        "out --preset mlp": "nothing is swept; give a setting several values, such as --beta 0.5,1,2 or --seed 0,1,2",
        "out --beta 1 2": "argument '2' is not expected after --beta 1; write a list as --beta 1,2",
        "out --betta 1,2": "option '--betta' is unknown; did you mean '--beta'?",
        "out --beta 1,x": "--beta: 'x' is not a number; give a number that is at least 0 and at most 1000000",
        "out --network mlp,cnvo": "network 'cnvo' is unknown; did you mean 'conv'?",
    }.items():
        assert refused(capsys, "sweep", *words.split()) == sentence
    assert not (folder / "out").exists()
    assert "--tc-weight" in good(capsys, "sweep", "out", "--objective", "beta-tcvae", "--seed", "0,1", "--help").out


def test_a_sweep_in_use_is_left_alone(tmp_path: Path) -> None:
    from vaekit.runs import hold

    (tmp_path / "out").mkdir()
    with hold(tmp_path / "out", "sweep"), pytest.raises(InputError, match=r"^sweep .* is in use by another process"):
        vaekit.sweep(tmp_path / "out", "mlp", {"seed": [0, 1]}, data="digits", observer=Silent())


def made(values: dict[str, Any], rate: float, distortion: float) -> dict[str, Any]:
    numbers = {"rate_nats": rate, "distortion_nats": distortion, "elbo_nats": -(rate + distortion)}
    return {"status": "finished", "values": values, "evaluation": None, "val": numbers, "train": None}


def test_lines_hold_the_members_by_what_else_was_swept() -> None:
    chosen = [(beta, latents, seed) for beta in (2.0, 1.0) for latents in (2, 4) for seed in (0, 1)]
    found = [made({"beta": b, "latent_dim": n, "seed": s}, 10 * b + s, 5 * n) for b, n, s in chosen]
    found.append({**made({"beta": 1.0, "latent_dim": 2, "seed": 2}, math.inf, 0.0), "status": "diverged", "val": None})
    record = {"members": found, "measured_on": measured_on(found), "grid": {"beta": [1, 2], "seed": [0, 1]}}
    assert record["measured_on"] == "validation"
    lines = lines_of(record, "beta", "rate_nats", "distortion_nats")
    assert list(lines) == ["latent dim 2", "latent dim 4"]
    assert means(lines["latent dim 4"]) == [Point(1.0, 10.5, 20.0), Point(2.0, 20.5, 20.0)]
    drawn = rate_distortion(record)
    assert drawn is not None
    axes = drawn.figure.axes[0]
    assert axes.get_xlabel() == "rate, nats per image"
    same = [Point(1.0, 10.0, 10.0), Point(2.0, 10.0, 10.0), Point(4.0, 20.0, 10.0)]
    assert named_places(same, axes) == [("1, 2", (10.0, 10.0)), ("4", (20.0, 10.0))]


def test_where_none_finished_nobody_measured_test_images() -> None:
    diverged = {**made({"seed": 0}, 1.0, 1.0), "status": "diverged"}
    assert measured_on([diverged]) == "training"
    assert measured_on([diverged, {**made({"seed": 1}, 1.0, 1.0), "evaluation": {"elbo_nats": -2.0}}]) == "test"


def test_the_picture_follows_what_was_swept(tmp_path: Path) -> None:
    assert swept_number({"objective": ["elbo", "iwae"], "seed": [0]}) is None
    found = [made({"learning_rate": rate}, 1.0, 1.0 / rate) for rate in (0.001, 0.01)]
    record = {"members": found, "measured_on": "validation", "grid": {"learning_rate": [0.001, 0.01]}}
    assert picture(record, tmp_path) == [str(tmp_path / "bound-by-learning-rate.png")]
    assert picture({**record, "grid": {"seed": [0, 1]}}, tmp_path) == []


def test_one_line_an_epoch_tells_of_all_members(capsys: Capture) -> None:
    together: Any = Together(3)

    def epoch(number: int, loss: float) -> None:
        train = {"loss": loss, "elbo_nats": -loss}
        together.epoch({"epoch": number, "train": train, "val": None, "images_per_second": 9.0}, 2, None)

    for loss in (1.0, 2.0):
        epoch(1, loss)
    assert capsys.readouterr().err == ""
    together.left(diverged=True)  # the third will not come
    assert capsys.readouterr().err == "epoch   1/2   2 members   loss 1.00 to 2.00   9 images/s of all\n"
    epoch(2, 1.0)
    together.left(diverged=False)
    epoch(2, 3.0)
    assert capsys.readouterr().err == "epoch   2/2   2 members   loss 1.00 to 3.00   9 images/s of all\n"
