"""Rates of levels that are balanced by their shares, and even in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
from vaekit.models.draw import Draw, Latent
from vaekit.models.hierarchical import HierarchicalConfig
from vaekit.objectives import bounds
from vaekit.objectives.balanced import Balanced
from vaekit.objectives.table import MODEL
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal
from vaekit.probability.likelihoods import BernoulliImage
from vaekit.settings import configure
from vaekit.training.reporting import Silent
from vaekit.training.train import train


def of_levels(*sizes: float) -> Draw:
    """A draw whose levels have three latents each, with means of about such sizes, for four images."""
    g = torch.Generator().manual_seed(0)
    latents = []
    for number, size in enumerate(sizes):
        q = DiagonalGaussian(
            (size * torch.randn(4, 3, generator=g)).requires_grad_(), torch.full((4, 3), -0.1 * number)
        )
        latents.append(Latent(q.loc, q, StandardNormal(3)))
    return Draw(tuple(latents), BernoulliImage(torch.randn(4, 1, 2, 2, generator=g)), torch.ones(4, 1, 2, 2))


def loss_of(draw: Draw, evenness: float, beta: float = 1.0) -> Tensor:
    context = cases.context(beta=beta, evenness=evenness, even_epochs=1.0)
    losses, _ = Balanced()(draw, None, context)  # type: ignore[arg-type]
    assert set(losses) == {MODEL}
    return losses[MODEL]


def rates_of(draw: Draw) -> list[float]:
    return [latent.rate.mean().item() for latent in draw.latents]


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("evenness", [0.0, 0.4, 1.0])
def test_values_are_those_of_the_formula(evenness: float, beta: float) -> None:
    draw = of_levels(0.2, 1.0, 2.0)
    rates = rates_of(draw)
    weights = [evenness + (1 - evenness) * 3 * rate / sum(rates) for rate in rates]
    expected = draw.distortion.mean().item() + beta * sum(w * rate for w, rate in zip(weights, rates, strict=True))
    assert loss_of(draw, evenness, beta).item() == pytest.approx(expected, rel=1e-6)


def test_even_levels_and_one_level_alone_are_the_elbo() -> None:
    draw = of_levels(0.2, 1.0, 2.0)
    torch.testing.assert_close(loss_of(draw, 1.0), -bounds.elbo(draw).mean())
    alone = of_levels(0.7)
    for evenness in (0.0, 0.5):
        torch.testing.assert_close(loss_of(alone, evenness), -bounds.elbo(alone).mean())


def test_a_level_pays_by_its_share_and_shares_are_no_path_of_gradients() -> None:
    """The gradient of a level's means is its weight times that of the rate: loc / 4 for the mean over four images."""
    draw = of_levels(0.2, 1.0, 2.0)
    rates = rates_of(draw)
    locs = [latent.posterior.loc for latent in draw.latents]
    for loc, rate, pull in zip(locs, rates, torch.autograd.grad(loss_of(draw, 0.0), locs), strict=True):
        torch.testing.assert_close(pull, 3 * rate / sum(rates) * loc.detach() / 4)


def test_no_rate_at_all_is_no_division_by_nothing() -> None:
    draw = of_levels(0.0, 0.0)
    loss = loss_of(draw, 0.0)
    (pull,) = torch.autograd.grad(loss, draw.latents[0].posterior.loc)
    assert torch.isfinite(loss)
    assert torch.isfinite(pull).all()


def test_processes_join_their_means() -> None:
    draw = of_levels(0.2, 1.0)
    context = cases.context(beta=1.0, evenness=0.0, even_epochs=1.0)
    other = torch.tensor([[5.0, 1.0]])
    context.gather = lambda tensor: torch.cat([tensor, other])
    rates = (torch.tensor(rates_of(draw)) + other[0]) / 2
    expected = draw.distortion.mean() + (2 * rates / rates.sum() * rates).sum()
    torch.testing.assert_close(Balanced()(draw, None, context)[0][MODEL], expected)  # type: ignore[arg-type]


def test_evenness_and_beta_grow_in_a_line_and_stay() -> None:
    objective = Balanced(even_epochs=4.0)
    for name in ("evenness", "beta"):
        assert [objective.factors(epochs)[name] for epochs in (0.0, 1.0, 2.0, 4.0, 400.0)] == [0, 0.25, 0.5, 1, 1]


def test_a_schedule_of_beta_comes_on_top() -> None:
    config = configure("hierarchical", even_epochs=4.0, beta_schedule="linear", beta_warmup_epochs=8.0)
    assert config.factors(2.0) == {"evenness": 0.5, "beta": 0.125}


def test_a_hierarchy_trains_on_it(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "data": "digits", "train_limit": 250, "validation": 51, "batch_size": 32, "levels": "1,1", "widths": "4,8",
        "latent_dim": 4, "epochs": 2, "objective": "balanced", "even_epochs": 1.5, "device": "cpu", "threads": 1,
    }  # fmt: skip
    run = train(tmp_path / "run", config=configure("hierarchical", **given), observer=Silent())
    assert isinstance(run.config.model, HierarchicalConfig)
    first, last = run.metrics()
    assert first["evenness"] < last["evenness"] == last["beta"] == 1.0
    val = last["val"]
    assert val["elbo_nats"] == pytest.approx(-(val["distortion_nats"] + val["rate_nats"]))
    assert val["loss"] == pytest.approx(-val["elbo_nats"], rel=1e-5)  # even by then: the bound itself
