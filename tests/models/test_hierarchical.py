"""Levels of latents: their densities against quadrature and closed forms, and a draw that is the same however it is made."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
from vaekit.data.batches import Batch
from vaekit.errors import InputError
from vaekit.models.draw import Draw
from vaekit.models.hierarchical import HierarchicalConfig, HierarchicalModel
from vaekit.networks.conditioning import Attributes, Embedding, OneHot, hide
from vaekit.networks.ladder import Group
from vaekit.noise import Noise
from vaekit.objectives.free_bits import FreeBits
from vaekit.objectives.table import MODEL
from vaekit.probability.distributions import DiagonalGaussian

ONE, TWO, THREE = {"widths": (6,)}, {"widths": (4, 6)}, {"widths": (4, 6, 6)}
CONFIGS: dict[str, tuple[HierarchicalConfig, tuple[int, int, int]]] = {
    name: (HierarchicalConfig(dense=8, **settings), shape)
    for name, settings, shape in [
        ("2 levels", {**TWO, "latent_dim": 3, "levels": (1, 0), "latent_channels": (2, 1)}, (1, 8, 8)),
        ("maps alone", {**TWO, "latent_dim": None, "levels": (1, 2), "latent_channels": (1, 2)}, (3, 17, 13)),
        ("larger maps alone", {**TWO, "latent_dim": None, "levels": (2, 0), "latent_channels": (1, 1)}, (1, 8, 7)),
        ("4 levels", {**TWO, "latent_dim": 2, "levels": (2, 1), "latent_channels": (1, 3)}, (2, 11, 6)),
        (
            "5 levels",
            {**THREE, "latent_dim": 2, "levels": (1, 2, 1), "latent_channels": (1, 1, 2), "blocks": 2},
            (1, 9, 16),
        ),
        ("labels", {**TWO, "latent_dim": 2, "latent_channels": (1, 2), "conditioning": OneHot()}, (1, 8, 8)),
        (
            "attributes",
            {**ONE, "latent_dim": None, "levels": (2,), "latent_channels": (2,), "conditioning": Attributes()},
            (1, 5, 4),
        ),
    ]
}
each_config = pytest.mark.parametrize("name", list(CONFIGS))


def build(config: HierarchicalConfig, shape: tuple[int, int, int]) -> HierarchicalModel:
    """A model whose priors and posteriors are far from where they begin, so that levels matter."""
    torch.manual_seed(1)
    model = config.build(cases.info(shape, attributes=cases.reads_attributes(config))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "head" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def made(name: str, count: int = 4) -> tuple[HierarchicalModel, Batch]:
    config, shape = CONFIGS[name]
    images = cases.random_images(shape, count, attributes=cases.reads_attributes(config))
    condition = images.attributes if cases.reads_attributes(config) else images.labels
    return build(config, shape), cases.plain_batch(images.unit(torch.arange(count)), condition)


def flat(draw: Draw) -> Tensor:
    """All groups' values side by side."""
    return torch.cat([latent.value for latent in draw.latents], -1)


@each_config
def test_decoding_the_values_of_a_draw_gives_its_likelihood(name: str) -> None:
    model, batch = made(name)
    for sample_shape in ((), (3,), (2, 3)):
        draw = model.draw(batch, sample_shape, Noise.from_seed(0, 4))
        values = flat(draw)
        assert values.shape == (*sample_shape, 4, CONFIGS[name][0].num_latents(cases.info(CONFIGS[name][1])))
        assert draw.log_w is not None
        assert draw.log_w.shape == (*sample_shape, 4)
        again = model.decode(values, batch.condition).log_prob(batch.target)
        torch.testing.assert_close(again, draw.log_p_x, rtol=1e-6, atol=1e-4)
    assert len(draw.latents) == model.levels


@each_config
def test_samples_in_chunks_and_images_alone_are_the_same_draw(name: str) -> None:
    model, batch = made(name)
    noise = Noise.from_seed(3, 4)
    whole = model.draw(batch, (5,), noise)
    parts = [model.draw(batch, (count,), noise._replace(first_sample=first)) for first, count in ((0, 2), (2, 3))]
    assert whole.log_w is not None
    torch.testing.assert_close(torch.cat([part.log_w for part in parts]), whole.log_w, rtol=1e-5, atol=1e-4)
    rows = torch.tensor([2])
    alone = Batch(
        batch.input[rows], batch.target[rows], None if batch.condition is None else batch.condition[rows], None, rows
    )
    one = model.draw(alone, (5,), Noise(noise.key, rows))
    torch.testing.assert_close(one.log_w, whole.log_w[:, rows], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(flat(one), flat(whole)[:, rows], rtol=1e-5, atol=1e-5)


@each_config
def test_weights_are_ratios_of_densities_and_rates_their_means(name: str) -> None:
    """log w from torch's own normal densities; and over many samples its latents' part is the closed-form rate."""
    model, batch = made(name, 2)
    with torch.no_grad():
        draw = model.draw(batch, (4000,), Noise.from_seed(0, 2))
        total = draw.log_p_x
        for latent in draw.latents:
            prior = torch.distributions.Normal(0.0, 1.0)
            if isinstance(latent.prior, DiagonalGaussian):
                prior = torch.distributions.Normal(latent.prior.loc, latent.prior.scale)
            posterior = torch.distributions.Normal(latent.posterior.loc, latent.posterior.scale)
            ratio = (prior.log_prob(latent.value) - posterior.log_prob(latent.value)).sum(-1)
            total = total + ratio
            gap = (-ratio - latent.rate).mean(0)
            error = (-ratio - latent.rate).std(0) / math.sqrt(len(ratio))
            assert (gap.abs() < 5 * error).all()
            assert latent.rate.mean() > 0.01
        torch.testing.assert_close(draw.log_w, total, rtol=1e-4, atol=1e-3)


def tiny() -> tuple[HierarchicalModel, Batch]:
    """Two latents, one given the other, behind an image of 2x2 pixels."""
    config = HierarchicalConfig(latent_dim=None, levels=(2,), latent_channels=(1,), widths=(5,), activation="tanh")
    model = build(config, (1, 2, 2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "write" in name or "output" in name:
                parameter.mul_(2.0)
    return model, cases.plain_batch(torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)).round())


@torch.no_grad()
def test_bounds_of_two_levels_are_those_of_quadrature() -> None:
    """p(x) and the ELBO by sums over a grid of both latents, and by samples."""
    model, batch = tiny()
    line = torch.linspace(-9.0, 9.0, 361)
    first, second = (part.flatten()[:, None] for part in torch.meshgrid(line, line, indexing="ij"))
    area = (line[1] - line[0]) ** 2
    features = model.encoder(batch.input)
    log_p = torch.zeros(len(first))
    log_q = torch.zeros(3, len(first))

    def choose(number: int, group: Group, path: Tensor) -> Tensor:
        value = (first, second)[number]
        prior = group.prior(path)
        log_p.add_(prior.log_prob(value))
        for image in range(3):
            seen = group.seen(features[group.resolution][image : image + 1], None)
            log_q[image] += group.posterior(path, seen, prior).log_prob(value)
        return value

    likelihood = model.likelihood(model.decoder(None, choose))
    draw = model.draw(batch, (20000,), Noise.from_seed(0, 3))
    for image in range(3):
        log_p_x = likelihood.log_prob(batch.target[image : image + 1])
        assert (log_q[image].exp().sum() * area).item() == pytest.approx(1.0, abs=1e-3)
        exact = (torch.logsumexp(log_p + log_p_x, 0) + area.log()).item()
        q = log_q[image].exp() * area
        elbo = (q * (log_p_x + log_p - log_q[image])).sum().item()
        rate = (q * (log_q[image] - log_p)).sum().item()
        found = torch.logsumexp(draw.log_w[:, image], 0).item() - math.log(20000)
        assert found == pytest.approx(exact, abs=0.02)
        assert draw.elbo[:, image].mean().item() == pytest.approx(elbo, abs=0.02)
        assert draw.rate[:, image].mean().item() == pytest.approx(rate, abs=0.02)
        assert rate > 0.1
        assert elbo < exact - 0.01


def test_heads_that_read_nothing_give_rates_in_closed_form() -> None:
    """With constant heads all levels are independent: each latent's KL(N(m, s) || N(0, 1)) is known by hand."""
    model, batch = made("4 levels")
    expected = []
    with torch.no_grad():
        for number, group in enumerate(model.decoder.groups):
            for name, parameter in group.named_parameters():
                if "head" in name:
                    parameter.zero_()
            head: Any = group.head[-1] if number == 0 else group.posterior_head[-1]  # type: ignore[index]
            mean, raw = 0.2 * (number + 1), -0.5 * number
            head.bias.copy_(torch.tensor([mean, raw]).repeat_interleave(len(head.bias) // 2))
            log_scale = 5.0 * math.tanh(raw / 5.0)
            each = 0.5 * (mean**2 + math.exp(2.0 * log_scale) - 1.0) - log_scale
            expected.append(group.num_latents * each)
    draw = model.draw(batch, (2,), Noise.from_seed(0, 4))
    for latent, rate in zip(draw.latents, expected, strict=True):
        torch.testing.assert_close(latent.rate.expand(2, 4), torch.full((2, 4), rate), rtol=1e-4, atol=1e-4)


def test_the_posterior_moves_along_with_the_prior() -> None:
    """A shift of a level's prior mean shifts the posterior as far, and leaves that level's rate as it was."""
    model, batch = made("maps alone")
    level: Any = model.decoder.groups[-1]
    before = model.draw(batch, (), Noise.from_seed(0, 4)).latents[-1]
    with torch.no_grad():
        level.prior_head[-1].bias[: level.shape[0]] += 3.0
    after = model.draw(batch, (), Noise.from_seed(0, 4)).latents[-1]
    torch.testing.assert_close(after.posterior.loc, before.posterior.loc + 3.0)
    torch.testing.assert_close(after.rate, before.rate, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        level.prior_head[-1].bias[level.shape[0] :] += 0.5
    wider = model.draw(batch, (), Noise.from_seed(0, 4)).latents[-1]
    of_prior, of_posterior = (
        getattr(wider, part).log_scale - getattr(after, part).log_scale for part in ("prior", "posterior")
    )
    assert of_prior.mean() > 0.3
    torch.testing.assert_close(of_posterior, of_prior)


@each_config
def test_codes_are_means_along_the_path_of_means(name: str) -> None:
    """Drawing with posteriors of no width gives the mean of `encode`."""
    model, batch = made(name)
    mean = model.encode(batch.input, batch.condition).mean
    with torch.no_grad():
        for group in model.decoder.groups:
            head: Any = group.head[-1] if hasattr(group, "head") else group.posterior_head[-1]
            head.bias[len(head.bias) // 2 :] -= 1000.0  # as far as it goes: 5 below the prior's
            if getattr(group, "prior_head", None) is not None:
                group.prior_head[-1].bias[group.shape[0] :] -= 1000.0  # type: ignore[index]
    narrow = flat(model.draw(batch, (), Noise.from_seed(0, 4)))
    assert (narrow - mean).abs().max() < 0.2
    torch.testing.assert_close(model.encode(batch.input, batch.condition).mean, mean, rtol=1e-4, atol=1e-4)


@each_config
def test_a_temperature_for_each_level_in_the_order_of_drawing(name: str) -> None:
    model, batch = made(name)
    condition, levels = batch.condition, model.levels
    sizes = [group.num_latents for group in model.decoder.groups]

    def drawn(seed: int, *temperatures: float) -> Tensor:
        return model.sample_prior(4, condition, Noise.from_seed(seed, 4), temperatures)

    plain = model.sample_prior(4, condition, Noise.from_seed(0, 4))
    assert torch.equal(drawn(0, *[1.0] * levels), plain)
    cold = drawn(0, *[0.0] * levels)
    assert torch.equal(cold, drawn(9, *[0.0] * levels))
    only_first = drawn(0, 1.0, *[0.0] * (levels - 1)).split(sizes, -1)
    assert torch.equal(only_first[0], plain.split(sizes, -1)[0])
    all_but_first = drawn(0, 0.0, *[1.0] * (levels - 1)).split(sizes, -1)
    assert not all_but_first[0].any()
    assert not torch.equal(all_but_first[1], cold.split(sizes, -1)[1])
    half = drawn(0, 0.5, *[1.0] * (levels - 1)).split(sizes, -1)
    torch.testing.assert_close(half[0], 0.5 * plain.split(sizes, -1)[0])
    middle, usual = only_first[1], drawn(0, 1.0, 1.0, *[0.0] * (levels - 2)).split(sizes, -1)[1]
    between = drawn(0, 1.0, 0.5, *[0.0] * (levels - 2)).split(sizes, -1)[1]
    assert middle.any()  # the prior's mean given the level before, not 0
    torch.testing.assert_close(between, 0.5 * (middle + usual))


def test_the_condition_reaches_prior_and_posterior() -> None:
    model, batch = made("labels")
    assert batch.condition is not None
    other = (batch.condition + 1) % len(cases.CLASSES)
    noise = Noise.from_seed(0, 4)
    zeros = torch.zeros(4, model.encode(batch.input, batch.condition).mean.shape[1])
    one, two = (
        model.encode(batch.input, given).mean.split((2, zeros.shape[1] - 2), -1) for given in (batch.condition, other)
    )
    assert not any(torch.equal(mine, yours) for mine, yours in zip(one, two, strict=True))  # the vector, and the maps
    assert not torch.equal(model.decode(zeros, other).mean, model.decode(zeros, batch.condition).mean)
    first, second = (model.sample_prior(4, given, noise)[:, 2:] for given in (batch.condition, other))
    assert not torch.equal(first, second)


def test_labels_are_hidden_in_training_and_guidance_goes_on_from_what_is_made_without() -> None:
    config, shape = CONFIGS["labels"]
    model = build(dataclasses.replace(config, conditioning=Embedding(label_dropout=0.5)), shape)
    _, batch = made("labels")
    noise = Noise.from_seed(0, 4)
    hidden = hide(batch.condition, 0.5, noise)
    assert 0 < (hidden < 0).sum() < 4
    told, plain = (model.draw(batch._replace(condition=given), (), noise) for given in (hidden, batch.condition))
    seen = model.train().draw(batch, (), noise)
    torch.testing.assert_close(seen.elbo, told.elbo)
    assert not torch.allclose(seen.elbo, plain.elbo)
    values = flat(plain)
    given, free = (model.decode(values, each).logits for each in (batch.condition, torch.full((4,), -1)))
    with model.guided(3.0):
        torch.testing.assert_close(model.decode(values, batch.condition).logits, free + 3.0 * (given - free))


def test_free_bits_of_latents_channels_and_levels() -> None:
    model, batch = made("4 levels")
    draw = model.draw(batch, (), Noise.from_seed(0, 4))
    rates = [latent.rate_by_dimension.mean(0).tolist() for latent in draw.latents]
    channels = [[sum(row[i : i + size]) for i in range(0, len(row), size)] for row, size in zip(
        rates, [1, *(math.prod(latent.shape[1:]) for latent in draw.latents[1:])], strict=True
    )]  # fmt: skip
    groups = {"latent": rates, "channel": channels, "level": [[sum(row)] for row in rates]}
    assert [len(row) for row in channels] == [2, 3, 1, 1]
    for name, rows in groups.items():
        parts = sorted(value for row in rows for value in row)
        floor = (parts[0] + parts[-1]) / 2
        losses, terms = FreeBits(free_group=name)(draw, batch, cases.context(4, beta=2.0, free_bits=floor))  # type: ignore[arg-type]
        expected = draw.distortion.mean().item() + 2.0 * sum(max(floor, part) for part in parts)
        assert losses[MODEL].item() == pytest.approx(expected, rel=1e-5)
        assert 0 < terms[f"{name}s_at_free_bits"] < len(parts)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"levels": (1,)}, "--levels 1: 1 numbers for the 2 resolutions of --widths; give one for each, such as 1,1"),
        (
            {"latent_channels": (1, 2, 3)},
            "--latent-channels 1,2,3: 3 numbers for the 2 resolutions of --widths; give one for each, such as 1,2",
        ),
        ({"widths": (2,) * 9, "levels": (3,)}, "give one for each, such as 3,3,3,3,3,3,3,3,3$"),
        ({"levels": (0, 0), "latent_dim": None}, "--levels: no level has latents"),
    ],
)
def test_settings_that_do_not_agree_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        HierarchicalConfig(**settings).build(cases.info((1, 8, 8)))


def test_another_input_size_is_refused() -> None:
    info = dataclasses.replace(cases.info((1, 8, 8)), input_shape=(1, 4, 4))
    with pytest.raises(InputError, match="reads images of the size that it makes"):
        HierarchicalConfig().build(info)
