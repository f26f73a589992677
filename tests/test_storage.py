"""Weights on disk: whole, equal for equal content, and never code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import vaekit
from vaekit.config import encode
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.noise import seeded
from vaekit.settings import Config, configure
from vaekit.storage import load_model, read_tensors, save_model, write_tensors

CONFIG: Config = configure("conv", channels="4,8", dense=16, latent_dim=3, conditioning="onehot")
INFO = DataInfo("own ünïcode.npz", (3, 9, 7), ("left", "right"), True, 12, 345)


def tensors() -> dict[str, torch.Tensor]:
    weights = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).view(2, 3, 4, 5)
    return {
        "channels_last": weights.contiguous(memory_format=torch.channels_last),
        "slice": weights[:, :, ::2],
        "shared": weights,
        "shared again": weights,
        "double": torch.tensor([1 / 3], dtype=torch.float64),
        "whole": torch.tensor(2**62 + 1),
        "half": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
        "empty": torch.empty(0, 3),
        "with gradient": torch.nn.Parameter(torch.ones(2)),
    }


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    about = {"name": "ünïcode", "nested": {"none": None, "list": [1, 2.5]}}
    write_tensors(tmp_path / "file", tensors(), about)
    found, words = read_tensors(tmp_path / "file", "model")
    assert words == {"vaekit": vaekit.__version__, **about}
    assert found.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].nan_to_num(7.0), tensor.detach().nan_to_num(7.0)), name


def test_equal_content_is_an_equal_file(tmp_path: Path) -> None:
    about = {f"key {number}": number for number in range(20)}
    for name in "abcde":
        write_tensors(tmp_path / name, tensors(), about)
    assert len({(tmp_path / name).read_bytes() for name in "abcde"}) == 1


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\x80\x04]\x94.", b"not a safetensors file at all"])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read_tensors(file, "model")
    assert str(refusal.value) == f"{file}: is not a model of vaekit, or is damaged; restore it or train anew"


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_tensors(file, tensors(), {})
    content = file.read_bytes()
    for length in (1, 7, 8, 50, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(InputError, match="or is damaged"):
            read_tensors(file, "checkpoint")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        read_tensors(tmp_path / "gone", "checkpoint")
    assert str(refusal.value) == f"{tmp_path / 'gone'}: there is no checkpoint; train first, or give another path"


def test_safetensors_of_another_program_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, file, {"format": "pt"})
    with pytest.raises(InputError, match=r"is a safetensors file but no model of vaekit; give one that vaekit wrote$"):
        load_model(file)


def _saved(folder: Path) -> tuple[torch.nn.Module, Path]:
    with seeded(1, "test"):
        model = CONFIG.model.build(INFO)
    save_model(folder / "model.safetensors", model, CONFIG, INFO, model.state_dict())
    return model, folder / "model.safetensors"


def test_a_model_file_stands_alone(tmp_path: Path) -> None:
    model, file = _saved(tmp_path)
    for path in (file, tmp_path, str(file)):
        found, config, info = load_model(path)
        assert (config, info) == (CONFIG, INFO)
        assert not found.training
        assert found.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(found.state_dict()[name], value) for name, value in model.state_dict().items())
    labels = torch.tensor([0, 1])
    latents = torch.randn(2, 3)
    with torch.no_grad():
        expected = model.eval().to(memory_format=torch.channels_last).decode(latents, labels).mean
        assert torch.equal(found.decode(latents, labels).mean, expected)


def test_loading_a_model_leaves_the_random_state_to_the_caller(tmp_path: Path) -> None:
    """Weights are read, so what the caller draws next must not depend on the model's size."""
    _, file = _saved(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    load_model(file)
    assert torch.equal(torch.rand(3), expected)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model, file = _saved(tmp_path)
    other = configure("conv", channels="4,9", dense=16, latent_dim=3, conditioning="onehot")
    save_model(file, model, other, INFO, model.state_dict())
    with pytest.raises(InputError) as refusal:
        load_model(file)
    assert str(refusal.value) == f"{file}: the weights do not fit the model described in the file; train anew"


def test_a_checkpoint_is_no_model(tmp_path: Path) -> None:
    write_tensors(tmp_path / "checkpoint", {"a": torch.ones(1)}, {"progress": {}})
    with pytest.raises(InputError, match="do not fit the model described"):
        load_model(tmp_path / "checkpoint")


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    _, file = _saved(tmp_path)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert list(metadata) == ["vaekit-1"]
    about = json.loads(metadata["vaekit-1"])
    assert about["vaekit"] == vaekit.__version__
    assert about["config"] == encode(CONFIG)
    assert about["info"]["class_names"] == ["left", "right"]
