"""The beta-VAE loss."""

from __future__ import annotations

import pytest
import torch
from test_bounds import random_draw

import cases
from vaekit.models.draw import Draw
from vaekit.objectives import bounds
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.table import MODEL


def loss_of(draw: Draw, beta: float) -> torch.Tensor:
    losses, _ = Elbo(beta=123.0)(draw, None, cases.context(beta=beta))  # type: ignore[arg-type]
    assert set(losses) == {MODEL}
    return losses[MODEL]


def test_beta_one_is_minus_the_elbo() -> None:
    draw = random_draw()
    torch.testing.assert_close(loss_of(draw, 1.0), -bounds.elbo(draw).mean())


@pytest.mark.parametrize("beta", [0.0, 0.25, 4.0, 1000.0])
def test_beta_weights_the_rate_and_comes_from_the_context(beta: float) -> None:
    """A schedule changes the context's number, not the objective's own."""
    draw = random_draw()
    torch.testing.assert_close(loss_of(draw, beta), (bounds.distortion(draw) + beta * bounds.rate(draw)).mean())


def test_the_gradient_in_beta_is_the_rate() -> None:
    draw = random_draw()
    beta = torch.tensor(2.0, requires_grad=True)
    losses, _ = Elbo()(draw, None, cases.context(beta=beta))  # type: ignore[arg-type]
    losses[MODEL].backward()
    torch.testing.assert_close(beta.grad, bounds.rate(draw).mean())


def test_samples_are_averaged() -> None:
    draw = random_draw((5,))
    torch.testing.assert_close(loss_of(draw, 1.0), -bounds.elbo(draw).mean())


def test_more_samples_are_asked_for_and_pooled_to_the_same_expectation() -> None:
    assert Elbo().sample_shape == ()
    assert Elbo(num_samples=5).sample_shape == (5,)
