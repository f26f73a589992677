"""The parts of the rate: against brute force over batches, against numerical integration, and as a loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from test_bounds import random_draw
from torch import Tensor, nn

import cases
from vaekit.models.draw import Draw, Latent
from vaekit.noise import Noise
from vaekit.objectives.table import MODEL, Context
from vaekit.objectives.total_correlation import BetaTCVAE, Parts, log_aggregate, rate_parts
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal
from vaekit.probability.likelihoods import BernoulliImage
from vaekit.settings import configure
from vaekit.training.reporting import Silent
from vaekit.training.train import train

ESTIMATORS = ["stratified", "weighted"]
N, M = 5, 3


def context(tc: float = 6.0, mi: float = 1.0, dimension: float = 1.0, num_train: int = 100) -> Context:
    made = cases.context(4, tc_weight=tc, mi_weight=mi, dimension_weight=dimension)
    made.num_train = num_train
    return made


def loss_of(draw: Draw, told: Context, estimator: str = "stratified") -> Tensor:
    """The weights come from the context, not from the objective's own fields."""
    objective = BetaTCVAE(tc_weight=77.0, mi_weight=66.0, dimension_weight=55.0, tc_estimator=estimator)  # type: ignore[arg-type]
    losses, _ = objective(draw, None, told)  # type: ignore[arg-type]
    assert set(losses) == {MODEL}
    return losses[MODEL]


def pairs(*further: int) -> Tensor:
    """log q(z_n | x_m) of N images and codes, (N, N, *further)."""
    return 2.0 * torch.randn(N, N, *further, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def mean_over_batches(estimate: Callable[[Tensor], Tensor], table: Tensor) -> Tensor:
    """The mean of exp(estimate) for each image over all batches of M images that hold it, (N, ...)."""
    sums, counts = torch.zeros_like(table[:, 0]), [0] * N
    for batch in itertools.permutations(range(N), M):
        found = estimate(table[list(batch)][:, list(batch)]).exp()
        for row, image in enumerate(batch):
            sums[image] += found[row]
            counts[image] += 1
    assert set(counts) == {N * (N - 1) * (N - 2) * M // N}
    return sums / counts[0]


def as_in_the_paper(table: Tensor) -> Tensor:
    """Appendix C.2 with loops: the other images in their order, the last of them with the odd weight."""
    rows = []
    for n in range(M):
        others = [m for m in range(M) if m != n]
        size = M - 1
        density = table[n, n].exp() / N
        density = density + sum(table[n, m].exp() for m in others[:-1]) / size
        rows.append(density + (N - size) / (N * size) * table[n, others[-1]].exp())
    return torch.stack(rows).log()


@pytest.mark.parametrize("further", [(), (2,)])
def test_the_stratified_estimate_is_unbiased(further: tuple[int, ...]) -> None:
    table = pairs(*further)
    found = mean_over_batches(lambda each: log_aggregate(each, N, "stratified"), table)
    torch.testing.assert_close(found, table.exp().mean(1), rtol=1e-12, atol=0)


def test_it_is_the_papers_averaged_over_the_last_image_of_a_batch() -> None:
    table = pairs()
    torch.testing.assert_close(mean_over_batches(as_in_the_paper, table), table.exp().mean(1), rtol=1e-12, atol=0)
    batch = table[:M, :M]
    flipped = as_in_the_paper(batch[[0, 2, 1]][:, [0, 2, 1]])
    both = 0.5 * (as_in_the_paper(batch)[0].exp() + flipped[0].exp())
    torch.testing.assert_close(log_aggregate(batch, N, "stratified")[0].exp(), both, rtol=1e-12, atol=0)


def test_the_weighted_estimate_counts_the_image_itself_too_much() -> None:
    table = pairs()
    found = mean_over_batches(lambda each: log_aggregate(each, N, "weighted"), table)
    own = table.exp().diagonal()
    others = (table.exp().sum(1) - own) / (N - 1)
    torch.testing.assert_close(found, own / M + (M - 1) / M * others, rtol=1e-12, atol=0)
    assert ((found - table.exp().mean(1)).abs() > 1e-3).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_image_has_its_own_weight_wherever_it_stands(estimator: Any) -> None:
    """Weights in the wrong columns change with the order of the batch."""
    table = pairs(2)
    whole = log_aggregate(table, 1000, estimator)
    for order in itertools.permutations(range(N)):
        moved = log_aggregate(table[list(order)][:, list(order)], 1000, estimator)
        torch.testing.assert_close(moved, whole[list(order)])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_weights_are_a_distribution(estimator: Any) -> None:
    for num_train, batch in itertools.product((1, 2, 7, 60000), (1, 2, 7, 50)):
        same = torch.full((batch, batch), -3.5, dtype=torch.float64)
        torch.testing.assert_close(log_aggregate(same, num_train, estimator), same[0])


def mixture() -> DiagonalGaussian:
    """Posteriors of four images in two dimensions, apart and dependent."""
    loc = torch.tensor([[-1.5, -1.0], [-0.5, 0.5], [0.5, 0.3], [2.0, 1.5]], dtype=torch.float64)
    log_scale = torch.tensor([[0.5, 0.8], [0.3, 1.0], [0.7, 0.4], [0.6, 0.5]], dtype=torch.float64).log()
    return DiagonalGaussian(loc, log_scale)


def integrated() -> tuple[float, float, float]:
    """Mutual information, total correlation and dimension-wise KL of the mixture, by sums over a grid."""
    q = mixture()
    axis = np.linspace(-9.0, 9.0, 1201)
    step = axis[1] - axis[0]
    loc, scale = q.loc.numpy()[..., None], q.scale.numpy()[..., None]
    one = np.exp(-0.5 * ((axis - loc) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))  # (image, latent, place)
    each = one[:, 0, :, None] * one[:, 1, None, :]
    aggregate, first, second = each.mean(0), one[:, 0].mean(0), one[:, 1].mean(0)
    prior = np.exp(-0.5 * axis**2) / math.sqrt(2 * math.pi)
    tiny = np.finfo(float).tiny

    def divergence(p: np.ndarray, against: np.ndarray, cell: float) -> float:
        return float((p * np.log((p + tiny) / (against + tiny))).sum() * cell)

    mutual = np.mean([divergence(p, aggregate, step**2) for p in each])
    total = divergence(aggregate, first[:, None] * second[None], step**2)
    return float(mutual), total, divergence(first, prior, step) + divergence(second, prior, step)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_parts_are_those_of_numerical_integration(estimator: Any) -> None:
    """With the whole data set as one batch both estimates are exact; what is left is the error of sampling z."""
    q = mixture()
    noise = torch.randn(4, 20000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = q.loc[:, None] + q.scale[:, None] * noise
    found = rate_parts(z, q.loc, q.log_scale, StandardNormal(2).log_prob(z), 4, estimator)
    expected = integrated()
    assert min(expected) > 0.3  # none of the parts is small beside the error allowed
    for part, value in zip(found, expected, strict=True):
        assert part.shape == (4, 20000)
        error = (part.var(1) / 20000).sum().sqrt().item() / 4  # images are fixed: strata of the sample
        assert abs(part.mean().item() - value) < 4 * error  # z = 4
        assert error < 0.01


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("sample_shape", [(), (5,), (2, 3)])
def test_weights_of_one_are_the_sampled_bound(estimator: str, sample_shape: tuple[int, ...]) -> None:
    draw = random_draw(sample_shape)
    assert draw.log_w is not None
    torch.testing.assert_close(loss_of(draw, context(tc=1.0), estimator), -draw.log_w.mean(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("sample_shape", [(), (2,)])
def test_values_are_those_of_the_formula(estimator: str, sample_shape: tuple[int, ...]) -> None:
    """With loops over images, samples and latents, densities from torch's own distributions."""
    draw = random_draw(sample_shape)
    q, values = draw.latents[0].posterior, draw.latents[0].value.reshape(-1, 4, 3)
    images, data_set = 4, 100
    own = 1 / images if estimator == "weighted" else 1 / data_set
    other = 1 / images if estimator == "weighted" else (data_set - 1) / data_set / (images - 1)
    mutual = total = dimension = 0.0
    for sample in values:
        for n in range(images):
            density, marginals = 0.0, [0.0, 0.0, 0.0]
            for m in range(images):
                one = torch.distributions.Normal(q.loc[m], q.scale[m]).log_prob(sample[n]).double()
                weight = own if m == n else other
                density += weight * math.exp(one.sum())
                marginals = [old + weight * math.exp(new) for old, new in zip(marginals, one, strict=True)]
            given = torch.distributions.Normal(q.loc[n], q.scale[n]).log_prob(sample[n]).sum().item()
            independent = sum(map(math.log, marginals))
            mutual += given - math.log(density)
            total += math.log(density) - independent
            dimension += independent - torch.distributions.Normal(0.0, 1.0).log_prob(sample[n]).sum().item()
    count = len(values) * images
    objective = BetaTCVAE(tc_estimator=estimator)  # type: ignore[arg-type]
    losses, terms = objective(draw, None, context(6.0, 0.5, 2.0))  # type: ignore[arg-type]
    expected = draw.distortion.mean().item() + (0.5 * mutual + 6.0 * total + 2.0 * dimension) / count
    assert losses[MODEL].item() == pytest.approx(expected, rel=1e-5)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {
            "mutual_information_nats": mutual / count,
            "total_correlation_nats": total / count,
            "dimension_wise_kl_nats": dimension / count,
        },
        rel=1e-4,
    )
    assert not any(value.requires_grad for value in terms.values())


def part(draw: Draw, rows: slice) -> Draw:
    """The draw of some of its images."""
    (latent,) = draw.latents
    posterior = latent.posterior
    if isinstance(posterior, DiagonalGaussian):
        posterior = DiagonalGaussian(posterior.loc[rows], posterior.log_scale[rows])
    assert isinstance(draw.likelihood, BernoulliImage)
    value, logits = latent.value[..., rows, :], draw.likelihood.logits[..., rows, :, :, :]
    return Draw((Latent(value, posterior, latent.prior),), BernoulliImage(logits), draw.target[rows])


def mean_of_two_processes(objective: Any, draw: Draw, told: Context) -> Tensor:
    """The mean loss of two processes, each with half of the images, that join what they gather."""
    halves = [slice(0, len(draw.target) // 2), slice(len(draw.target) // 2, None)]
    contexts = [replace(told, noise=told.noise._replace(index=told.noise.index[rows])) for rows in halves]
    given: list[list[Tensor]] = [[], []]
    for asked, rows, own in zip(given, halves, contexts, strict=True):
        own.gather = lambda tensor, asked=asked: asked.append(tensor) or tensor  # type: ignore[misc]
        objective(part(draw, rows), None, own)
    assert len(given[0]) == len(given[1]) > 0
    losses = []
    for rows, own in zip(halves, contexts, strict=True):
        both = iter(zip(*given, strict=True))
        own.gather = lambda tensor, both=both: torch.cat(next(both))  # type: ignore[misc]
        losses.append(objective(part(draw, rows), None, own)[0][MODEL])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("sample_shape", [(), (5,)])
def test_processes_join_their_codes(estimator: str, sample_shape: tuple[int, ...]) -> None:
    draw = random_draw(sample_shape)
    whole = loss_of(draw, context(), estimator)
    objective = BetaTCVAE(tc_estimator=estimator)  # type: ignore[arg-type]
    torch.testing.assert_close(mean_of_two_processes(objective, draw, context()), whole)
    apart = torch.stack([loss_of(part(draw, rows), context(), estimator) for rows in (slice(0, 2), slice(2, 4))])
    assert abs(apart.mean() - whole) > 0.01


def test_a_batch_of_one_has_only_the_dimension_wise_part() -> None:
    draw = part(random_draw(), slice(0, 1))
    rate = -draw.latents[0].log_ratio.item()
    for estimator in ESTIMATORS:
        objective = BetaTCVAE(tc_estimator=estimator)  # type: ignore[arg-type]
        losses, terms = objective(draw, None, context(dimension=2.0))  # type: ignore[arg-type]
        assert losses[MODEL].item() == pytest.approx(draw.distortion.item() + 2.0 * rate, rel=1e-5)
        assert terms["mutual_information_nats"].item() == terms["total_correlation_nats"].item() == 0.0


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("spread", "log_scale"), [(1000.0, -20.0), (1000.0, 8.0), (0.0, -20.0)])
def test_nothing_overflows(estimator: str, spread: float, log_scale: float) -> None:
    """Narrow posteriors far apart: densities of exp(-10^20), whose logarithms are finite."""
    loc = (spread * torch.randn(6, 40, generator=torch.Generator().manual_seed(0))).requires_grad_()
    logs = torch.full((6, 40), log_scale, requires_grad=True)
    q = DiagonalGaussian(loc, logs)
    z = q.sample_from(Noise.from_seed(0, 6), "latent")
    draw = Draw((Latent(z, q, StandardNormal(40)),), BernoulliImage(torch.zeros(6, 1, 1, 1)), torch.zeros(6, 1, 1, 1))
    loss = loss_of(draw, context(), estimator)
    loss.backward()
    assert loss.isfinite()
    assert loc.grad.isfinite().all()
    assert logs.grad.isfinite().all()


def test_mutual_information_is_seen_up_to_the_size_of_the_sample() -> None:
    """Posteriors that never meet carry log N nats; the weighted estimate sees no more than log M."""
    loc = 100.0 * torch.arange(4.0)[:, None]
    z = loc[:, None]
    prior = StandardNormal(1).log_prob(z)
    for estimator, seen in (("stratified", 60000), ("weighted", 4)):
        found: Parts = rate_parts(z, loc, torch.zeros(4, 1), prior, 60000, estimator)  # type: ignore[arg-type]
        torch.testing.assert_close(found.mutual_information, torch.full((4, 1), math.log(seen)))


def settings(**choices: Any) -> Any:
    return configure(
        "mlp", data="digits", objective="beta-tcvae", hidden="32", latent_dim=5, device="cpu", threads=1, **choices
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_training_logs_the_parts(estimator: str, tmp_path: Path) -> None:
    given = settings(epochs=2, train_limit=120, validation=31, batch_size=32, tc_estimator=estimator, tc_weight=3.0)
    run = train(tmp_path / "run", config=given, observer=Silent())
    for record in run.metrics():
        for split in ("train", "val"):
            found = record[split]
            expected = found["distortion_nats"] + 3.0 * found["total_correlation_nats"]
            expected += found["mutual_information_nats"] + found["dimension_wise_kl_nats"]
            assert found["loss"] == pytest.approx(expected, rel=1e-5)


def fitted(**weights: float) -> dict[str, float]:
    """Posteriors of 64 digits and a linear decoder; means of the terms over the last 50 of 200 steps."""
    images = torch.from_numpy(load_digits().images[:64] / 16.0).float()[:, None]
    torch.manual_seed(0)
    loc, log_scale = nn.Parameter(0.1 * torch.randn(64, 3)), nn.Parameter(torch.zeros(64, 3))
    decoder = nn.Linear(3, 64)
    adam = torch.optim.Adam([loc, log_scale, *decoder.parameters()], lr=0.05)
    told, seen = context(**{"tc": 1.0, **weights}, num_train=64), []
    for step in range(200):
        q = DiagonalGaussian(loc, log_scale)
        z = q.sample_from(Noise.from_seed(step, 64), "latent")
        draw = Draw((Latent(z, q, StandardNormal(3)),), BernoulliImage(decoder(z).view(64, 1, 8, 8)), images)
        losses, terms = BetaTCVAE()(draw, None, told)  # type: ignore[arg-type]
        adam.zero_grad()
        losses[MODEL].backward()
        adam.step()
        seen.append(terms)
    return {name: sum(each[name].item() for each in seen[-50:]) / 50 for name in seen[0]}


def test_each_weight_lowers_what_it_weighs() -> None:
    """By more than half."""
    plain = fitted()
    found = {"tc": fitted(tc=20.0), "mi": fitted(mi=3.0), "dimension": fitted(dimension=20.0)}
    assert plain["mutual_information_nats"] > 1.0
    assert found["tc"]["total_correlation_nats"] < 0.5 * plain["total_correlation_nats"]
    assert found["mi"]["mutual_information_nats"] < 0.5 * plain["mutual_information_nats"]
    assert found["dimension"]["dimension_wise_kl_nats"] < 0.5 * plain["dimension_wise_kl_nats"]
