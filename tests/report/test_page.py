"""The report: whole in itself, true to the run, safe against any text, honest about weak spots."""

# ruff: noqa: RUF001 - true minus signs, as the report writes them

import base64
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vaekit
from vaekit.config import flags
from vaekit.doctor.findings import Examination, Finding
from vaekit.errors import InputError
from vaekit.figures import FigureFile, make_figures
from vaekit.report.notes import notes, number
from vaekit.report.page import write_report
from vaekit.report.repeat import as_text, differences, nearest_preset, repeat_command
from vaekit.runs import Run
from vaekit.settings import PRESETS, configure

VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """Checks that tags close in order, and collects what a browser would fetch, tags and text."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.pre = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.fetched += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)
            if "pre" in self.open:
                self.pre += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def read(path) -> Page:
    return Page(path.read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    return vaekit.train(folder, "mlp", data="digits", epochs=3, hidden=(16,), latent_dim=3, threads=1)


@pytest.fixture(scope="module")
def evaluation(run):
    return vaekit.evaluate(run.path, num_importance_samples=10)


@pytest.fixture(scope="module")
def figures(run):
    return make_figures(run)


@pytest.fixture(scope="module")
def page(run, evaluation, figures):
    return read(write_report(run, evaluation, figures))


def test_the_page_fetches_nothing_and_runs_nothing(run, page):
    text = run.report.read_text()
    assert page.fetched
    assert all(address.startswith("data:") for address in page.fetched)
    assert not {"script", "iframe", "object", "form"} & set(page.tags)
    assert not any(name.startswith("on") for name in page.attributes)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert page.tags.count("h1") == 1


def test_the_page_holds_the_figures_unchanged(page, figures):
    held = [base64.b64decode(a.split(",")[1]) for a in page.fetched if a.startswith("data:image/png")]
    assert held == [figure.path.read_bytes() for figure in figures]
    for order, figure in enumerate(figures, 1):
        assert f"Figure {order}. {figure.caption}" in page.text.replace("  ", " ")


def test_the_page_holds_every_number(page, run, evaluation):
    for key, value in evaluation.items():
        assert key in page.text
        assert (number(value, 4) if isinstance(value, float) or value is None else str(value)) in page.text
    for key in ("elbo_nats", "rate_nats", "distortion_nats", "nll_nats", "standard_error_nats"):
        assert number(evaluation[key]) in page.text
    for record in run.metrics():
        for part in ("train", "val"):
            for key in ("loss", "elbo_nats", "rate_nats", "distortion_nats"):
                assert number(record[part][key]) in page.text


def test_the_page_holds_the_whole_configuration_with_help(page, run):
    for flag in flags(run.config):
        assert flag.option in page.text
        assert flag.help in page.text
        assert as_text(flag.value) in page.text
    versions = json.loads((run.path / "config.json").read_text())["versions"]
    assert all(f"{name} {version}" in page.text for name, version in versions.items())


def test_the_page_says_what_the_numbers_mean(page):
    for words in (
        "nats per image",
        "Measure: surrogate.",
        "no likelihood of grey images",
        "higher is better",
    ):
        assert words in page.text
    assert "of 3 latents" in page.text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"likelihood": "gaussian"}, "density over continuous pixels"),
        ({"binarization": "threshold"}, "a probability of the image's pixels"),
    ],
)
def test_each_measure_is_explained(tmp_path, given, words):
    short = {"data": "digits", "hidden": (8,), "epochs": 1, "threads": 1}
    run = vaekit.train(tmp_path / "run", "mlp", **short, **given)
    assert words in read(write_report(run, None, [])).text


def test_without_an_evaluation_validation_speaks(run):
    found = read(write_report(run, None, []))
    best = max(run.metrics(), key=lambda record: record["val"]["elbo_nats"])
    assert f"Measured during training on validation images, epoch {best['epoch']}" in found.text
    assert number(best["val"]["elbo_nats"]) in found.text
    assert "NLL" not in found.text


def test_a_model_without_a_bound_gets_no_invented_numbers(run, evaluation):
    absent = ("elbo_nats", "rate_nats", "nll_nats", "standard_error_nats", "num_importance_samples")
    absent += ("effective_sample_size", "active_units")
    found = read(write_report(run, {**evaluation, **dict.fromkeys(absent)}, []))
    assert "None" not in found.text
    assert "Active units" not in found.text
    assert "Distortion" in found.text


def test_before_the_first_epoch_there_is_a_report(tmp_path, run):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes((run.path / "config.json").read_bytes())
    assert "has not finished an epoch" in read(write_report(Run(tmp_path / "run"), None, [])).text


HOSTILE = "\"'><script>alert(1)</script>&amp;<img src=x onerror=alert(1)>"


def test_hostile_names_stay_text(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    name = HOSTILE.replace("/", "")
    data = tmp_path / f"{name}.npy"
    np.save(data, pixels)
    short = {"hidden": (8,), "epochs": 1, "batch_size": 16, "threads": 1}
    run = vaekit.train(tmp_path / f"run {name}", "mlp", data=str(data), **short)
    picture = make_figures(run)[0].path
    found = read(write_report(run, None, [FigureFile(picture, HOSTILE, HOSTILE)]))
    assert "script" not in found.tags
    assert found.tags.count("img") == 1
    assert "onerror" not in found.attributes
    assert HOSTILE in found.text
    assert str(data) in found.text
    assert parsed(found.pre) == run.config


# repeating a run


def parsed(command: str):
    """The configuration that a command line asks for, read as the command line reads it: as texts."""
    words = shlex.split(command)
    words = words[words.index("train") + 1 :]
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    assert pairs.pop("--out").startswith("runs/")
    preset = pairs.pop("--preset")
    return configure(preset, **{name.removeprefix("--").replace("-", "_"): text for name, text in pairs.items()})


def command_for(config, processes=1, name="first"):
    resolved = SimpleNamespace(processes=processes)
    return repeat_command(SimpleNamespace(config=config, path=Path(f"/somewhere/{name}"), resolved=resolved))


def test_the_command_on_the_page_repeats_the_run(page, run):
    assert parsed(page.pre) == run.config
    assert page.pre.startswith("vaekit train --preset mlp --data digits ")
    assert str(run.path) not in page.pre


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_its_own_nearest(name):
    assert nearest_preset(PRESETS[name][1]) == (name, {})
    assert (
        command_for(PRESETS[name][1])
        == f"vaekit train --preset {name} --data {PRESETS[name][1].data.data} --out runs/first-again"
    )


SETTINGS = {
    "latent_dim": st.integers(1, 99),
    "network": st.sampled_from(["mlp", "conv"]),
    "likelihood": st.sampled_from(["bernoulli", "gaussian"]),
    "conditioning": st.sampled_from(["none", "onehot", "embedding"]),
    "corruption": st.sampled_from(["none", "blur"]),
    "binarization": st.sampled_from(["none", "dynamic", "threshold"]),
    "beta": st.floats(0, 1e6),
    "beta_schedule": st.sampled_from(["constant", "linear", "cyclical"]),
    "epochs": st.floats(1e-9, 1e6),
    "learning_rate": st.floats(1e-12, 10),
    "select_best": st.booleans(),
    "patience": st.none() | st.integers(1, 50),
    "gradient_clip": st.none() | st.floats(1e-6, 1e6),
    "decay": st.sampled_from(["cosine", "none"]),
    "seed": st.integers(0, 2**63 - 1),
    "data": st.sampled_from(["digits", "mnist", "a folder/it's.npy", "$(x).npz", "~/images.npy"]),
}


@given(preset=st.sampled_from(sorted(PRESETS)), given=st.fixed_dictionaries({}, optional=SETTINGS))
@settings(max_examples=150, deadline=None)
def test_any_configuration_survives_the_command_line(preset, given):
    known = {flag.name for flag in flags(PRESETS[preset][1])}
    config = configure(preset, **{name: value for name, value in given.items() if name in known})
    name, found = nearest_preset(config)
    assert len(found) <= len(differences(preset, config))
    assert parsed(command_for(config)) == config
    assert configure(name, **found) == config


def test_settings_that_a_choice_brings_are_kept():
    config = configure("conv", network="mlp", hidden=(7, 5), likelihood="gaussian", sigma=0.25, learn_sigma=False)
    command = command_for(config)
    assert "--hidden 7,5" in command
    assert "--learn-sigma false" in command
    assert parsed(command) == config


def test_many_processes_are_started_as_many():
    command = command_for(PRESETS["conv"][1], processes=4, name="it's")
    assert command.startswith("torchrun --standalone --nproc-per-node=4 --no-python vaekit train ")
    assert shlex.split(command)[-1] == "runs/it's-again"


def test_what_no_settings_reach_is_said(monkeypatch):
    monkeypatch.setattr("vaekit.report.repeat.differences", lambda name, config: None)
    with pytest.raises(InputError, match="cannot be reached"):
        nearest_preset(PRESETS["conv"][1])


# notes

PLAIN = {"rate_nats": 20.0, "distortion_nats": 80.0, "latent_dim": 16, "active_units": 16, "nll_nats": 95.0}
PLAIN |= {"num_importance_samples": 100, "effective_sample_size": 20.0}


def heads(config, numbers, bounds=((-3.0, -3.0), (-2.0, -2.0))):
    """Notes as one text, for training and validation ELBOs of each epoch."""
    records = [
        {"epoch": e, "train": {"elbo_nats": t}, "val": None if v is None else {"elbo_nats": v}}
        for e, (t, v) in enumerate(bounds, 1)
    ]
    return " ".join(
        f"{head} {text}" for head, text in notes(SimpleNamespace(config=config, info=None), numbers, records)
    )


def test_a_sound_run_has_no_notes():
    assert heads(configure("conv"), PLAIN) == ""


def test_a_small_beta_is_explained_with_the_runs_own_numbers():
    said = heads(configure("denoising"), {**PLAIN, "rate_nats": 77.0, "distortion_nats": 69.0})
    assert "Beta is 0.00781" in said
    assert "77.0 nats" in said
    assert "4.8 for each of 16 latents" in said
    assert "e⁷⁷ images" in said
    assert "e⁻⁷⁷ of the prior" in said
    assert "= 69.60" in said  # 69 + 77 / 128
    assert "= −146.00" in said


def test_a_large_beta_is_explained():
    said = heads(configure("beta"), PLAIN)
    assert "loss is 160.00, the ELBO −100.00" in said


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"effective_sample_size": 1.2}, "only 1.2 count"),
    ],
)
def test_each_weakness_has_its_note_and_nothing_else(changed, words):
    said = notes(SimpleNamespace(config=configure("conv"), info=None), {**PLAIN, **changed}, [])
    assert len(said) == 1
    assert words in " ".join(said[0])


def test_numbers_that_do_not_exist_make_no_notes():
    assert heads(configure("denoising"), dict.fromkeys(PLAIN)) == ""


def test_the_doctors_findings_are_a_section_of_their_own(run, evaluation, figures):
    finding = Finding("name", "illness", "It is <ill>.", "Seen in 3 numbers.", "Set --beta 1.", "latents 2-4")
    text = read(write_report(run, evaluation, figures, Examination((finding,), ("dead units",)))).text
    assert (
        "Doctor Illness: It is <ill>. Seen in 3 numbers. Set --beta 1. (latents 2-4) Also looked at: dead units."
        in text
    )
    healthy = read(write_report(run, evaluation, figures, Examination((), ("dead units",)))).text
    assert "Doctor No illness was found. Looked at: dead units." in healthy
    assert "Doctor" not in read(write_report(run, evaluation, figures)).text


def test_numbers_for_readers():
    shown = [number(value) for value in (-1234.567, 0.0, 3, -3, None, float("inf"), 1e6)]
    assert shown == ["−1,234.57", "0.00", "3", "−3", "–", "inf", "1,000,000.00"]
