"""Runs compared image by image."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image

import vaekit
from commands import good, refused
from vaekit.comparison.compare import QUANTITIES, compare, paired, spreads
from vaekit.comparison.text import comparison_page, comparison_text, reasons, verdict
from vaekit.errors import InputError
from vaekit.figures.basics import FigureFile
from vaekit.runs import Run
from vaekit.training.reporting import Silent

Capture = pytest.CaptureFixture[str]
SAMPLES = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Small runs of one data set, and of others."""
    folder = tmp_path_factory.mktemp("compared")
    rng = np.random.default_rng(0)
    np.savez(folder / "own.npz", images=rng.integers(0, 256, (300, 8, 8), dtype=np.uint8))
    common = {"data": "digits", "hidden": "16", "epochs": 3, "train_limit": 400, "device": "cpu", "threads": 1}
    given: dict[str, dict[str, Any]] = {
        "small": {"latent_dim": 1},
        "large": {"latent_dim": 8},
        "seed1": {"latent_dim": 8, "seed": 1},
        "seed2": {"latent_dim": 8, "seed": 2},
        "gaussian": {"likelihood": "gaussian"},
        "conditional": {"conditioning": "onehot"},
        "binary": {"binarization": "threshold"},
        "restores": {"corruption": "blur"},
        "restores-more": {"corruption": "blur", "latent_dim": 8},
        "restores-else": {"corruption": "blur", "blur_factor": 4.0},
        "own": {"data": str(folder / "own.npz")},
        "held-out": {"validation": 51},
    }
    return {
        name: vaekit.train(folder / name, "mlp", observer=Silent(), **{**common, **more})
        for name, more in given.items()
    }


def against(made: dict[str, Run], *names: str, **more: Any) -> dict[str, Any]:
    more = {"num_importance_samples": SAMPLES, "limit": 40, **more}
    record, _ = compare([made[name].path for name in names], **more)
    assert json.loads(json.dumps(record)) == record
    return record


def test_means_are_those_of_evaluate(made: dict[str, Run]) -> None:
    record = against(made, "small", "restores")
    for run in record["runs"]:
        found = vaekit.evaluate(run["run"], num_importance_samples=SAMPLES, limit=40)
        for name in ("elbo_nats", "distortion_nats", "rate_nats", "nll_nats"):
            assert run[name] == pytest.approx(found[name], rel=1e-12), name
        assert run["standard_errors"]["nll_nats"] == pytest.approx(found["standard_error_nats"], rel=1e-9)
        assert run["psnr_db"] == (pytest.approx(found["psnr_db"], rel=1e-5) if "psnr_db" in found else None)
        for name in ("likelihood", "measure", "latent_dim", "active_units"):
            assert run[name] == found[name]
    assert [run["psnr_db"] is None for run in record["runs"]] == [True, False]


def test_differences_are_paired(made: dict[str, Run]) -> None:
    """Against scipy's paired t-test on the values of each image."""
    record, runs = compare([made[name].path for name in ("small", "large")], num_importance_samples=SAMPLES, limit=60)
    (found,) = record["differences"]
    assert (found["run"], found["minus"]) == ("B", "A")
    for name in QUANTITIES[:4]:
        first, second = (run.values[name].numpy() for run in runs)
        test = scipy.stats.ttest_rel(second, first)
        low, high = test.confidence_interval(0.95)
        assert found[name]["mean"] == pytest.approx((second - first).mean(), rel=1e-9)
        assert (found[name]["low"], found[name]["high"]) == pytest.approx((low, high), rel=1e-9)
        assert found[name]["excludes_zero"] == (test.pvalue < 0.05)
        alone = math.hypot(*(run.record["standard_errors"][name] for run in runs))
        if name != "rate_nats":
            assert found[name]["standard_error"] < alone  # what both find hard drops out
    assert found["elbo_nats"]["mean"] == pytest.approx(-found["distortion_nats"]["mean"] - found["rate_nats"]["mean"])
    assert found["psnr_db"] is None


def test_a_run_against_its_own_copy_differs_in_nothing(made: dict[str, Run], tmp_path: Path) -> None:
    """The same noise for both: without it the sampled distortions would differ."""
    copy = tmp_path / "model.safetensors"
    copy.write_bytes(made["large"].model.read_bytes())
    record, _ = compare([made["large"].path, copy], num_importance_samples=SAMPLES, limit=40)
    for name in QUANTITIES[:4]:
        found = record["differences"][0][name]
        assert (found["mean"], found["standard_error"], found["excludes_zero"]) == (0.0, 0.0, False)


def test_the_interval_holds_the_truth_19_times_in_20() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(2000):
        first = torch.randn(6, generator=generator, dtype=torch.float64)
        second = first + 0.7 + torch.randn(6, generator=generator, dtype=torch.float64)
        found = paired(first, second)
        hits += found["low"] < 0.7 < found["high"]
    assert abs(hits / 2000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_one_image_has_no_interval(made: dict[str, Run]) -> None:
    (found,) = against(made, "small", "large", limit=1)["differences"]
    assert found["elbo_nats"]["mean"] != 0.0
    assert [found["elbo_nats"][name] for name in ("standard_error", "low", "high", "excludes_zero")] == [None] * 4
    assert verdict("elbo_nats", found["elbo_nats"]) == "unclear"


def test_every_pair_is_compared(made: dict[str, Run]) -> None:
    record = against(made, "small", "large", "seed1")
    assert [(d["run"], d["minus"]) for d in record["differences"]] == [("B", "A"), ("C", "A"), ("C", "B")]
    first, second, third = (d["elbo_nats"]["mean"] for d in record["differences"])
    assert third == pytest.approx(second - first)


def test_measures_that_do_not_compare_have_no_difference(made: dict[str, Run]) -> None:
    record = against(made, "large", "gaussian")
    assert [run["measure"] for run in record["runs"]] == ["surrogate", "density"]
    (found,) = record["differences"]
    for name in ("elbo_nats", "distortion_nats", "nll_nats"):
        assert found[name] is None
        assert found["why_not"][name] == "A is a surrogate and B a density, which do not compare"
    assert found["rate_nats"]["mean"] != 0.0  # nats are nats
    assert all(run["elbo_nats"] is not None for run in record["runs"])
    text = comparison_text(record)
    assert "B - A: no ELBO, distortion, NLL: A is a surrogate and B a density, which do not compare" in text
    assert "A bernoulli, surrogate; B gaussian, density" in text


def test_psnr_is_compared_where_both_undo_the_same_corruption(made: dict[str, Run]) -> None:
    (found,) = against(made, "restores", "restores-more")["differences"]
    assert found["psnr_db"]["standard_error"] > 0
    record = against(made, "restores", "restores-else")
    assert record["differences"][0]["psnr_db"] is None
    assert record["differences"][0]["why_not"]["psnr_db"] == "A and B undo different corruptions"
    assert record["differences"][0]["elbo_nats"] is not None
    assert any("see different inputs" in note for note in record["notes"])


def test_a_label_told_is_noted(made: dict[str, Run]) -> None:
    (note,) = against(made, "large", "conditional")["notes"]
    assert note == "B reads a label or attributes and A does not: log p(x | condition) stands beside log p(x)."
    assert against(made, "small", "large")["notes"] == []


@pytest.mark.parametrize(
    ("names", "split", "words"),
    [
        (("small", "own"), "test", "have different test images, of 'digits' and of"),
        (("small", "held-out"), "val", "have different val images, of the same data 'digits'; give them the same"),
        (("small", "binary"), "test", "score different targets, as --binarization differs"),
    ],
)
def test_other_images_are_refused(names: tuple[str, ...], split: str, words: str, made: dict[str, Run]) -> None:
    with pytest.raises(InputError) as refusal:
        against(made, *names, split=split)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    if split == "val":
        against(made, *names, split="test")  # the official test images are the same


def test_seeds_of_one_configuration_have_a_spread(made: dict[str, Run]) -> None:
    record = against(made, "large", "small", "seed1", "seed2")
    (group,) = record["configurations"]
    assert group["runs"] == ["A", "C", "D"]
    assert group["training_seeds"] == [0, 1, 2]
    elbos = [record["runs"][place]["elbo_nats"] for place in (0, 2, 3)]
    assert group["elbo_nats"]["mean"] == pytest.approx(np.mean(elbos))
    assert group["elbo_nats"]["standard_deviation"] == pytest.approx(np.std(elbos, ddof=1))
    assert group["elbo_nats"]["standard_error"] == pytest.approx(np.std(elbos, ddof=1) / math.sqrt(3))
    assert (group["elbo_nats"]["lowest"], group["elbo_nats"]["highest"]) == pytest.approx((min(elbos), max(elbos)))
    assert group["psnr_db"] is None
    assert "3 runs that differ in their seed alone (A, C, D):" in comparison_text(record)
    assert against(made, "large", "seed1")["configurations"] == []
    assert spreads([]) == []


def test_what_has_no_bound_is_compared_by_what_it_has(tmp_path: Path, made: dict[str, Run]) -> None:
    import walls

    with walls.registered():
        plain = vaekit.train(tmp_path / "plain", config=walls.WALLS["autoencoder"](), observer=Silent())
        record, _ = compare([plain.path, made["small"].path], num_importance_samples=SAMPLES, limit=40)
    (found,) = record["differences"]
    assert record["runs"][0]["elbo_nats"] is None
    assert found["elbo_nats"] is None
    assert found["why_not"]["elbo_nats"] == "A has none"
    assert found["distortion_nats"]["standard_error"] > 0
    assert reasons([found], QUANTITIES[:4]) == ["B - A: no ELBO, rate, NLL: A has none"]


def test_the_text_is_aligned_and_says_what_is_sure(made: dict[str, Run]) -> None:
    record = against(made, "small", "large", "restores", limit=None)
    lines = comparison_text(record).splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[:1] == ["run"])
    table = lines[start : start + 4]
    assert [line.split()[0] for line in table[1:]] == ["A", "B", "C"]
    ends = [line.index(f"{run['elbo_nats']:.2f}") + len(f"{run['elbo_nats']:.2f}") for line, run in
            zip(table[1:], record["runs"], strict=True)]  # fmt: skip
    assert len(set(ends)) == 1
    assert ends[0] == table[0].index("ELBO") + len("ELBO")
    gaps = [line for line in lines if line.strip().startswith(("B - A", "C - A", "C - B"))]
    found = record["differences"][0]["elbo_nats"]
    assert f"{found['mean']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}] *" in gaps[0]
    assert found["excludes_zero"]
    assert all(len(line) <= 125 for line in lines if not line.startswith("  A"))


def test_verdicts() -> None:
    sure, unsure = {"mean": 1.0, "excludes_zero": True}, {"mean": 1.0, "excludes_zero": False}
    assert [verdict(name, sure) for name in QUANTITIES] == ["better", "worse", "", "worse", "better"]
    assert verdict("elbo_nats", unsure) == "unclear"
    assert verdict("elbo_nats", None) == ""


# The verb


def test_the_verb_writes_pictures_and_a_page_that_holds_all(
    made: dict[str, Run], tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "new" / "folder"
    paths = [made[name].path for name in ("small", "conditional", "restores")]
    words = ["compare", *paths, "--limit", 60, "--importance-samples", SAMPLES, "--out", out]
    found = good(capsys, *words, "--json").record
    assert found["files"][0] == str(out / "compare.html")
    assert {Path(file).name for file in found["files"][1:]} == {"differences.png", "reconstructions.png", "samples.png"}
    for file in found["files"][1:]:
        with Image.open(file) as picture:
            picture.load()
            assert picture.width <= 1800
    assert json.loads((out / "compare.json").read_text()) == found
    page = (out / "compare.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.replace("http-equiv", "")
    for run in found["runs"]:
        assert run["run"] in page
        assert f"{run['elbo_nats']:.2f}" in page
    first = {file: Path(file).read_bytes() for file in found["files"]}
    assert good(capsys, *words, "--json").record == found
    assert all(Path(file).read_bytes() == content for file, content in first.items())
    text = good(capsys, *words).out
    assert text.rstrip().endswith("compare.html")
    assert "Paired differences" in text


def test_names_are_escaped_in_the_page(made: dict[str, Run]) -> None:
    record = against(made, "small", "large")
    record["runs"][0]["run"] = "<b>&"
    page = comparison_page(record, list[FigureFile]())
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page


def test_options_of_the_verb_do_what_they_say(made: dict[str, Run], capsys: Capture) -> None:
    words = ["compare", made["small"].path, made["large"].path, "--json", "--limit", 30, "--importance-samples", 2]
    plain = good(capsys, *words).record
    assert (plain["split"], plain["num_images"], plain["num_importance_samples"]) == ("test", 30, 2)
    assert "files" not in plain
    val = good(capsys, *words, "--split", "val").record
    assert val["split"] == "val"
    assert val["runs"][0]["elbo_nats"] != plain["runs"][0]["elbo_nats"]
    seeded = good(capsys, *words, "--seed", 5).record
    assert seeded["runs"][0]["distortion_nats"] != plain["runs"][0]["distortion_nats"]
    more = good(capsys, *words[:-1], 20).record
    assert more["runs"][1]["nll_nats"] < plain["runs"][1]["nll_nats"]


def test_bad_input_is_one_sentence(made: dict[str, Run], tmp_path: Path, capsys: Capture) -> None:
    small, large = made["small"].path, made["large"].path
    (tmp_path / "file").touch()
    cases = [
        ((), "RUN RUN [RUN ...] is missing; write vaekit compare RUN RUN [RUN ...]"),
        ((small,), "compare: 1 run is nothing to compare; give at least two"),
        ((small, large, small), f"compare: {str(small)!r} is given twice; give each run once"),
        ((small, tmp_path / "nowhere"), "there is no model"),
        ((small, large, "--out", tmp_path / "file"), "is a file; choose a folder"),
        ((small, large, "--out", small), "is a run folder; choose another"),
        ((small, large, "--limit", 0), "--limit: 0 is out of range"),
        ((small, large, "--split", "tset"), "did you mean 'test'?"),
        ((small, made["own"].path), "have different test images"),
    ]
    for words, sentence in cases:
        assert sentence in refused(capsys, "compare", *words), words
