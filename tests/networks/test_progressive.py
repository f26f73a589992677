"""Networks that grow: what a level sees, what it leaves, and that whole networks never know of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.networks.conv import Conv, halved
from vaekit.networks.mlp import MLP
from vaekit.networks.progressive import Pyramid, has_levels, pooled
from vaekit.networks.residual import Residual

SHAPES = [(1, 8, 8), (3, 17, 13), (2, 28, 28)]
NETWORKS: dict[str, Any] = {
    "conv": Conv(channels=(4, 6, 5), dense=7),
    "conv, normalized": Conv(channels=(4, 6, 5), dense=7, normalization="batch", activation="elu"),
    "conv, padded after": Conv(channels=(4, 6, 5), dense=7, padding="after", activation="silu"),
    "residual": Residual(widths=(4, 6, 5), blocks=2, dense=7),
    "residual, normalized": Residual(widths=(4, 6, 5), dense=7, normalization="group", activation="leaky-relu"),
}
both = pytest.mark.parametrize("shape", SHAPES, ids=str)
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))


def made(network: Any, shape: tuple[int, int, int], stages: int = 4, condition: int = 0) -> tuple[Any, Any, Pyramid]:
    torch.manual_seed(0)
    encoder, decoder = network.encoder(shape, condition), network.decoder((2, *shape[1:]), condition, 3)
    for bias in (each for module in (encoder, decoder) for each in module.parameters() if each.dim() == 1):
        nn.init.normal_(bias, 0.1, 0.1)
    return encoder, decoder, Pyramid(encoder, decoder, stages, shape[1:])


def test_pooling_is_the_mean_of_the_pixels_that_are_there() -> None:
    images = torch.rand(3, 2, 5, 7)
    expected = torch.empty(3, 2, 3, 4)
    for row in range(3):
        for column in range(4):
            expected[..., row, column] = images[..., 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((-2, -1))
    torch.testing.assert_close(pooled(images, 1), expected)
    whole = torch.rand(2, 1, 8, 12)
    torch.testing.assert_close(pooled(whole, 2), F.avg_pool2d(whole, 4))
    assert torch.equal(pooled(images, 0), images)


@both
@every_network
def test_each_level_takes_and_makes_images_of_its_size(network: Any, shape: tuple[int, int, int]) -> None:
    encoder, decoder, pyramid = made(network, shape)
    images, latents = torch.rand(3, *shape), torch.randn(3, 3)
    for level, size in enumerate(halved(shape[1:], 3)):
        small = pooled(images, level)
        assert tuple(small.shape[-2:]) == size
        for fading in (False, True)[: 2 if level < 3 else 1]:
            into, out_of = pyramid.at(encoder, decoder, level, fading)
            assert into.eval()(small).shape == (3, 7)
            assert out_of.eval()(latents).shape == (3, 2, *size)
            torch.testing.assert_close(into(images), into(small))  # whole images are brought to the size


@both
@every_network
def test_at_the_full_size_they_are_the_whole_networks(network: Any, shape: tuple[int, int, int]) -> None:
    """To the bit, faded in or not."""
    encoder, decoder, pyramid = made(network, shape)
    images, latents = torch.rand(3, *shape), torch.randn(3, 3)
    for fading in (False, True):
        into, out_of = pyramid.at(encoder, decoder, 0, fading)
        pyramid.alpha.fill_(1.0)
        assert torch.equal(into(images), encoder(images))
        assert torch.equal(out_of(latents), decoder(latents))


@both
@every_network
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_that_fades_in_goes_from_the_one_before_to_itself(
    network: Any, shape: tuple[int, int, int], level: int
) -> None:
    encoder, decoder, pyramid = (module.eval() for module in made(network, shape))
    images, latents = pooled(torch.rand(3, *shape), level), torch.randn(3, 3)
    size = halved(shape[1:], level)[-1]
    into, out_of = pyramid.at(encoder, decoder, level, True)
    below_in, below_out = pyramid.at(encoder, decoder, level + 1, False)
    own_in, own_out = pyramid.at(encoder, decoder, level, False)

    def features(alpha: float) -> tuple[Tensor, Tensor]:
        pyramid.alpha.fill_(alpha)
        return into.eval()(images), out_of.eval()(latents)

    low, decoded_low = features(0.0)
    torch.testing.assert_close(low, below_in.eval()(pooled(images, 1)), rtol=0, atol=0)
    expected = below_out.eval()(latents)
    repeated = expected.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., : size[0], : size[1]]
    torch.testing.assert_close(decoded_low, repeated, rtol=0, atol=0)
    high, decoded_high = features(1.0)
    assert torch.equal(high, own_in.eval()(images))
    assert torch.equal(decoded_high, own_out.eval()(latents))
    between, decoded = features(0.25)
    torch.testing.assert_close(decoded, 0.75 * decoded_low + 0.25 * decoded_high)
    assert not torch.equal(between, low)
    assert not torch.equal(between, high)


@every_network
def test_what_is_not_grown_has_no_gradient_and_the_rest_has(network: Any) -> None:
    shape = (1, 8, 8)
    encoder, decoder, pyramid = made(network, shape)
    pyramid.alpha.fill_(0.5)
    named = {
        f"{part}.{name}": parameter
        for part, module in (("encoder", encoder), ("decoder", decoder), ("pyramid", pyramid))
        for name, parameter in module.named_parameters()
    }
    moved = {}
    for level, fading in ((3, False), (2, True), (2, False), (1, True), (1, False), (0, True), (0, False)):
        into, out_of = pyramid.at(encoder, decoder, level, fading)
        for parameter in named.values():
            parameter.grad = None
        (into(torch.rand(5, *shape)).sum() + out_of(torch.randn(5, 3)).square().sum()).backward()
        moved[level, fading] = {name for name, parameter in named.items() if parameter.grad is not None}
        active = {id(each) for module in (into, out_of) for each in module.parameters()}
        assert {id(named[name]) for name in moved[level, fading]} == active  # what is penalized is what is at work
    own = {name for name in named if not name.startswith("pyramid")}
    assert moved[0, False] == own
    for level in (3, 2, 1, 0):
        assert moved[level, False] - own == (
            {
                name
                for name in named
                if f"pyramid.entrances.{level - 1}." in name or f"pyramid.exits.{level - 1}." in name
            }
        )
    for level in (2, 1, 0):
        assert moved[level + 1, False] & own < moved[level, False] & own
        assert moved[level, True] == moved[level, False] | moved[level + 1, False]


def test_a_condition_reaches_both_at_every_level() -> None:
    encoder, decoder, pyramid = made(NETWORKS["conv"], (1, 8, 8), condition=2)
    images, latents = torch.rand(3, 1, 8, 8), torch.randn(3, 3)
    for level in range(4):
        into, out_of = pyramid.at(encoder, decoder, level, False)
        for network, given in ((into, images), (out_of, latents)):
            assert not torch.equal(network(given, torch.zeros(3, 2)), network(given, torch.ones(3, 2)))


def test_an_exit_begins_with_the_bias_of_the_whole_decoder() -> None:
    """Which may be that of the mean image."""
    _, decoder, pyramid = made(NETWORKS["conv"], (1, 8, 8))
    for exit in pyramid.exits:
        assert torch.equal(exit[-1].bias, decoder.convolutions[-1].bias)


def test_dense_networks_have_no_levels() -> None:
    assert not has_levels(MLP().encoder((1, 8, 8), 0))
    assert has_levels(Conv().encoder((1, 8, 8), 0))
    assert has_levels(Residual().decoder((1, 8, 8), 0, 2))
