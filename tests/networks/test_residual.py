"""Residual networks."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import cases
from helpers_run import interrupted_at, timeless
from vaekit.errors import RunError
from vaekit.models.vae import VAEConfig
from vaekit.networks.conv import halved
from vaekit.networks.residual import Residual, ResidualBlock
from vaekit.noise import Noise
from vaekit.storage import read_tensors
from vaekit.training.reporting import Silent
from vaekit.training.train import resume, train

SHAPES = [(1, 1, 1), (2, 5, 7), (3, 17, 13), (1, 64, 64), (4, 1, 9)]
WIDTHS = (4, 6, 5, 3)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def branch(block: ResidualBlock, x: Tensor, raw: bool, size: tuple[int, int] | None) -> Tensor:
    first, second = (layer for layer in block.branch if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)))
    x = x if raw else F.relu(x)
    if isinstance(first, nn.ConvTranspose2d):
        x = F.conv_transpose2d(x, first.weight, first.bias, 2, 1, output_padding=1)[..., : size[0], : size[1]]
    else:
        x = F.conv2d(x, first.weight, first.bias, first.stride, 1)
    return F.conv2d(F.relu(x), second.weight, second.bias, 1, 1)


def reference_encoder(encoder: nn.Module, x: Tensor, code: Tensor) -> Tensor:
    """Written with functions alone; the mean of 2x2 pixels is over those that exist."""
    for number, block in enumerate(module for module in encoder.layers if isinstance(module, ResidualBlock)):
        skip = x
        if not isinstance(block.skip, nn.Identity):
            odd = (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)
            inside = F.avg_pool2d(F.pad(torch.ones_like(x), odd), 2)
            skip = F.conv2d(F.avg_pool2d(F.pad(x, odd), 2) / inside, block.skip[1].weight)
        x = skip + branch(block, x, number == 0, None)
    x = torch.cat([F.relu(x).permute(0, 2, 3, 1).flatten(1), code], 1)
    return F.relu(F.linear(x, encoder.dense.weight, encoder.dense.bias))


def reference_decoder(decoder: nn.Module, z: Tensor, code: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    x = F.linear(torch.cat([z, code], 1), decoder.dense.weight, decoder.dense.bias)
    x = x.view(len(z), *sizes[0], -1).permute(0, 3, 1, 2)
    left = sizes[1:]
    for block in (module for module in decoder.layers if isinstance(module, ResidualBlock)):
        if isinstance(block.skip, nn.Identity):
            x = x + branch(block, x, False, None)
            continue
        size, *left = left
        skip = F.conv2d(x, block.skip[0].weight).repeat_interleave(2, -1).repeat_interleave(2, -2)
        x = skip[..., : size[0], : size[1]] + branch(block, x, False, size)
    last = decoder.layers[-1]
    return F.conv2d(F.relu(x), last.weight, last.bias, 1, 1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("levels", [1, 4])
@pytest.mark.parametrize("blocks", [1, 2])
def test_networks_are_what_they_say(shape: tuple[int, int, int], levels: int, blocks: int) -> None:
    torch.manual_seed(0)
    network = Residual(widths=WIDTHS[:levels], blocks=blocks, dense=7)
    encoder, decoder = network.encoder(shape, 2), network.decoder(shape, 2, 3)
    for module in (encoder, decoder):
        for bias in (parameter for parameter in module.parameters() if parameter.dim() == 1):
            nn.init.normal_(bias, 0.1, 0.1)
    images, latents, code = torch.rand(3, *shape), torch.randn(3, 3), torch.randn(3, 2)
    kept = images.clone()
    features, output = encoder(images, code), decoder(latents, code)
    assert features.shape == (3, encoder.num_features) == (3, 7)
    assert output.shape == (3, *shape)
    assert torch.equal(images, kept)
    torch.testing.assert_close(features, reference_encoder(encoder, images, code), rtol=1e-5, atol=1e-5)
    sizes = halved(shape[1:], levels)[::-1]
    torch.testing.assert_close(output, reference_decoder(decoder, latents, code, sizes), rtol=1e-5, atol=1e-5)
    last = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(encoder(last, code), features, rtol=1e-5, atol=1e-5)


def block_size(num_in: int, num_out: int) -> int:
    """Two convolutions with biases, and a 1x1 convolution beside them where the size changes."""
    return 9 * num_in * num_out + num_out + 9 * num_out**2 + num_out + num_in * num_out


def test_parameters_are_counted_by_hand() -> None:
    network = Residual(widths=(4, 6), blocks=3, dense=7)
    expected = sum(block_size(a, b) for a, b in pairwise((3, 4, 6))) + 2 * sum(2 * (9 * c * c + c) for c in (4, 6))
    assert count(network.encoder((3, 17, 13), 2)) == expected + (6 * 5 * 4 + 2) * 7 + 7
    expected = block_size(6, 4) + block_size(4, 4) + 2 * sum(2 * (9 * c * c + c) for c in (4, 6))
    assert count(network.decoder((3, 17, 13), 2, 5)) == expected + (5 + 2 + 1) * 6 * 5 * 4 + 9 * 4 * 3 + 3


@pytest.mark.parametrize("normalization", ["none", "batch", "group"])
@pytest.mark.parametrize("activation", ["relu", "elu", "silu", "gelu", "leaky-relu", "tanh"])
@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 8, 8)], ids=str)
def test_every_weight_learns_under_every_option(normalization: Any, activation: Any, shape: Any) -> None:
    network = Residual(widths=(4, 6), blocks=2, dense=7, normalization=normalization, activation=activation)
    torch.manual_seed(0)
    model = VAEConfig(latent_dim=3, network=network).build(cases.info(shape))
    images = torch.rand(12, *shape)
    kept = images.clone()
    for _ in range(2):  # the second time with the first one's buffers
        (-model.draw(cases.plain_batch(images), (), Noise.from_seed(0, 12)).elbo.mean()).backward()
    assert torch.equal(images, kept)
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 1e-4, name
    model.eval()
    with torch.no_grad():
        whole = model.encode(images).mean
        torch.testing.assert_close(model.encode(images[4:5]).mean, whole[4:5], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalization", ["none", "batch", "group"])
def test_depth_does_not_blow_up_what_goes_through(normalization: Any) -> None:
    """Features and logits of a fresh network have about the same spread for 1 block a level and for 16."""
    spreads = []
    for blocks in (1, 16):
        torch.manual_seed(0)
        network = Residual(widths=(16, 32), blocks=blocks, dense=64, normalization=normalization)
        features = network.encoder((1, 16, 16), 0)(torch.rand(64, 1, 16, 16))
        logits = network.decoder((1, 16, 16), 0, 8)(torch.randn(64, 8))
        spreads.append((features.std().item(), logits.std().item()))
    for shallow, deep in zip(*spreads, strict=True):
        assert 0.5 < deep / shallow < 2.0


def test_the_last_convolution_of_a_block_starts_small() -> None:
    """By 1 / sqrt(number of blocks on the path), here 6."""
    torch.manual_seed(0)
    blocks = [
        m for m in Residual(widths=(32, 32), blocks=3).encoder((1, 8, 8), 0).layers if isinstance(m, ResidualBlock)
    ]
    assert len(blocks) == 6
    for block in blocks[1:]:
        first, last = (layer for layer in block.branch if isinstance(layer, nn.Conv2d))
        assert (first.weight.std() / last.weight.std()).item() == pytest.approx(6**0.5, rel=0.05)


def test_encoder_and_decoder_may_differ_in_size_and_channels() -> None:
    """Super-resolution from grey to colour."""
    info = dataclasses.replace(cases.info((3, 17, 13)), input_shape=(1, 9, 7))
    model = VAEConfig(latent_dim=3, network=Residual(widths=(4, 6), dense=7)).build(info)
    seen, wanted = torch.rand(4, 1, 9, 7), torch.rand(4, 3, 17, 13)
    batch = cases.plain_batch(wanted)._replace(input=seen)
    assert model.draw(batch, (2,), Noise.from_seed(0, 4)).log_p_x.shape == (2, 4)


@pytest.mark.parametrize("normalization", ["batch", "group"])
def test_it_runs_on_tensors_without_values(normalization: Any) -> None:
    with FakeTensorMode(), torch.autocast("cpu", torch.bfloat16):
        network = Residual(widths=(4, 6), blocks=2, normalization=normalization)
        features = network.encoder((3, 17, 13), 0)(torch.empty(5, 3, 17, 13))
        output = network.decoder((3, 17, 13), 0, 4)(torch.empty(5, 4))
        (features.sum() + output.sum()).backward()
    assert output.shape == (5, 3, 17, 13)


def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    """Running statistics are part of the checkpoint, and which labels are hidden follows from the step."""
    settings = {
        "data": "digits",
        "train_limit": 200,
        "batch_size": 40,
        "epochs": 3,
        "network": "residual",
        "widths": (4, 6),
        "normalization": "batch",
        "activation": "silu",
        "conditioning": "embedding",
        "label_dropout": 0.3,
        "device": "cpu",
        "threads": 1,
    }
    whole = train(tmp_path / "whole", observer=Silent(), **settings)
    with interrupted_at(8), pytest.raises(RunError, match="stopped at step 8"):
        train(tmp_path / "stopped", observer=Silent(), **settings)
    again = resume(tmp_path / "stopped", observer=Silent())
    assert again.model.read_bytes() == whole.model.read_bytes()
    assert timeless(again.metrics()) == timeless(whole.metrics())
    statistics = {name: value for name, value in read_tensors(whole.model, "model")[0].items() if "running_" in name}
    assert len(statistics) == 2 * (4 + 5)  # of the layers in encoder and decoder
    assert all(value.abs().sum() > 0 for value in statistics.values())
