"""Free bits: a floor under the mean rate of each latent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import zuko
from test_bounds import random_draw
from torch import Tensor, nn

import cases
from vaekit.data.batches import Data
from vaekit.errors import InputError
from vaekit.latents.gaussian import DiagonalGaussianHead, StandardNormalPrior
from vaekit.models.draw import Draw, Latent
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.networks.mlp import MLP
from vaekit.objectives import bounds
from vaekit.objectives.free_bits import FreeBits
from vaekit.objectives.table import MODEL
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal
from vaekit.probability.likelihoods import BernoulliImage
from vaekit.settings import configure
from vaekit.training.processes import Processes
from vaekit.training.reporting import Silent
from vaekit.training.step import TrainingStep, numeric_fields
from vaekit.training.train import train
from vaekit.training.validation import validate


def rates_of(draw: Draw) -> list[list[float]]:
    """KL of each image and latent against N(0, 1), by torch's own formula."""
    q = draw.latents[0].posterior
    prior = torch.distributions.Normal(0.0, 1.0)
    return torch.distributions.kl_divergence(torch.distributions.Normal(q.loc, q.scale), prior).tolist()


def loss_of(draw: Draw, free_bits: float, beta: float = 1.0) -> Tensor:
    context = cases.context(beta=beta, free_bits=free_bits)
    losses, _ = FreeBits()(draw, None, context)  # type: ignore[arg-type]
    assert set(losses) == {MODEL}
    return losses[MODEL]


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("free_bits", [0.0, 0.3, 0.6, 1.0, 50.0])
def test_values_are_those_of_the_formula(free_bits: float, beta: float) -> None:
    draw = random_draw()
    table = rates_of(draw)
    total = 0.0
    for latent in range(3):
        total += max(free_bits, sum(row[latent] for row in table) / len(table))
    expected = draw.distortion.mean().item() + beta * total
    assert loss_of(draw, free_bits, beta).item() == pytest.approx(expected, rel=1e-6)


def test_the_floors_used_above_bind_some_latents_and_not_all() -> None:
    means = torch.tensor(rates_of(random_draw())).mean(0)
    assert 0.3 < means.max() < 50.0
    assert ((means > 0.6).sum(), (means < 1.0).sum()) != (0, 0)
    assert len({int((means > floor).sum()) for floor in (0.0, 0.3, 0.6, 1.0, 50.0)}) >= 3


def test_nothing_free_is_the_elbo() -> None:
    draw = random_draw()
    torch.testing.assert_close(loss_of(draw, 0.0), -bounds.elbo(draw).mean())


def test_the_mean_comes_before_the_floor() -> None:
    """An image above the floor and one below it are weighed together: max of the mean, not mean of the max."""
    q = DiagonalGaussian(torch.tensor([[2.0], [0.0]]), torch.zeros(2, 1))  # rates 2 and 0
    draw = Draw(
        (Latent(q.loc, q, StandardNormal(1)),), BernoulliImage(torch.zeros(2, 1, 1, 1)), torch.zeros(2, 1, 1, 1)
    )
    distortion = draw.distortion.mean().item()
    assert loss_of(draw, 0.5).item() == pytest.approx(distortion + 1.0)
    assert loss_of(draw, 1.5).item() == pytest.approx(distortion + 1.5)


def test_a_latent_below_its_free_bits_feels_nothing_and_others_do() -> None:
    loc = torch.tensor([[0.1, 2.0], [-0.2, 1.0]], requires_grad=True)
    log_scale = torch.zeros(2, 2, requires_grad=True)
    q = DiagonalGaussian(loc, log_scale)
    draw = Draw(
        (Latent(loc.detach(), q, StandardNormal(2)),), BernoulliImage(torch.zeros(2, 1, 1, 1)), torch.zeros(2, 1, 1, 1)
    )
    loss_of(draw, 0.5).backward()
    assert torch.equal(loc.grad[:, 0], torch.zeros(2))
    assert torch.equal(loc.grad[:, 1], loc[:, 1].detach() / 2)  # d/dloc of the mean of loc^2 / 2
    assert torch.equal(log_scale.grad, torch.zeros(2, 2))  # at scale 1 the rate has its least value


def test_groups_and_samples_are_taken_in() -> None:
    """A second group whose parameters differ from sample to sample: its mean is over samples and images."""
    generator = torch.Generator().manual_seed(0)
    first = DiagonalGaussian(torch.randn(4, 2, generator=generator), torch.zeros(4, 2))
    second = DiagonalGaussian(torch.randn(5, 4, 3, generator=generator), torch.zeros(5, 4, 3))
    groups = (Latent(first.loc, first, StandardNormal(2)), Latent(second.loc, second, StandardNormal(3)))
    draw = Draw(groups, BernoulliImage(torch.zeros(5, 4, 1, 1, 1)), torch.zeros(4, 1, 1, 1))
    means = [*(0.5 * first.loc.square()).mean(0), *(0.5 * second.loc.square()).mean((0, 1))]
    expected = draw.distortion.mean() + sum(max(0.4, float(mean)) for mean in means)
    torch.testing.assert_close(loss_of(draw, 0.4), expected)


def test_the_log_counts_latents_at_their_floor() -> None:
    draw = random_draw()
    means = sorted(torch.tensor(rates_of(draw)).mean(0).tolist())
    for floor, count in ((means[0] / 2, 0), (means[0] * 1.01, 1), (means[2] * 2, 3)):
        _, terms = FreeBits()(draw, None, cases.context(beta=1.0, free_bits=floor))  # type: ignore[arg-type]
        assert terms["latents_at_free_bits"].item() == count


def test_processes_join_their_means() -> None:
    """Two processes of two images see the floor against the mean of four."""
    draw = random_draw()
    q = draw.latents[0].posterior
    halves = []
    for part in (slice(0, 2), slice(2, 4)):
        own = DiagonalGaussian(q.loc[part], q.log_scale[part])
        halves.append(
            Draw(
                (Latent(own.loc, own, StandardNormal(3)),),
                BernoulliImage(draw.likelihood.logits[part]),
                draw.target[part],
            )
        )
    means = torch.stack([half.latents[0].rate_by_dimension.mean(0) for half in halves])
    losses = []
    for half in halves:
        context = cases.context(beta=1.0, free_bits=0.6)
        context.gather = lambda tensor: means if tensor.shape == (1, 3) else pytest.fail("gathers a row of means")
        losses.append(FreeBits()(half, None, context)[0][MODEL])  # type: ignore[arg-type]
    torch.testing.assert_close(torch.stack(losses).mean(), loss_of(draw, 0.6))


def test_only_models_whose_latents_have_rates_of_their_own_can_be_trained(tmp_path: Any) -> None:
    parts = [nn.Flatten(), nn.Linear(4, 4), nn.Identity()]
    head, flow = DiagonalGaussianHead(4, 2), zuko.flows.MAF(2, 0)
    diagonal = VAEModel(parts[0], head, StandardNormalPrior(2), *parts[1:])
    assert "rate_by_dimension" in diagonal.provides
    for posterior, prior in ((head, flow), (flow, StandardNormalPrior(2))):
        assert "rate_by_dimension" not in VAEModel(parts[0], posterior, prior, *parts[1:]).provides


def test_what_lacks_it_is_refused_in_one_sentence(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandardNormalPrior, "diagonal", False)
    with pytest.raises(
        InputError, match=r"^--objective free-bits: needs a rate for each latent \(Gaussian posterior and"
    ):
        train(tmp_path / "run", "mlp", data="digits", objective="free-bits", observer=Silent())


def test_validation_reports_the_true_bound() -> None:
    torch.manual_seed(0)
    model = VAEConfig(latent_dim=3, network=MLP(hidden=(9,))).build(cases.info((1, 8, 8)))
    images = cases.random_images((1, 8, 8), 23)
    plain = []
    for free_bits in (0.0, 7.0):
        objective = FreeBits(free_bits=free_bits)
        step = TrainingStep(model, objective, {}, Data(), 100)
        plain.append(validate(step, images, 0, 7, numeric_fields(objective), Processes(torch.device("cpu"))))
    for name in ("elbo_nats", "rate_nats", "distortion_nats"):
        assert plain[0][name] == plain[1][name]
    assert plain[1]["loss"] == pytest.approx(plain[1]["distortion_nats"] + 21.0, rel=1e-6)
    assert plain[0]["loss"] == pytest.approx(-plain[0]["elbo_nats"], rel=1e-6)


@pytest.mark.slow
def test_more_free_bits_keep_more_latents_in_use(tmp_path: Any) -> None:
    """On digits: the floor holds the rate of each latent at about what is free, and is the knob's meaning."""
    found = []
    for free_bits in (0.0, 1.0):
        given = configure(
            "mlp", data="digits", objective="free-bits", free_bits=free_bits, latent_dim=8, epochs=6, threads=1
        )
        run = train(tmp_path / f"run-{free_bits}", config=given, observer=Silent())
        found.append(run.metrics()[-1]["val"]["rate_nats"])
    assert found[0] < 4.0
    assert 6.0 < found[1] < 10.0  # 8 latents with a nat each
