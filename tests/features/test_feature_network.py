"""The pinned feature network: its file, its shapes, and what it can be asked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load, save
from torch._subclasses.fake_tensor import FakeTensorMode

import cases
from vaekit.data.images import Splits
from vaekit.errors import InputError
from vaekit.features import network as module
from vaekit.features.network import EMBEDDING, NUM_CLASSES, SHA256, FeatureNetwork, pinned_bytes


@pytest.fixture(scope="module")
def network() -> FeatureNetwork:
    return FeatureNetwork()


def test_the_file_is_the_one_whose_hash_is_in_the_code() -> None:
    content = Path(module.__file__).with_name("pinned.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert content == pinned_bytes()
    assert len(content) <= 500_000
    assert {str(array.dtype) for array in load(content).values()} == {"float16"}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 32, 32), (3, 17, 45), (3, 64, 64)])
def test_any_size_gives_four_maps_and_one_vector(network: FeatureNetwork, shape: tuple[int, int, int]) -> None:
    images = cases.random_images(shape, 3).unit()
    height, width = shape[1:]
    for found, channels in zip(network(images), (16, 32, 64, 96), strict=True):
        assert found.shape == (3, channels, height, width)
        assert found.isfinite().all()
        assert (found >= 0).all()
        height, width = (height + 1) // 2, (width + 1) // 2
    assert network.embed(images).shape == (3, EMBEDDING)
    assert network.classify(images).shape == (3, NUM_CLASSES)
    torch.testing.assert_close(network.embed(images), network(images)[-1].flatten(2).mean(2))


def test_it_is_plain_convolutions_of_the_weights_in_the_file(network: FeatureNetwork) -> None:
    weights = {name: torch.tensor(array.astype(np.float32)) for name, array in load(pinned_bytes()).items()}
    current = cases.random_images((3, 9, 14), 2).unit()
    for stage, layers in enumerate((1, 2, 2, 2)):
        if stage:
            current = F.avg_pool2d(current, 2, ceil_mode=True)
        for place in range(layers):
            name = f"stage{stage}.{place}"
            current = F.conv2d(current, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1).clamp(min=0)
    torch.testing.assert_close(network(cases.random_images((3, 9, 14), 2).unit())[-1], current)


def test_grey_counts_as_colour_without_any(network: FeatureNetwork) -> None:
    grey = cases.random_images((1, 28, 28), 2).unit()
    assert torch.equal(network.embed(grey), network.embed(grey.expand(-1, 3, -1, -1)))


def test_an_image_is_the_same_alone_and_in_any_mode(network: FeatureNetwork) -> None:
    images = cases.random_images((3, 32, 32), 4).unit()
    whole = network.embed(images)
    torch.testing.assert_close(network.embed(images[2:3]), whole[2:3])
    assert torch.equal(FeatureNetwork().train().embed(images), whole)


def test_nothing_of_it_is_trained_or_saved(network: FeatureNetwork) -> None:
    assert not list(network.parameters())
    assert not network.state_dict()
    assert sum(buffer.numel() for buffer in network.buffers()) == sum(a.size for a in load(pinned_bytes()).values())
    images = cases.random_images((1, 8, 8), 2).unit().requires_grad_()
    network.embed(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0
    assert all(buffer.grad is None for buffer in network.buffers())


def test_it_can_be_made_where_tensors_have_no_values() -> None:
    with FakeTensorMode():
        assert FeatureNetwork().embed(torch.empty(2, 1, 8, 8)).shape == (2, EMBEDDING)
    assert FeatureNetwork().embed(torch.zeros(2, 1, 8, 8)).isfinite().all()  # and leaves none behind


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 9, 9), "feature network: images have 2 channels; give grey (1) or colour (3)"),
        ((3, 7, 40), "feature network: images of 7x40 pixels are too small; give 8x8 or more"),
    ],
)
def test_other_images_are_refused(network: FeatureNetwork, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        network(torch.zeros(1, *shape))
    assert str(refusal.value) == message


@pytest.mark.parametrize("harm", ["cut", "changed", "missing"])
def test_a_damaged_file_is_refused_in_one_sentence(harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, content = tmp_path / "pinned.safetensors", bytearray(pinned_bytes())
    content[-7] ^= 1
    if harm != "missing":
        file.write_bytes(content[:1000] if harm == "cut" else content)
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    what = "are missing" if harm == "missing" else "are damaged or are others"
    with pytest.raises(InputError) as refusal:
        FeatureNetwork()
    assert str(refusal.value) == f"{file}: the feature network's weights {what}; install vaekit again"


@pytest.mark.parametrize("content", [b"no weights", save({"head.bias": np.zeros(30, np.float16)})])
def test_weights_of_another_network_are_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"^the feature network's weights do not fit the network; install vaekit"):
        FeatureNetwork(content)


def test_it_recognizes_digits_that_it_never_saw(network: FeatureNetwork, mnist: Splits) -> None:
    """The first 1,000 test images of MNIST, among all 30 classes."""
    images = mnist.test.select(torch.arange(1000))
    assert (network.classify(images.unit()).argmax(1) == images.labels).float().mean() > 0.97
