"""A mixture of the ELBO and the importance-weighted bound: its ends, and its share."""

from __future__ import annotations

import pytest
import torch

from vaekit.objectives import bounds
from vaekit.objectives.ciwae import Ciwae
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.table import MODEL
from vaekit.training.step import numeric_fields
from weighted_cases import conditional_draw, conditional_model, gradients, linear_draw, losses_of


def test_it_asks_for_its_samples_and_weights() -> None:
    assert Ciwae(7).sample_shape == (7,)
    assert Ciwae().needs == {"log_w"}
    assert numeric_fields(Ciwae(elbo_share=0.25)) == {"elbo_share": 0.25}


def test_no_share_is_iwae_and_all_of_it_the_sampled_elbo() -> None:
    model, draw = linear_draw((5,), 0.6, 0.5)
    ends = {0.0: losses_of(Iwae(5), draw).players[MODEL], 1.0: -(draw.log_p_x + draw.latents[0].log_ratio).mean()}
    for share, expected in ends.items():
        loss = losses_of(Ciwae(5), draw, elbo_share=share).players[MODEL]
        torch.testing.assert_close(loss, expected)
        found, plain = gradients(model, loss), gradients(model, expected)
        for name, each in plain.items():
            torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_between_the_ends_value_and_gradient_go_in_a_line(share: float) -> None:
    """The share comes from the context, as a schedule would set it, not from the objective's own field."""
    model, draw = linear_draw((5,), 0.6, 0.5)
    low, high = (losses_of(Ciwae(5), draw, elbo_share=end).players[MODEL] for end in (0.0, 1.0))
    assert high > low + 0.1
    loss = losses_of(Ciwae(5, elbo_share=0.77), draw, elbo_share=share).players[MODEL]
    torch.testing.assert_close(loss, (1 - share) * low + share * high)
    found, first, second = (gradients(model, each)["posterior.map.bias"] for each in (loss, low, high))
    assert (first - second).abs().max() > 0.1
    torch.testing.assert_close(found, (1 - share) * first + share * second, rtol=1e-4, atol=1e-3)


def test_one_sample_has_nothing_to_mix() -> None:
    _, draw = linear_draw((1,), 0.6, 0.5)
    for share in (0.0, 0.4, 1.0):
        loss = losses_of(Ciwae(1), draw, elbo_share=share).players[MODEL]
        torch.testing.assert_close(loss, -bounds.importance_weighted(draw.log_w).mean())


def test_a_conditional_model_learns_everywhere() -> None:
    model = conditional_model()
    found = gradients(model, losses_of(Ciwae(3), conditional_draw(model, (3,))).players[MODEL])
    assert all(torch.isfinite(each).all() and each.abs().sum() > 0 for each in found.values())
