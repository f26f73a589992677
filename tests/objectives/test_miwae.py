"""The mean of several importance-weighted bounds: its ends, and what its two numbers do."""

from __future__ import annotations

import pytest
import torch

from vaekit.objectives import bounds
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.miwae import Miwae
from vaekit.objectives.table import MODEL
from weighted_cases import conditional_draw, conditional_model, gradients, linear, linear_draw, losses_of


def test_it_asks_for_its_samples_and_weights() -> None:
    assert Miwae(3, 7).sample_shape == (3, 7)
    assert Miwae().needs == {"log_w"}
    assert Miwae(gradient="dreg").needs == {"log_w", "path", "vectors"}
    assert Miwae().selects == "iw_elbo_nats"


@pytest.mark.parametrize("gradient", ["standard", "dreg", "stl"])
def test_one_bound_is_iwae(gradient: str) -> None:
    """The same numbers, so that the draws are the same, and the same gradients of every parameter."""
    model, draw = linear_draw((1, 6), 0.4, 0.3)
    _, flat = linear_draw((6,), 0.4, 0.3)
    loss = losses_of(Miwae(1, 6, gradient), draw).players[MODEL]  # type: ignore[arg-type]
    expected = losses_of(Iwae(6, gradient), flat).players[MODEL]  # type: ignore[arg-type]
    torch.testing.assert_close(loss, expected)
    found = gradients(model, loss)
    assert found["posterior.map.bias"].abs().max() > 0.1
    # both draws come from models of equal weights
    other, again = linear_draw((6,), 0.4, 0.3)
    plain = gradients(other, losses_of(Iwae(6, gradient), again).players[MODEL])  # type: ignore[arg-type]
    for name, each in plain.items():
        torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-3)


def test_one_sample_in_each_is_the_mean_of_sampled_elbos() -> None:
    _, draw = linear_draw((6, 1), 0.4, 0.3)
    latent = draw.latents[0]
    by_sample = torch.stack([(draw.log_p_x[m, 0] + latent.log_ratio[m, 0]).mean() for m in range(6)])
    torch.testing.assert_close(losses_of(Miwae(6, 1), draw).players[MODEL], -by_sample.mean())


def test_the_value_is_the_mean_over_bounds_and_lies_between_elbo_and_pooled_bound() -> None:
    _, draw = linear_draw((4, 5), 0.6, 0.5)
    loss = losses_of(Miwae(4, 5), draw).players[MODEL]
    by_hand = torch.stack([bounds.importance_weighted(draw.log_w[m]) for m in range(4)]).mean()
    torch.testing.assert_close(loss, -by_hand)
    pooled = bounds.importance_weighted(draw.log_w, (0, 1)).mean()
    assert draw.log_w.mean() + 0.1 < -loss < pooled - 0.01


def test_more_samples_tighten_it_and_more_bounds_do_not() -> None:
    oracle, images = linear()
    evidence = oracle.log_p(images.numpy()).mean()

    def value(num_bounds: int, num_samples: int) -> float:
        _, draw = linear_draw((num_bounds, num_samples), 0.6, 0.5)
        return -losses_of(Miwae(num_bounds, num_samples), draw).players[MODEL].item()

    assert value(64, 1) + 0.3 < value(16, 4) < value(2, 32) - 0.1
    assert value(2, 32) < evidence
    assert value(16, 4) == pytest.approx(value(64, 4), abs=0.05)


def test_a_conditional_model_learns_everywhere() -> None:
    model = conditional_model()
    for gradient in ("standard", "dreg", "stl"):
        draw = conditional_draw(model, (2, 3))
        found = gradients(model, losses_of(Miwae(2, 3, gradient), draw).players[MODEL])  # type: ignore[arg-type]
        assert all(torch.isfinite(each).all() and each.abs().sum() > 0 for each in found.values())
