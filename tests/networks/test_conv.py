"""Convolutional networks against the same layers of torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cases
from vaekit.networks.conv import Conv, ConvDecoder, ConvEncoder, halved
from vaekit.networks.convolution import Conv2d, ConvTranspose2d
from vaekit.settings import preset

LEVELS = [(4, 6, 5, 3, 2)[:n] for n in range(1, 6)]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def reference_encoder(encoder: ConvEncoder, images: Tensor, code: Tensor | None) -> Tensor:
    x = images
    for layer in encoder.convolutions:
        x = F.relu(F.conv2d(x, layer.weight, layer.bias, 2, 1))
    x = x.permute(0, 2, 3, 1)  # flattened pixel by pixel, as Keras does
    x = x.flatten(1) if code is None else torch.cat([x.flatten(1), code], 1)
    return F.relu(F.linear(x, encoder.dense.weight, encoder.dense.bias))


def reference_decoder(
    decoder: ConvDecoder, latents: Tensor, code: Tensor | None, sizes: list[tuple[int, int]]
) -> Tensor:
    x = latents if code is None else torch.cat([latents, code], 1)
    x = F.relu(F.linear(x, decoder.dense.weight, decoder.dense.bias)).view(len(x), *sizes[-1], -1).permute(0, 3, 1, 2)
    *ups, last = decoder.convolutions
    for layer, size in zip(ups, sizes[-2::-1], strict=True):
        x = F.conv_transpose2d(x, layer.weight, layer.bias, 2, 1, output_padding=1)
        x = F.relu(x[..., : size[0], : size[1]])  # an odd size is an even one without its last row or column
    return F.conv2d(x, last.weight, last.bias, 1, 1)


@pytest.mark.parametrize("shape", cases.SHAPES, ids=str)
@pytest.mark.parametrize("channels", LEVELS, ids=str)
@pytest.mark.parametrize("condition", [0, 2])
def test_networks_are_torchs_layers(shape: tuple[int, int, int], channels: tuple[int, ...], condition: int) -> None:
    torch.manual_seed(0)
    encoder = Conv(channels=channels, dense=7).encoder(shape, condition)
    decoder = Conv(channels=channels, dense=7).decoder(shape, condition, 3)
    for bias in (p for m in (encoder, decoder) for p in m.parameters() if p.dim() == 1):
        nn.init.normal_(bias, 0.1, 0.1)
    images, latents = torch.rand(3, *shape), torch.randn(3, 3)
    code = torch.randn(3, condition) if condition else None
    sizes = halved(shape[1:], len(channels))
    features, output = encoder(images, code), decoder(latents, code)
    assert features.shape == (3, 7)
    assert output.shape == (3, *shape)
    torch.testing.assert_close(features, reference_encoder(encoder, images, code), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output, reference_decoder(decoder, latents, code, sizes), rtol=1e-5, atol=1e-5)


ACTIVATIONS = {
    "relu": F.relu,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
    "leaky-relu": lambda x: F.leaky_relu(x, 0.01),
    "tanh": torch.tanh,
}


def normal(x: Tensor, kind: str) -> Tensor:
    """What a fresh normalization does to maps of 4 or 6 channels in training: by channel, or over all of an image."""
    axes = {"none": (), "batch": (0, 2, 3), "group": (1, 2, 3)}[kind]
    if not axes:
        return x
    mean = x.mean(axes, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(axes, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("normalization", ["none", "batch", "group"])
def test_activation_and_normalization_are_those_named(activation: Any, normalization: Any) -> None:
    torch.manual_seed(0)
    act = ACTIVATIONS[activation]
    network = Conv(channels=(4, 6), dense=7, activation=activation, normalization=normalization)
    encoder, decoder = network.encoder((2, 8, 8), 0), network.decoder((2, 8, 8), 0, 3)
    images, latents = torch.rand(3, 2, 8, 8), torch.randn(3, 3)
    x = images
    for layer in (m for m in encoder.convolutions if isinstance(m, nn.Conv2d)):
        x = act(normal(F.conv2d(x, layer.weight, layer.bias, 2, 1), normalization))
    x = act(F.linear(x.permute(0, 2, 3, 1).flatten(1), encoder.dense.weight, encoder.dense.bias))
    torch.testing.assert_close(encoder(images), x, rtol=1e-4, atol=1e-5)
    x = act(F.linear(latents, decoder.dense.weight, decoder.dense.bias)).view(3, 2, 2, 6).permute(0, 3, 1, 2)
    for layer in (m for m in decoder.convolutions if isinstance(m, nn.ConvTranspose2d)):
        x = act(normal(F.conv_transpose2d(x, layer.weight, layer.bias, 2, 1, output_padding=1), normalization))
    x = F.conv2d(x, decoder.convolutions[-1].weight, decoder.convolutions[-1].bias, 1, 1)
    torch.testing.assert_close(decoder(latents), x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalization", ["batch", "group"])
def test_a_normalization_takes_the_place_of_the_biases(normalization: Any) -> None:
    plain, normalized = Conv(channels=(4, 6)), Conv(channels=(4, 6), normalization=normalization)
    assert count(normalized.encoder((1, 8, 8), 0)) - count(plain.encoder((1, 8, 8), 0)) == 4 + 6
    encoder = normalized.encoder((1, 8, 8), 0)
    encoder(torch.rand(5, 1, 8, 8)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 1e-4 for parameter in encoder.parameters())


def test_without_options_the_modules_are_a_few_fast_ones() -> None:
    """A ReLU is part of the convolution: nothing else stands between convolutions."""
    encoder, decoder = Conv().encoder((1, 28, 28), 0), Conv().decoder((1, 28, 28), 0, 2)
    assert [type(layer) for layer in encoder.convolutions] == [Conv2d, Conv2d]
    assert [type(layer) for layer in decoder.convolutions] == [ConvTranspose2d, ConvTranspose2d, Conv2d]
    assert [layer.relu for layer in (*encoder.convolutions, *decoder.convolutions)] == [True] * 4 + [False]
    assert list(encoder.state_dict()) == [
        *(f"convolutions.{level}.{name}" for level in (0, 1) for name in ("weight", "bias")),
        "dense.weight",
        "dense.bias",
    ]
    assert not [type(module) for module in encoder.modules() if isinstance(module, nn.ReLU)]


def test_the_preset_network_is_the_published_one() -> None:
    """enc: conv 32, 64 -> 3136 + 10 -> dense 128; dec: 2 + 10 -> 3136 -> convT 64, 32 -> 1."""
    network = Conv(channels=(32, 64), dense=128)
    assert count(network.encoder((1, 28, 28), 10)) == 9 * 32 + 32 + 9 * 32 * 64 + 64 + (3136 + 10) * 128 + 128
    expected = (2 + 10) * 3136 + 3136 + 9 * 64 * 64 + 64 + 9 * 64 * 32 + 32 + 9 * 32 + 1
    assert count(network.decoder((1, 28, 28), 10, 2)) == expected


@pytest.mark.parametrize(("size", "smallest"), [((28, 28), (1, 1)), ((33, 1), (2, 1)), ((1, 1), (1, 1))])
def test_sizes_halve_rounding_up(size: tuple[int, int], smallest: tuple[int, int]) -> None:
    sizes = halved(size, 5)
    assert len(sizes) == 6
    assert sizes[0] == size
    assert sizes[-1] == smallest


def test_memory_order_of_the_image_does_not_matter() -> None:
    encoder = Conv(channels=(4, 6), dense=7).encoder((3, 17, 13), 0)
    images = torch.rand(3, 3, 17, 13)
    expected = encoder(images)
    torch.testing.assert_close(encoder(images.contiguous(memory_format=torch.channels_last)), expected)


def test_the_input_is_left_alone() -> None:
    network = Conv(channels=(4, 6), dense=7)
    images, latents = torch.randn(3, 1, 8, 8), torch.randn(3, 4)
    before = images.clone(), latents.clone()
    network.encoder((1, 8, 8), 0)(images)
    network.decoder((1, 8, 8), 0, 4)(latents)
    assert torch.equal(images, before[0])
    assert torch.equal(latents, before[1])


def sizes_of_features(layers: nn.Module, features: Tensor) -> list[float]:
    """Root mean squares behind each convolution."""
    found = []
    for layer in layers:  # type: ignore[attr-defined]  # a Sequential
        features = layer(features)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            found.append(features.square().mean().sqrt().item())
    return found


@pytest.mark.parametrize("activation", ["relu", "silu", "tanh"])
def test_first_weights_keep_the_size_of_features_at_any_depth(activation: Any) -> None:
    """Glorot's shrink them some seventyfold over four transposed convolutions, so that latents hardly move an image."""
    torch.manual_seed(0)
    channels, shape = (48, 48, 48, 48), (3, 64, 64)
    moved = {}
    for initialization in ("he", "glorot"):
        network = Conv(channels=channels, activation=activation, initialization=initialization)  # type: ignore[arg-type]
        encoder, decoder = network.encoder(shape, 0), network.decoder(shape, 0, 16)
        assert isinstance(encoder, ConvEncoder)
        assert isinstance(decoder, ConvDecoder)
        with torch.no_grad():
            down = sizes_of_features(encoder.convolutions, torch.randn(8, *shape))
            latents = torch.randn(8, 16)
            up = sizes_of_features(list(decoder.convolutions)[:-1], decoder.start(latents))
            moved[initialization] = decoder(latents).std(0).mean().item()
        if initialization == "he":
            assert all(0.35 < size < 2.0 for size in [*down, *up]), (down, up)
            assert encoder(torch.randn(8, *shape)).square().mean() > 0.1
    assert moved["he"] > (20 if activation == "relu" else 5) * moved["glorot"], moved


def test_write_up_networks_begin_as_in_keras() -> None:
    """Glorot's bound, sqrt(6 / (inputs + outputs)) with all taps of the kernel in both (Glorot and Bengio 2010)."""
    torch.manual_seed(0)
    network = preset("conv-seed").model.network  # type: ignore[attr-defined]
    encoder, decoder = network.encoder((1, 28, 28), 0), network.decoder((1, 28, 28), 0, 2)
    up = decoder.convolutions[0]
    for weight, ends in (
        (encoder.convolutions[0].weight, 9 * (1 + 32)),
        (encoder.dense.weight, 7 * 7 * 64 + 128),
        (up.weight, 9 * (up.in_channels + up.out_channels)),
        (decoder.dense.weight, 2 + 7 * 7 * 64),
    ):
        bound = (6 / ends) ** 0.5
        assert 0.97 * bound < weight.abs().max().item() <= bound
