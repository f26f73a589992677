"""Exported models compute what torch computes, whatever they are made of; what cannot be exported says so."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import cases
from commands import good, refused
from vaekit.config import replace
from vaekit.errors import InputError
from vaekit.export.export import DESCRIPTION, export_model
from vaekit.export.onnx import Onnx
from vaekit.export.parts import examples, farthest, parts
from vaekit.export.program import Program
from vaekit.export.table import FORMATS, Exported
from vaekit.export.weights import without_paths
from vaekit.networks.conditioning import Embedding
from vaekit.networks.conv import Conv
from vaekit.runs import Run
from vaekit.settings import Config
from vaekit.storage import load_model
from vaekit.trained import Trained, load

Capture = pytest.CaptureFixture[str]
SHAPE = (3, 17, 13)
MODELS = dict(cases.models())
# What ONNX, or any graph, cannot hold: each needs gradients, or float64, on its way from an image to its code.
NOT_ONNX = {name for name in MODELS if name.startswith(("hamiltonian", "riemannian")) or "wrapped-normal" in name}
NOT_GRAPHS = {name for name in MODELS if name.startswith(("hamiltonian", "riemannian"))}
PLAIN = "vae-mlp-bernoulli-gaussian-standard-none"


def trained(model: Any, shape: tuple[int, int, int] = SHAPE) -> Trained:
    info = cases.info(shape, attributes=cases.reads_attributes(model))
    torch.manual_seed(0)
    return Trained(model.build(info).eval(), replace(Config(), ("model",), model), info, Path("run"))


def whether_exported(name: str, format: Any, refused_by: set[str]) -> Exported | None:
    if name in refused_by:
        with pytest.raises(InputError, match=r"cannot be written as .*; export it with --format safetensors"):
            format.export(trained(MODELS[name]))
        return None
    exported: Exported = format.export(trained(MODELS[name]))
    for about in exported.about["files"].values():
        assert about["largest_difference"] < 1e-4
    return exported


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_that_onnx_can_hold(name: str) -> None:
    pytest.importorskip("onnxruntime")
    whether_exported(name, Onnx(), NOT_ONNX)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_that_a_program_can_hold(name: str) -> None:
    whether_exported(name, Program(), NOT_GRAPHS)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, dict[str, Any], Path]:
    """A model that reads labels or none, its ONNX description and the folder of its files: exporting takes seconds."""
    pytest.importorskip("onnxruntime")
    model = dataclasses.replace(
        Config().model,
        network=Conv(channels=(4, 8), dense=8),
        conditioning=Embedding(3, label_dropout=0.2),
        latent_dim=2,
    )
    source, folder = trained(model, (1, 9, 8)), tmp_path_factory.mktemp("onnx") / "out"
    return source, export_model(source, folder), folder


def test_onnx_of_any_batch_size(conditional: tuple[Trained, dict[str, Any], Path]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    source, _, folder = conditional
    for part in parts(source):
        session = onnxruntime.InferenceSession(folder / f"{part.name}.onnx", providers=["CPUExecutionProvider"])
        for count in (1, 2, 1000):  # 1000: torch itself takes another path through its convolutions
            given = examples(source, count)
            with torch.no_grad():
                want = part.module(*(given[name] for name in part.inputs))
            got = session.run(None, {name: given[name].numpy() for name in part.inputs})
            assert [node.name for node in session.get_outputs()] == list(part.outputs)
            assert farthest(want, tuple(map(torch.from_numpy, got))) < 1e-4


def test_what_cannot_be_held_is_said() -> None:
    pytest.importorskip("onnxruntime")
    assert whether_exported(sorted(NOT_GRAPHS)[0], Program(), NOT_GRAPHS) is None
    assert whether_exported(next(name for name in MODELS if "wrapped-normal" in name), Onnx(), NOT_ONNX) is None


def test_conditions_are_inputs(conditional: tuple[Trained, dict[str, Any], Path]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    source, description, folder = conditional
    assert description["class_names"] == list(cases.CLASSES)
    assert description["accepts_unknown"] is True
    label = {"name": "label", "type": "int64", "shape": ["batch"], "range": [-1, 2]}
    image = {"name": "image", "type": "float32", "shape": ["batch", 1, 9, 8], "range": [0.0, 1.0]}
    inner = {"type": "float32", "shape": ["batch", 2]}
    whole, encoder = (description["files"][f"{name}.onnx"] for name in ("whole", "encoder"))
    assert whole["inputs"] == [image, label]
    assert encoder["outputs"] == [{"name": "mean", **inner}, {"name": "standard_deviation", **inner}]
    names = ["decoder.onnx", DESCRIPTION, "encoder.onnx", "whole.onnx"]
    assert sorted(path.name for path in folder.iterdir()) == names
    session = onnxruntime.InferenceSession(folder / "decoder.onnx", providers=["CPUExecutionProvider"])
    code, labels = torch.randn(4, 2), torch.tensor([-1, 0, 1, 2])
    (image_made,) = session.run(["image"], {"code": code.numpy(), "label": labels.numpy()})
    torch.testing.assert_close(torch.from_numpy(image_made), source.images(code, labels), atol=1e-4, rtol=0)


def test_only_numbers_that_small_runtimes_know(conditional: tuple[Trained, dict[str, Any], Path]) -> None:
    onnx = pytest.importorskip("onnx")
    for file in conditional[2].glob("*.onnx"):
        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version <= 20
        assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
        kinds = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
        assert kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def test_programs_are_read_again_without_the_model(folder: Path) -> None:
    source = trained(MODELS[PLAIN])
    export_model(source, "out", "torch")
    read = torch.export.load("out/whole.pt2").module()
    images = torch.rand(5, *SHAPE)
    with torch.no_grad():
        (made,) = read(images)
    torch.testing.assert_close(made, source.model.decode(source.model.encode(images).mean).mean.clamp(0, 1))


def test_the_model_file_is_the_model(capsys: Capture, folder: Path, trained_run: Run) -> None:
    assert good(capsys, "export", trained_run.path, "--format", "safetensors", "--out", "out").out == (
        "out/model.safetensors\n"
    )
    (expected, config, info), (found, again, _) = load_model(trained_run.path), load_model("out")
    assert again == config == load("out").config
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.state_dict().items())
    assert info.name == "digits"


def test_paths_of_the_machine_stay_there() -> None:
    source = trained(MODELS[PLAIN])
    config = replace(source.config, ("data", "data"), "/home/somebody/photos")
    config = replace(config, ("training", "start_from"), "/home/somebody/runs/first")
    source = dataclasses.replace(
        source, config=config, info=dataclasses.replace(source.info, name="/home/somebody/photos")
    )
    shared = without_paths(source)
    assert (shared.config.data.data, shared.config.training.start_from, shared.info.name) == (
        "photos",
        "first",
        "photos",
    )
    content = FORMATS["safetensors"]().export(source).files["model.safetensors"]
    assert b"somebody" not in content


def test_refusals(capsys: Capture, folder: Path, trained_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--format: 'onx' is unknown; did you mean 'onnx'?" in refused(
        capsys, "export", trained_run.path, "--format", "onx", "--out", "x"
    )
    sentence = refused(capsys, "export", trained_run.path, "--out", trained_run.path)
    assert "holds a run already" in sentence
    Path("file").write_text("")
    assert "is a file; choose a folder" in refused(capsys, "export", trained_run.path, "--out", "file")
    assert "there is no model" in refused(capsys, "export", "nowhere", "--out", "x")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert refused(capsys, "export", trained_run.path, "--out", "x") == (
        "--format onnx: the package onnx is not installed; pip install vaekit[export]"
    )
    assert not Path("x").exists()
