"""Dense networks."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

import cases
from vaekit.networks.mlp import ACTIVATIONS, MLP


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("hidden", [(7,), (7, 5), (9, 7, 5)], ids=str)
@pytest.mark.parametrize("condition", [0, 3])
def test_parameters_are_those_of_the_layers(hidden: tuple[int, ...], condition: int) -> None:
    """Counted by hand; the decoder mirrors the encoder."""
    shape, pixels, latents = (2, 4, 3), 24, 6
    sizes = [pixels + condition, *hidden]
    assert count(MLP(hidden=hidden).encoder(shape, condition)) == sum((a + 1) * b for a, b in pairwise(sizes))
    sizes = [latents + condition, *hidden[::-1], pixels]
    assert count(MLP(hidden=hidden).decoder(shape, condition, latents)) == sum((a + 1) * b for a, b in pairwise(sizes))


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_the_activation_is_the_one_named(activation: str) -> None:
    function = getattr(torch.nn.functional, activation.replace("-", "_"))
    encoder = MLP(hidden=(5,), activation=activation).encoder((1, 2, 2), 0)
    images = torch.randn(3, 1, 2, 2)
    layer = encoder.layers[0]
    torch.testing.assert_close(encoder(images), function(images.flatten(1) @ layer.weight.T + layer.bias))


def test_layer_normalization_stands_between_layer_and_activation() -> None:
    torch.manual_seed(0)
    encoder = MLP(hidden=(5, 4), dense_normalization="layer").encoder((1, 2, 2), 0)
    features = images = torch.randn(3, 4)
    for dense in (layer for layer in encoder.layers if isinstance(layer, nn.Linear)):
        sums = features @ dense.weight.T + dense.bias
        spread = sums - sums.mean(1, keepdim=True)
        features = torch.relu(spread / (spread.square().mean(1, keepdim=True) + 1e-5).sqrt())
    torch.testing.assert_close(encoder(images.view(3, 1, 2, 2)), features)
    plain, normal = (MLP(hidden=(5, 4), dense_normalization=kind) for kind in ("none", "layer"))
    for build in (lambda network: network.encoder((1, 2, 2), 0), lambda network: network.decoder((1, 2, 2), 0, 3)):
        assert count(build(normal)) - count(build(plain)) == 2 * (5 + 4)
        assert not any(isinstance(module, nn.LayerNorm) for module in build(plain).modules())


def test_the_output_layer_is_linear() -> None:
    """A decoder gives logits: values of either sign, without bounds."""
    decoder = MLP(hidden=(5,)).decoder((1, 2, 2), 0, 3)
    nn.init.constant_(decoder.output.bias, -50.0)
    assert (decoder(torch.zeros(1, 3)) == -50).all()


@pytest.mark.parametrize("shape", cases.SHAPES, ids=str)
def test_memory_order_of_the_image_does_not_matter(shape: tuple[int, int, int]) -> None:
    encoder = MLP(hidden=(5,)).encoder(shape, 0)
    images = torch.rand(3, *shape)
    torch.testing.assert_close(encoder(images.contiguous(memory_format=torch.channels_last)), encoder(images))


def test_the_condition_is_read_by_both() -> None:
    network = MLP(hidden=(9,))
    codes = torch.eye(2)
    torch.manual_seed(0)
    assert not torch.equal(*network.encoder((1, 2, 2), 2)(torch.ones(2, 1, 2, 2), codes))
    assert not torch.equal(*network.decoder((1, 2, 2), 2, 3)(torch.ones(2, 3), codes))


def test_the_input_is_left_alone() -> None:
    """Activations work in place, on tensors of their own only."""
    images, latents = torch.randn(3, 1, 2, 2), torch.randn(3, 4)
    before = images.clone(), latents.clone()
    MLP(hidden=(4, 4)).encoder((1, 2, 2), 0)(images)
    MLP(hidden=(4, 4)).decoder((1, 2, 2), 0, 4)(latents)
    assert torch.equal(images, before[0])
    assert torch.equal(latents, before[1])


def test_weights_start_as_glorot_has_them() -> None:
    torch.manual_seed(0)
    layer = MLP(hidden=(400,)).encoder((1, 28, 28), 0).layers[0]
    limit = (6 / (784 + 400)) ** 0.5
    assert layer.weight.abs().max() <= limit
    assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.01)
    assert not layer.bias.any()
