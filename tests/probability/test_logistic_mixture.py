"""Mixtures of discretized logistics against sums over all levels, and the masses of single logistics that scipy gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from vaekit.noise import Noise
from vaekit.probability.logistic import DiscretizedLogisticImage
from vaekit.probability.logistic_mixture import LogisticMixture, LogisticMixtureImage

LEVELS = torch.arange(256) * (1 / 255)


def pixel(channels: int, components: int = 3, count: int = 1, seed: int = 0) -> LogisticMixtureImage:
    """One pixel, the same for `count` images, with components that overlap and channels that depend on each other."""
    g = torch.Generator().manual_seed(seed)
    pairs = channels * (channels - 1) // 2
    parts = (
        torch.randn(components, 1, 1, 1, generator=g),
        torch.rand(components, channels, 1, 1, generator=g),
        -2.5 + torch.randn(components, channels, 1, 1, generator=g),
        0.8 * torch.randn(components, pairs, 1, 1, generator=g),
    )
    return LogisticMixtureImage(*(part.expand(count, *part.shape) for part in parts))


def mass(level: int, loc: float, scale: float) -> float:
    p = stats.logistic(loc, scale)
    low, high = -np.inf if level == 0 else (level - 0.5) / 255, np.inf if level == 255 else (level + 0.5) / 255
    return p.cdf(high) - p.cdf(low) if high < loc else p.sf(low) - p.sf(high)


def mass_of(p: LogisticMixtureImage, levels: list[int]) -> float:
    """Of a pixel's levels, by the definition: channel after channel within each component."""
    logits, loc, log_scale, coupling = (
        part[0, ..., 0, 0].double() for part in (p.logits, p.loc, p.log_scale, p.coupling)
    )
    weights = logits[:, 0].softmax(0)
    total = 0.0
    for k in range(len(weights)):
        product, pair = weights[k].item(), 0
        for c, level in enumerate(levels):
            place = loc[k, c].item()
            for before in levels[:c]:
                place += coupling[k, pair].item() * (before / 255 - 0.5)
                pair += 1
            product *= mass(level, place, log_scale[k, c].exp().item())
        total += product
    return total


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_masses_are_those_of_the_definition(channels: int) -> None:
    p = pixel(channels, seed=channels)
    for levels in ([0, 255, 3, 90], [128, 17, 255, 0], [200, 201, 202, 203]):
        target = (torch.tensor(levels[:channels]) / 255).view(1, channels, 1, 1)
        assert p.log_prob(target).item() == pytest.approx(np.log(mass_of(p, levels[:channels])), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_levels_of_two_channels_sum_to_one(seed: int) -> None:
    pairs = torch.cartesian_prod(LEVELS, LEVELS).view(-1, 2, 1, 1)
    total = pixel(2, count=len(pairs), seed=seed).log_prob(pairs).double().exp().sum().item()
    assert total == pytest.approx(1.0, abs=1e-5)


def test_one_component_without_coupling_is_the_discretized_logistic() -> None:
    g = torch.Generator().manual_seed(0)
    loc, scale = torch.rand(2, 5, 3, 6, 4, generator=g), torch.randn(3, 1, 1, generator=g) - 3.0
    x = torch.randint(0, 256, (5, 3, 6, 4), generator=g) / 255
    one = LogisticMixtureImage(
        torch.randn(2, 5, 1, 1, 6, 4, generator=g),
        loc[:, :, None],
        scale.expand_as(loc)[:, :, None],
        torch.zeros(2, 5, 1, 3, 6, 4),
    )
    plain = DiscretizedLogisticImage(loc, scale)
    torch.testing.assert_close(one.log_prob(x), plain.log_prob(x))
    torch.testing.assert_close(one.mean, plain.mean)
    noise = Noise.from_seed(0, 5)
    torch.testing.assert_close(one.sample_from(noise, "pixels"), plain.sample_from(noise, "pixels"), rtol=0, atol=1e-6)


def joint(p: LogisticMixtureImage) -> Tensor:
    """The masses of all levels of two channels, (256, 256) float64."""
    pairs = torch.cartesian_prod(LEVELS, LEVELS).view(-1, 2, 1, 1)
    many = LogisticMixtureImage(
        *(part.expand(len(pairs), *part.shape[1:]) for part in (p.logits, p.loc, p.log_scale, p.coupling))
    )
    return many.log_prob(pairs).double().exp().view(256, 256)


@pytest.mark.parametrize("seed", range(3))
def test_samples_have_the_masses(seed: int) -> None:
    """Both channels together, in 8 x 8 bins, by the chi-squared test."""
    count, p = 40000, pixel(2, seed=seed)
    parts = (part.expand(20, *part.shape[1:3], 40, 50) for part in (p.logits, p.loc, p.log_scale, p.coupling))
    drawn = (LogisticMixtureImage(*parts).sample_from(Noise.from_seed(1, 20), "pixels") * 255).double()
    torch.testing.assert_close(drawn, drawn.round(), rtol=0, atol=1e-4)
    cells = drawn.round().long().transpose(0, 1).flatten(1) // 32
    observed = np.bincount((8 * cells[0] + cells[1]).numpy(), minlength=64)
    expected = count * joint(p).view(8, 32, 8, 32).sum((1, 3)).flatten().numpy()
    kept = expected > 20
    assert kept.sum() >= 6
    wanted = expected[kept] * observed[kept].sum() / expected[kept].sum()
    assert stats.chisquare(observed[kept], wanted).pvalue > 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_is_that_of_the_levels(seed: int) -> None:
    """Exactly for the first channel to a hundredth of a level; for the second where no tail is cut."""
    p = pixel(2, seed=seed)
    p = LogisticMixtureImage(p.logits, 0.3 + 0.4 * p.loc, p.log_scale.clamp(-5.0, -3.5), 0.5 * p.coupling)
    masses = joint(p)
    exact = torch.stack([(masses.sum(1) * LEVELS.double()).sum(), (masses.sum(0) * LEVELS.double()).sum()])
    torch.testing.assert_close(p.mean.flatten().double(), exact, rtol=0, atol=0.05 / 255)


def test_hidden_pixels_do_not_count() -> None:
    p = LogisticMixture(2).build(3)(torch.randn(4, LogisticMixture(2).num_outputs(3), 5, 6))
    x = torch.randint(0, 256, (4, 3, 5, 6)) / 255
    mask = torch.ones(4, 3, 5, 6)
    torch.testing.assert_close(p.log_prob(x, mask), p.log_prob(x))
    mask[:, :, 2:] = 0
    seen = LogisticMixtureImage(*(part[..., :2, :] for part in (p.logits, p.loc, p.log_scale, p.coupling)))
    torch.testing.assert_close(p.log_prob(x, mask), seen.log_prob(x[..., :2, :]))
    one_channel = torch.ones(4, 3, 5, 6)
    one_channel[:, 1, 2:] = 0
    torch.testing.assert_close(p.log_prob(x, one_channel), p.log_prob(x, mask))


@pytest.mark.parametrize("size", [0.0, 1.0, 1e3, 1e6])
def test_gradients_are_finite_for_any_output(size: float) -> None:
    entry = LogisticMixture()
    output = (
        size * torch.randn(2, entry.num_outputs(3), 4, 4, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    x = torch.randint(0, 256, (2, 3, 4, 4)) / 255
    log_p = entry.build(3)(output).log_prob(x)
    log_p.sum().backward()
    assert torch.isfinite(log_p).all()
    assert torch.isfinite(output.grad).all()
    assert size > 0 or (output.grad != 0).all()


def test_components_begin_side_by_side() -> None:
    p = LogisticMixture(5).build(1)(torch.zeros(1, LogisticMixture(5).num_outputs(1), 1, 1))
    torch.testing.assert_close(p.loc.flatten(), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    assert p.mean.item() == pytest.approx(0.5)
    assert p.log_scale.exp().max().item() == pytest.approx(np.exp(-2.0), rel=0.01)
