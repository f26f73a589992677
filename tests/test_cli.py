"""The command line end to end on small runs: start, train, resume, evaluate, report, list, streams."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cases
from commands import Answer, good, run
from vaekit import __version__
from vaekit.cli import EXAMPLES, VERBS
from vaekit.commands.console import KINDS, TABLES, evaluation_text
from vaekit.config import flags, set_flags
from vaekit.evaluation.evaluate import evaluate
from vaekit.records import to_json
from vaekit.runs import Run
from vaekit.settings import PRESETS, preset

Capture = pytest.CaptureFixture[str]
FIELDS = [
    "split",
    "num_images",
    "likelihood",
    "measure",
    "elbo_nats",
    "rate_nats",
    "distortion_nats",
    "nll_nats",
    "num_importance_samples",
    "effective_sample_size",
    "standard_error_nats",
    "bits_per_dim",
    "active_units",
    "latent_dim",
]


# start


def test_help_and_import_leave_torch_alone() -> None:
    """The promise of half a second: torch alone takes longer than that to import."""
    script = (
        "import sys, vaekit\n"
        "from vaekit.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n"
        "    loaded = {'torch', 'numpy', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "    assert not loaded, loaded\n"
    )
    for words in (["--help"], ["--version"], []):
        ended = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "vaekit" in ended.stdout


def test_version_and_help(capsys: Capture) -> None:
    for word in ("--version", "-V", "version"):
        assert good(capsys, word).out == f"vaekit {__version__}\n"
    overview = good(capsys, "--help").out
    assert good(capsys).out == good(capsys, "help").out == good(capsys, "-h").out == overview
    for verb in VERBS:
        assert f"\n  {verb} " in overview
        text = good(capsys, verb, "--help").out
        assert good(capsys, verb, "-h").out == good(capsys, "help", verb).out == text
        for line in EXAMPLES[verb]:
            assert line in text


@pytest.mark.parametrize("width", [70, 80, 100, 300])
def test_help_fits_the_screen(width: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    texts = [good(capsys, verb, "--help").out.split("examples:")[0] for verb in VERBS]
    for line in "\n".join([*texts, good(capsys, "list").out]).splitlines():
        assert len(line) <= min(width, 100), line


@pytest.mark.parametrize("config", cases.variations(), ids=lambda config: "")
def test_help_of_train_shows_every_setting(config: Any, capsys: Capture) -> None:
    words = [word for flag in flags(config) if flag.table for word in (flag.option, str(flag.value))]
    text = good(capsys, "train", *words, "--help").out
    for flag in flags(config):
        row = next(line for line in text.splitlines() if line.startswith(f"  {flag.option}"))
        assert row
        for name in flag.table or ():
            assert name in text


def test_help_of_train_shows_the_values_given(capsys: Capture) -> None:
    answer = good(capsys, "train", "--preset", "cvae-embedding", "--epochs", "7", "--help")
    text = " ".join(answer.out.split())
    assert "a fraction is allowed [7;" in text
    assert "weight of the rate; 1 is the bound itself [0.0078125;" in text
    assert "--embedding-dim N" in text


# train and resume


def test_train_resume_and_report(capsys: Capture, folder: Path) -> None:
    """One run by its flags: its record, its files, and a resume that has nothing left to do."""
    words = ["--preset", "mlp", "--data", "digits", "--hidden", "8", "--latent-dim=2", "--epochs", "2"]
    words += ["--no-select-best", "--threads", "1", "--device", "cpu"]
    answer = good(capsys, "train", "--out", "run", *words, "--json")
    record = answer.record
    assert record["run"] == "run"
    assert (record["epoch"], record["step"]) == (2, 22)
    for part in ("train", "val"):
        bound = record[part]["distortion_nats"] + record[part]["rate_nats"]
        assert record[part]["elbo_nats"] == pytest.approx(-bound, rel=1e-9)
    assert [line.split()[:2] for line in answer.err.splitlines()[:2]] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert "report: run/report.html" in answer.err
    assert "next:   vaekit evaluate run" in answer.err

    made = Run("run")
    assert made.config == set_flags(
        preset("mlp"),
        {"data": "digits", "hidden": (8,), "latent_dim": 2, "epochs": 2.0, "select_best": False}
        | {"threads": 1, "device": "cpu"},
    )
    assert made.metrics()[-1] == {key: value for key, value in record.items() if key != "run"}
    assert made.report.stat().st_size > 1000
    assert list(made.figures.glob("*.png"))

    weights = made.model.read_bytes()
    again = good(capsys, "resume", "run", "--json", "--no-report")
    assert again.record == record
    assert "run 'run' was finished already; nothing was left to train" in again.err
    assert made.model.read_bytes() == weights


def test_without_json_standard_output_stays_empty(capsys: Capture, folder: Path) -> None:
    words = ["--preset", "mlp", "--data", "digits", "--hidden", "8", "--epochs", "0.1", "--no-report"]
    assert good(capsys, "train", "--out", "run", *words).out == ""


def test_report_is_written_anew(capsys: Capture, folder: Path, runs: dict[str, Run]) -> None:
    shutil.copytree(runs["mlp"].path, "run")
    answer = good(capsys, "report", "run")
    assert answer.out == "run/report.html\n"
    first = Path("run/report.html").read_text()
    good(capsys, "evaluate", "run")
    assert good(capsys, "report", "run", "--json").record == {"report": "run/report.html"}
    assert Path("run/report.html").read_text() != first, "the report does not show the evaluation"


# evaluate


@pytest.mark.parametrize("name", ["mlp", "cvae-onehot", "denoising"])
def test_evaluate(name: str, capsys: Capture, runs: dict[str, Run]) -> None:
    words = ["evaluate", runs[name].path, "--split", "val", "--importance-samples", "20", "--limit", "50"]
    record = good(capsys, *words, "--json").record
    assert set(FIELDS) <= record.keys()
    assert (record["split"], record["num_images"], record["num_importance_samples"]) == ("val", 50, 20)
    assert (record["likelihood"], record["measure"]) == ("bernoulli", "surrogate")
    assert record["elbo_nats"] == pytest.approx(-(record["distortion_nats"] + record["rate_nats"]), rel=1e-12)
    assert record["nll_nats"] <= -record["elbo_nats"] + 1e-9  # the same samples: Jensen's inequality, image by image
    assert 1 <= record["effective_sample_size"] <= 20
    assert record["standard_error_nats"] > 0
    assert record["bits_per_dim"] is None
    assert 0 <= record["active_units"] <= record["latent_dim"] == preset_latents(runs[name])
    assert ("psnr_db" in record) == (name == "denoising")
    direct = evaluate(runs[name].path, "val", 20, limit=50)
    assert record == json.loads(to_json(direct))


def preset_latents(run: Run) -> int:
    return int(run.config.model.latent_dim)


def test_evaluate_keeps_whole_evaluations_only(capsys: Capture, folder: Path, runs: dict[str, Run]) -> None:
    shutil.copytree(runs["mlp"].path, "run")
    good(capsys, "evaluate", "run", "--limit", "10", "--importance-samples", "2")
    assert not list(Path("run").glob("evaluation*"))
    record = good(capsys, "evaluate", "run", "--split", "val", "--importance-samples", "2", "--json").record
    assert json.loads(Path("run/evaluation-val.json").read_text()) == record


def test_evaluate_answers_where_it_cannot_write(capsys: Capture, folder: Path, runs: dict[str, Run]) -> None:
    shutil.copytree(runs["mlp"].path, "run")
    Path("run/evaluation-val.json").mkdir()
    answer = good(capsys, "evaluate", "run", "--split", "val", "--importance-samples", "2", "--json")
    assert answer.record["split"] == "val"
    assert answer.err == "vaekit: run/evaluation-val.json could not be written (Is a directory)\n"


def test_evaluate_of_a_file_alone(capsys: Capture, folder: Path, runs: dict[str, Run]) -> None:
    words = ["--limit", "20", "--importance-samples", "3", "--json"]
    shutil.copy(runs["mlp"].model, "alone.safetensors")
    alone = good(capsys, "evaluate", "alone.safetensors", *words).record
    assert alone == good(capsys, "evaluate", runs["mlp"].path, *words).record
    assert [path.name for path in folder.iterdir()] == ["alone.safetensors"]


def test_evaluate_seed_changes_the_noise_alone(capsys: Capture, runs: dict[str, Run]) -> None:
    words = ["evaluate", runs["mlp"].path, "--limit", "20", "--importance-samples", "3", "--json"]
    first, again = good(capsys, *words).record, good(capsys, *words).record
    other = good(capsys, *words, "--seed", "1").record
    assert first == again
    assert other["nll_nats"] != first["nll_nats"]
    assert other["nll_nats"] == pytest.approx(first["nll_nats"], abs=1.0)
    assert other["rate_nats"] == first["rate_nats"]  # in closed form


def test_evaluate_for_people(capsys: Capture, runs: dict[str, Run]) -> None:
    """Units, directions, columns that line up, and a word on what the measure is."""
    words = ["evaluate", runs["denoising"].path, "--limit", "20", "--importance-samples", "3"]
    text, record = good(capsys, *words).out, good(capsys, *words, "--json").record
    lines = [line for line in text.splitlines() if line.startswith("  ")]
    assert len({len(line[:33].rstrip()) for line in lines}) == 1, "numbers do not end in one column"
    for field in ("elbo_nats", "distortion_nats", "rate_nats", "nll_nats", "standard_error_nats"):
        row = next(line for line in lines if f"{record[field]:.4f} nats" in line)
        assert row
    assert "higher is better" in next(line for line in lines if "ELBO" in line)
    assert "lower is better" in next(line for line in lines if "NLL" in line)
    assert "of 3 importance samples" in text
    assert f"of {record['latent_dim']} latents" in text
    assert f"{record['psnr_db']:.4f} dB" in text
    assert "nats per image" in text.splitlines()[0]
    assert "measure surrogate" in text
    assert "no likelihood" in " ".join(text.split())


@pytest.mark.parametrize("measure", ["discrete", "density", "surrogate"])
def test_text_of_any_record(measure: str) -> None:
    """Nulls are shown as missing, unknown fields are shown as they are."""
    record = dict.fromkeys(FIELDS) | {
        "split": "test",
        "num_images": 3,
        "likelihood": "gaussian",
        "measure": measure,
    }
    record |= {"distortion_nats": -12.5, "latent_dim": 2, "novel_nats": 1.25}
    text = evaluation_text("run", record)
    assert f"measure {measure}: " in text
    assert "None" not in text
    elbo = next(line for line in text.splitlines() if "ELBO" in line)
    assert elbo.split()[1:] == ["-", "this", "model", "has", "none"]
    assert "-12.5000 nats" in text
    assert "novel_nats" in text
    assert "1.2500" in text


# list


def test_list_shows_every_table(capsys: Capture) -> None:
    found = good(capsys, "list", "--json").record
    assert list(found) == list(KINDS)
    assert list(found["presets"]) == list(PRESETS)
    for kind, table in TABLES.items():
        assert list(found[kind]) == list(table)
    reached = {table.kind for table in cases.tables().values()}
    assert reached <= {table.kind for table in TABLES.values()}, "a table is missing from vaekit list"
    for config, flag in cases.leaves():
        if flag.path[0] not in ("data", "training"):
            assert any(flag.option in entry["settings"] for kind in found.values() for entry in kind.values()), config
    assert found["presets"]["cvae-onehot"]["settings"]["--conditioning"] == "onehot"


@pytest.mark.parametrize("kind", KINDS)
def test_list_of_one_kind(kind: str, capsys: Capture) -> None:
    whole = good(capsys, "list").out
    text = good(capsys, "list", kind).out
    assert text.strip() in whole
    assert good(capsys, "list", kind.removesuffix("s")).out == text
    assert list(good(capsys, "list", kind, "--json").record) == [kind]


# streams


def test_json_holds_no_nan() -> None:
    record = json.loads(to_json({"a": math.nan, "b": [math.inf, (1.0, -math.inf)], "c": {"d": 0.5}}))
    assert record == {"a": None, "b": [None, [1.0, None]], "c": {"d": 0.5}}


def test_a_closed_pipe_is_no_error() -> None:
    ended = subprocess.run(
        f"{sys.executable} -m vaekit list | head -1", shell=True, capture_output=True, text=True, check=False
    )
    assert ended.stdout == "presets:\n"
    assert "Traceback" not in ended.stderr


def test_interrupt(capsys: Capture, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vaekit.commands.verbs.evaluate", stop)
    assert run(capsys, "evaluate", runs["mlp"].path) == Answer(130, "", "vaekit: stopped\n")
