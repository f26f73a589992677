"""Convolutional networks against the same layers of torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cases
from vaekit.networks.conv import Conv, ConvDecoder, ConvEncoder, halved

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
