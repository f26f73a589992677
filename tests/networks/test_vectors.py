"""Vectors of labels, from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import vaekit
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.networks.conditioning import Embedding
from vaekit.networks.vectors import read_vectors
from vaekit.runs import Run
from vaekit.storage import load_model, read_tensors
from vaekit.training.reporting import Silent
from vaekit.training.train import resume, train

VECTORS = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32)
SMALL = {"data": "digits", "latent_dim": 2, "hidden": (12,), "epochs": 1, "threads": 1, "device": "cpu"}


def begin(path: Path, **given: object) -> Run:
    return train(path, "mlp", conditioning="embedding", observer=Silent(), **{**SMALL, **given})


@pytest.fixture
def files(folder: Path) -> dict[str, str]:
    np.save("a.npy", VECTORS.astype(np.float64))
    save_file({"vectors": torch.from_numpy(VECTORS)}, "one.safetensors")
    parts = {"conditioning.weight": VECTORS, "other": VECTORS + 1.0, "third": VECTORS[:2]}
    save_file({name: torch.from_numpy(part) for name, part in parts.items()}, "model.safetensors")
    return {"array": "a.npy", "one tensor": "one.safetensors", "a model": "model.safetensors", "a run": "."}


@pytest.mark.parametrize("kind", ["array", "one tensor", "a model", "a run"])
def test_vectors_are_read_as_they_are(kind: str, files: dict[str, str]) -> None:
    found = read_vectors(files[kind])
    assert found.dtype == torch.float32
    assert np.array_equal(found, VECTORS)


def test_what_is_no_vectors_is_one_sentence(folder: Path) -> None:
    np.save("flat.npy", VECTORS[0])
    np.save("words.npy", np.array([["a", "b"]]))
    np.save("hole.npy", np.where(VECTORS > 1, np.nan, VECTORS))
    Path("cut.npy").write_bytes(Path("hole.npy").read_bytes()[:-9])
    Path("text.safetensors").write_text("hello")
    save_file({"a": torch.ones(2, 2), "b": torch.ones(2, 2)}, "two.safetensors")
    Path("empty").mkdir()
    cases = {
        "gone.npy": "'gone.npy' does not exist there; give a .npy or .safetensors file or a run",
        "empty": "'model.safetensors' does not exist there",
        "flat.npy": r"shape \(6,\) of float32 is not \(classes, numbers\)",
        "words.npy": "is not .classes, numbers",
        "hole.npy": "holds NaN or infinity",
        "cut.npy": "is damaged or of another format",
        "text.safetensors": "is damaged or of another format",
        "two.safetensors": "holds no vectors of labels; give a run of --conditioning embedding",
    }
    for path, words in cases.items():
        with pytest.raises(InputError, match=words) as error:
            read_vectors(path)
        assert str(error.value).startswith(f"--embedding-file {path!r}: ")
        assert "\n" not in str(error.value)


def test_a_training_begins_with_given_vectors(files: dict[str, str]) -> None:
    """The size follows from the file, and the run names the file from the root."""
    run = begin(Path("run"), embedding_file="a.npy")
    conditioning = run.config.model.conditioning
    assert conditioning == Embedding(embedding_dim=6, embedding_file=str(Path("a.npy").resolve()))
    moved = load_model(run.path)[0].conditioning.weight - torch.from_numpy(VECTORS)
    assert moved.any(1).all()
    assert moved.abs().max() < 0.1  # in 11 steps of at most 0.008
    assert begin(Path("same"), embedding_file="a.npy", embedding_dim=6).config.model.conditioning == conditioning


def test_a_model_needs_the_file_no_more(files: dict[str, str]) -> None:
    """Neither to be loaded nor to be resumed; the weights hold the vectors."""
    run = begin(Path("run"), embedding_file="a.npy", freeze_embedding=True)
    Path("a.npy").unlink()
    assert np.array_equal(load_model(run.path)[0].conditioning.weight, VECTORS)
    assert resume(run.path).metrics() == run.metrics()


def test_frozen_vectors_stay_and_have_no_optimizer_state(files: dict[str, str]) -> None:
    free, frozen = (
        begin(Path(str(fixed)), embedding_file="a.npy", freeze_embedding=fixed, label_dropout=0.2)
        for fixed in (False, True)
    )
    states = []
    for run in (free, frozen):
        tensors, _ = read_tensors(run.checkpoint, "checkpoint")
        assert "player/model/conditioning.weight" in tensors
        shapes = [tuple(value.shape) for name, value in tensors.items() if name.startswith("optimizer/")]
        states.append(shapes)
    assert states[0].count((10, 6)) == 2
    assert states[1].count((10, 6)) == 0
    assert states[1].count((1, 6)) == 2  # the vector of the unknown label is learned
    weights = read_tensors(frozen.model, "model")[0]
    assert np.array_equal(weights["conditioning.weight"], VECTORS)


def test_a_run_stopped_before_its_first_checkpoint_begins_with_the_vectors_too(files: dict[str, str]) -> None:
    """The file is read until there is a checkpoint, and never after."""
    run = begin(Path("run"), embedding_file="a.npy", epochs=2)
    expected = read_tensors(run.model, "model")[0]
    for file in (run.checkpoint, run.model):
        file.unlink()
    again = read_tensors(resume(run.path, observer=Silent()).model, "model")[0]
    for name, value in expected.items():
        assert torch.equal(again[name], value), name


def test_vectors_that_do_not_fit_are_refused_before_anything_is_written(files: dict[str, str]) -> None:
    np.save("three.npy", VECTORS[:3])
    with pytest.raises(InputError) as error:
        begin(Path("run"), embedding_file="three.npy")
    path = str(Path("three.npy").resolve())
    assert str(error.value) == (
        f"--embedding-file {path!r}: holds vectors of 3 classes and the data have 10; give one for each class"
    )
    with pytest.raises(InputError, match=r"^--embedding-dim: 8 is not the 6 of --embedding-file '.*a\.npy'; leave one"):
        begin(Path("run"), embedding_file="a.npy", embedding_dim=8)
    with pytest.raises(InputError, match="does not exist there"):
        begin(Path("run"), embedding_file="gone.npy")
    assert not Path("run").exists()


def test_vectors_of_a_run_begin_another(folder: Path) -> None:
    first = begin(Path("first"), embedding_dim=5)
    second = begin(Path("second"), embedding_file="first", freeze_embedding=True)
    learned = load_model(first.path)[0].conditioning.weight
    assert torch.equal(load_model(second.path)[0].conditioning.weight, learned)


def test_a_model_built_by_hand_begins_when_told() -> None:
    model = vaekit.configure("mlp", conditioning="embedding", embedding_file="gone.npy", embedding_dim=6)
    built = model.model.build(DataInfo("own", (1, 4, 4), tuple("abc")))  # nothing is read yet
    with pytest.raises(InputError, match="does not exist"):
        built.begin()
