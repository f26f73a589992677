"""The importance-weighted objective: identities with the ELBO, and its gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import cases
from oracles import LinearGaussian
from vaekit.data.batches import Data
from vaekit.data.images import Splits
from vaekit.models.vae import VAEModel
from vaekit.noise import Noise
from vaekit.objectives import bounds
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.table import MODEL
from vaekit.objectives.weighted import weighted_bound
from vaekit.training.processes import Processes
from vaekit.training.step import StepResult, TrainingStep
from vaekit.training.validation import validate
from weighted_cases import conditional_model, linear_draw, losses_of
from weighted_cases import gradients as gradients_of


@pytest.fixture(scope="module")
def linear(digits: Splits) -> tuple[LinearGaussian, Tensor]:
    images = digits.train.unit()
    return LinearGaussian.fit(images.numpy(), 4), images[:40]


def test_it_asks_for_its_samples_and_needs_weights() -> None:
    assert Iwae(num_samples=7).sample_shape == (7,)
    assert Elbo().sample_shape == ()
    assert Iwae().needs == {"log_w"}


def test_one_sample_is_the_sampled_elbo_of_the_same_draw(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    draw = oracle.model(0.4, 0.3).draw(cases.plain_batch(images), (1,), Noise.from_seed(0, 40))
    losses, terms = Iwae(num_samples=1)(draw, cases.plain_batch(images), cases.context(beta=1.0))
    latent = draw.latents[0]
    torch.testing.assert_close(losses[MODEL], -(draw.log_p_x + latent.log_ratio).mean())
    assert terms == {}


def test_with_an_exact_posterior_the_value_is_the_elbo_for_any_number_of_samples(
    linear: tuple[LinearGaussian, Tensor],
) -> None:
    oracle, images = linear
    batch = cases.plain_batch(images)
    expected = -oracle.log_p(images.numpy()).mean()
    for samples in (1, 2, 10):
        draw = oracle.model().draw(batch, (samples,), Noise.from_seed(0, 40))
        assert Iwae(samples)(draw, batch, cases.context(beta=1.0)).players[MODEL].item() == pytest.approx(
            expected, abs=1e-3
        )


def gradients(model: VAEModel, loss: Tensor) -> Tensor:
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)]
    ).double()


def test_one_sample_has_the_elbos_gradient_in_expectation(linear: tuple[LinearGaussian, Tensor]) -> None:
    """Sampled and closed-form rate differ draw by draw, and agree on average."""
    oracle, images = linear
    model, images = oracle.model(0.4, 0.3), images[:1]
    batch = cases.plain_batch(images)
    differences = []
    for seed in range(500):
        draw = model.draw(batch, (1,), Noise.from_seed(seed, 1))
        loss = (
            Iwae(1)(draw, batch, cases.context(beta=1.0)).players[MODEL]
            - Elbo()(draw, batch, cases.context(beta=1.0)).players[MODEL]
        )
        differences.append(gradients(model, loss))
    found = torch.stack(differences)
    moves = found.std(0) > 1e-6
    assert moves.any()
    z = found.mean(0)[moves] / (found.std(0)[moves] / math.sqrt(len(found)))
    assert z.abs().max() < 5.0
    assert z.square().mean() < 3.0
    assert found[:, ~moves].abs().max() < 1e-4


def test_the_gradient_weighs_samples_by_their_normalized_weights(
    linear: tuple[LinearGaussian, Tensor],
) -> None:
    oracle, images = linear
    model = oracle.model(0.6, 0.5)
    batch = cases.plain_batch(images)
    draw = model.draw(batch, (5,), Noise.from_seed(0, 40))
    loss = Iwae(5)(draw, batch, cases.context(beta=1.0)).players[MODEL]
    weights = torch.softmax(draw.log_w.detach(), 0)
    by_hand = -(weights * draw.log_w).sum(0).mean()
    torch.testing.assert_close(gradients(model, loss), gradients(model, by_hand), rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_mean_of_bounds_not_the_bound_of_a_mean() -> None:
    log_w = torch.tensor([[0.0, -100.0], [-2.0, -90.0]])
    expected = bounds.importance_weighted(log_w).mean()

    class Fixed:
        pass

    draw = Fixed()
    draw.log_w = log_w  # type: ignore[attr-defined]
    losses, _ = Iwae(2)(draw, None, cases.context(beta=1.0))  # type: ignore[arg-type]
    torch.testing.assert_close(losses[MODEL], -expected)


def test_the_gradient_is_the_one_asked_for_and_sets_what_a_model_must_provide() -> None:
    model, draw = linear_draw((5,), 0.6, 0.5)
    found = {}
    for gradient in ("standard", "dreg", "stl"):
        objective = Iwae(5, gradient)  # type: ignore[arg-type]
        loss = losses_of(objective, draw).players[MODEL]
        expected = gradients_of(model, -weighted_bound(draw, gradient).mean())  # type: ignore[arg-type]
        found[gradient] = gradients_of(model, loss)
        for name, each in expected.items():
            torch.testing.assert_close(found[gradient][name], each)
        torch.testing.assert_close(loss, -bounds.importance_weighted(draw.log_w).mean())
        assert ("path" in objective.needs) == (gradient != "standard")
    for one, other in (("standard", "dreg"), ("standard", "stl"), ("dreg", "stl")):
        assert (found[one]["posterior.map.bias"] - found[other]["posterior.map.bias"]).abs().max() > 0.1


@pytest.mark.parametrize("gradient", ["dreg", "stl"])
def test_what_is_logged_and_validated_does_not_depend_on_the_gradient(gradient: str) -> None:
    """The loss is minus the bound that the step computes of its own, in training and without gradients."""
    plain, chosen = (step_of(Iwae(4, each)) for each in ("standard", gradient))  # type: ignore[arg-type]
    for name, value in run(plain).logged.items():
        torch.testing.assert_close(run(chosen).logged[name], value)
    torch.testing.assert_close(run(chosen).logged["loss"], -run(chosen).logged["iw_elbo_nats"])
    reported = [
        validate(step, cases.random_images((1, 8, 8), 23), 0, 7, {}, Processes(torch.device("cpu")))
        for step in (plain, chosen)
    ]
    assert reported[0] == reported[1]


def step_of(objective: Iwae) -> TrainingStep:
    return TrainingStep(conditional_model(), objective, {}, Data(), 100)


def run(step: TrainingStep) -> StepResult:
    return step(cases.random_images((1, 8, 8), 12), torch.arange(6), torch.tensor(1), torch.tensor(0), {})
