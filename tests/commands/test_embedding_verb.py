"""Learned vectors of labels, written down."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from commands import good, refused
from vaekit.networks.vectors import read_vectors
from vaekit.runs import Run
from vaekit.storage import load_model
from vaekit.training.reporting import Silent
from vaekit.training.train import train

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(
        tmp_path_factory.mktemp("embedding") / "run",
        "mlp",
        conditioning="embedding",
        embedding_dim=3,
        data="digits",
        hidden=(12,),
        epochs=1,
        threads=1,
        device="cpu",
        label_dropout=0.1,
        observer=Silent(),
    )


def test_every_format_holds_what_the_model_reads(capsys: Capture, folder: Path, run: Run) -> None:
    model, _, info = load_model(run.path)
    with torch.no_grad():
        expected = model.code(torch.arange(10)).numpy()
    assert good(capsys, "embeddings", run.path, "--out", "v.npy").out == "v.npy\n"
    answer = good(capsys, "embeddings", run.model, "--out", "v.safetensors", "--json")
    assert answer.record == {"file": "v.safetensors", "num_classes": 10, "embedding_dim": 3}
    good(capsys, "embeddings", run.path, "--out", "v.csv")
    assert np.array_equal(np.load("v.npy"), expected)
    assert np.array_equal(load_file("v.safetensors")["vectors"], expected)
    with open("v.csv", newline="") as file:
        head, *rows = list(csv.reader(file))
    assert head == ["class", "dimension-0", "dimension-1", "dimension-2"]
    assert tuple(row[0] for row in rows) == info.class_names
    assert np.array_equal(np.array([row[1:] for row in rows], np.float32), expected)
    for file_name in ("v.npy", "v.safetensors"):  # another training can begin with them
        assert np.array_equal(read_vectors(file_name), expected)


def test_what_cannot_be_written_is_one_sentence(capsys: Capture, folder: Path, run: Run, runs: dict[str, Run]) -> None:
    assert refused(capsys, "embeddings", run.path, "--out", "v.txt") == (
        "--out 'v.txt': the ending '.txt' is not .npy, .csv, .safetensors; choose one"
    )
    assert "folder 'gone' does not exist" in refused(capsys, "embeddings", run.path, "--out", "gone/v.npy")
    for name in ("mlp", "cvae-onehot"):
        sentence = refused(capsys, "embeddings", runs[name].path, "--out", "v.npy")
        assert sentence.endswith("the model has no vectors of labels; train one with --conditioning embedding")
