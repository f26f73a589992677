"""The Hamiltonian VAE against a model of known evidence, against the plain VAE, and through a whole run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import vaekit
from helpers_run import interrupted_at, timeless
from oracles import LinearGaussian
from vaekit.config import replace
from vaekit.data.batches import Data
from vaekit.data.images import Splits
from vaekit.errors import InputError, RunError
from vaekit.evaluation.likelihood import estimate
from vaekit.generation import encode, interpolate, reconstruct, sample
from vaekit.models.draw import Draw
from vaekit.models.hamiltonian import HamiltonianConfig, HamiltonianVAE
from vaekit.models.hamiltonian_flow import LeapfrogFlow
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.networks import convolution
from vaekit.networks.conditioning import OneHot
from vaekit.networks.conv import Conv
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.objectives import bounds
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal
from vaekit.probability.likelihoods import LIKELIHOODS
from vaekit.settings import configure
from vaekit.training.reporting import Silent
from vaekit.training.train import train

SHAPE = (1, 8, 8)
SMALL = HamiltonianConfig(latent_dim=3, network=MLP(hidden=(9,)))


@pytest.fixture(scope="module")
def linear(digits: Splits) -> tuple[LinearGaussian, Tensor]:
    """The oracle with 5 latents, fitted to the digits, and 40 of them."""
    images = digits.train.unit()
    return LinearGaussian.fit(images.numpy(), 5), images[:40]


def flow(steps: int, size: float, tempering: Any = "none", beta_zero: float = 0.7) -> LeapfrogFlow:
    return LeapfrogFlow(5, steps, 2 * size, 0.5, tempering, beta_zero)


def draw_of(model: VAEModel, images: Tensor, samples: int) -> Draw:
    return model.draw(cases.plain_batch(images), (samples,), Noise.from_seed(0, len(images)))


def build(config: VAEConfig, shape: tuple[int, int, int] = SHAPE, **info: Any) -> Any:
    torch.manual_seed(0)
    return config.build(cases.info(shape, **info))


# against a known evidence


@torch.no_grad()
def test_no_steps_give_the_plain_vae_exactly(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    plain = draw_of(oracle.model(0.5, 0.4), images, 7)
    found = draw_of(HamiltonianVAE(oracle.model(0.5, 0.4), flow(0, 0.1, "fixed")), images, 7)
    assert torch.equal(found.latents[0].value, plain.latents[0].value)
    assert torch.equal(found.log_w, plain.log_w)


@torch.no_grad()
def test_ever_smaller_steps_give_the_plain_vae(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    plain = draw_of(oracle.model(0.5, 0.4), images, 7)
    found = draw_of(HamiltonianVAE(oracle.model(0.5, 0.4), flow(3, 1e-6)), images, 7)
    torch.testing.assert_close(found.log_w, plain.log_w, rtol=0, atol=5e-3)


@torch.no_grad()
@pytest.mark.parametrize(
    ("steps", "size", "tempering"), [(1, 0.15, "none"), (3, 0.15, "none"), (3, 0.08, "fixed"), (2, 0.08, "free")]
)
def test_weights_average_to_the_evidence(
    steps: int, size: float, tempering: Any, linear: tuple[LinearGaussian, Tensor]
) -> None:
    """E w / p(x) = 1: the mean of 40 x 3000 independent ratios lies within 4 standard errors."""
    oracle, images = linear
    model = HamiltonianVAE(oracle.model(0.5, 0.3), flow(steps, size, tempering)).eval()
    draw = draw_of(model, images, 3000)
    ratio = (draw.log_w.double() - torch.from_numpy(oracle.log_p(images.numpy()))).exp()
    error = ratio.std().item() / math.sqrt(ratio.numel())
    assert error < 0.02
    assert abs(ratio.mean().item() - 1.0) < 4 * error
    assert ratio.std() > 0.3


def test_learned_steps_raise_the_bound_of_a_poor_encoder(linear: tuple[LinearGaussian, Tensor]) -> None:
    """Step sizes and temperature alone are learned; the bound stays below the evidence."""
    oracle, images = linear
    model = HamiltonianVAE(oracle.model(1.0, 1.0), flow(3, 0.1, "fixed"))
    adam = torch.optim.Adam(model.flow.parameters(), 0.1)
    for step in range(25):
        adam.zero_grad()
        draw = model.draw(cases.plain_batch(images), (2,), Noise.from_seed(step + 1, 40))
        (-draw.elbo.mean()).backward()
        adam.step()
    with torch.no_grad():
        elbo = bounds.elbo(draw_of(model, images, 300)).double()
    gap = (torch.from_numpy(oracle.log_p(images.numpy())) - elbo).mean().item()
    assert 0.0 < gap < oracle.posterior_kl(1.0, 1.0) - 1.0


@torch.no_grad()
def test_the_code_is_nearer_to_the_posterior_mean_than_the_encoders(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    plain, model = oracle.model(1.0, 0.0), HamiltonianVAE(oracle.model(1.0, 0.0), flow(4, 0.1)).eval()
    exact = torch.from_numpy(oracle.posterior(images.numpy())[0]).float()
    before, after = (each.encode(images).mean - exact for each in (plain, model))
    assert (after.norm(dim=1) < 0.9 * before.norm(dim=1)).all()
    assert torch.equal(draw_of(model, images, 3).latents[0].code, model.encode(images).mean)


def test_log_w_is_written_out_in_the_momentum_of_the_paper() -> None:
    """log p(x, z_K) + log N(rho_K) - log q(z_0 | x) - log N(rho_0; 0, I / beta_0) + d/2 log beta_0."""
    model = build(SMALL)
    batch, noise = cases.plain_batch(torch.rand(4, *SHAPE)), Noise.from_seed(0, 4)
    draw = model.draw(batch, (2,), noise)
    start = model.posterior(model.encoder(batch.input))
    latents, gamma = start.sample_from(noise, "latent", (2,)), noise.normal("latent momentum", (3,), (2,))
    joint = draw.latents[0].posterior.joint
    end, momentum, _ = model.flow(joint.slope, latents, gamma)
    log_beta = 2.0 * model.flow.factors.prod().log()
    assert log_beta.item() == pytest.approx(math.log(0.3), rel=1e-5)
    first = gamma * (-0.5 * log_beta).exp()
    wide = DiagonalGaussian(torch.zeros(3), (-0.5 * log_beta).expand(3))
    expected = draw.log_p_x + StandardNormal(3).log_prob(end) + StandardNormal(3).log_prob(momentum)
    expected = expected - start.log_prob(latents) - wide.log_prob(first) + 1.5 * log_beta
    torch.testing.assert_close(draw.log_w, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(draw.latents[0].posterior.sample_from(noise, "latent", (2,)), draw.latents[0].value)


# as an entry of the table


def test_it_has_all_choices_of_the_vae_but_the_posterior() -> None:
    found = configure("conv", model="hamiltonian", prior="standard", conditioning="onehot", likelihood="gaussian").model
    assert isinstance(found, HamiltonianConfig)
    with pytest.raises(InputError, match="--posterior"):
        configure("conv", model="hamiltonian", posterior="deterministic")


@pytest.mark.parametrize("recorded", [True, False])
def test_numbers_are_the_same_with_gradients_and_without(recorded: bool) -> None:
    model = build(SMALL).eval()
    batch, noise = cases.plain_batch(torch.rand(4, *SHAPE)), Noise.from_seed(0, 4)
    with torch.set_grad_enabled(recorded):
        draw = model.draw(batch, (2,), noise)
        found = (draw.log_w, draw.latents[0].value, draw.likelihood.mean, draw.latents[0].code)
    assert torch.equal(draw.log_w, model.draw(batch, (2,), noise).log_w)
    for tensor in found:
        assert tensor.requires_grad == recorded


@pytest.mark.parametrize("likelihood", list(LIKELIHOODS))
@pytest.mark.parametrize("tempering", ["none", "fixed", "free"])
def test_every_parameter_has_a_finite_gradient_under_every_likelihood(likelihood: str, tempering: Any) -> None:
    config = replace(SMALL, ("likelihood",), LIKELIHOODS[likelihood]())
    model = build(replace(config, ("tempering",), tempering))
    batch = Data().batch(cases.random_images(SHAPE, 6), torch.arange(6), Noise.from_seed(0, 6))
    (-model.draw(batch, (2,), Noise.from_seed(0, 6)).elbo.mean()).backward()
    names = dict(model.named_parameters())
    assert ("flow.tempering_change" in names) == (tempering != "none")
    for name, parameter in names.items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_convolutions_of_the_fast_path_are_differentiated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    config = HamiltonianConfig(latent_dim=3, network=Conv(channels=(16, 32), dense=8))
    batch, noise = cases.plain_batch(torch.rand(4, *SHAPE)), Noise.from_seed(0, 4)
    gradients = []
    for numbers in (2**16, 1):  # torch's own convolutions, then ours wherever they may
        monkeypatch.setattr(convolution, "_NUMBERS", numbers)
        model = build(config)
        (-model.draw(batch, (), noise).elbo.mean()).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_numbers_of_an_image_do_not_depend_on_its_company_or_on_chunks_of_samples() -> None:
    model, images = build(SMALL).eval(), cases.random_images(SHAPE, 9)
    whole = estimate(model, Data(), images, 12)
    for at_once in (1, 5, 30):
        found = estimate(model, Data(), images, 12, decodes_at_once=at_once)
        for field in ("distortion", "rate", "log_p", "codes"):
            torch.testing.assert_close(getattr(found, field), getattr(whole, field), rtol=2e-6, atol=2e-4, msg=field)


def test_hidden_pixels_do_not_move_the_latents() -> None:
    model = build(SMALL)
    images = torch.rand(4, *SHAPE)
    mask = torch.ones_like(images)
    mask[..., 4:] = 0.0
    values = []
    for target in (images, torch.where(mask > 0, images, 1.0 - images)):
        batch = cases.plain_batch(images)._replace(target=target, mask=mask)
        values.append(model.draw(batch, (), Noise.from_seed(0, 4)).log_w)
    assert torch.equal(*values)


def test_the_flow_runs_in_full_precision_under_autocast() -> None:
    model = build(SMALL)
    batch, noise = cases.plain_batch(torch.rand(4, *SHAPE)), Noise.from_seed(0, 4)
    with torch.autocast("cpu", torch.bfloat16):
        draw = model.draw(batch, (), noise)
        expected = draw.likelihood.log_prob(batch.target)
        latents = draw.latents[0].value.detach()
    torch.testing.assert_close(model.decode(latents).log_prob(batch.target), expected, rtol=1e-6, atol=1e-5)
    assert not model.low_precision


def test_the_density_of_the_end_alone_is_refused() -> None:
    draw = build(SMALL).draw(cases.plain_batch(torch.rand(2, *SHAPE)), (), Noise.from_seed(0, 2))
    with pytest.raises(TypeError, match="not known"):
        draw.latents[0].posterior.log_prob(draw.latents[0].value)
    assert draw.latents[0].rate_by_dimension is None
    torch.testing.assert_close(draw.rate, -draw.latents[0].log_ratio)


def test_a_condition_reaches_the_slope() -> None:
    model = build(replace(SMALL, ("conditioning",), OneHot(label_dropout=0.5))).eval()
    images = torch.rand(1, *SHAPE)
    codes = [model.encode(images, torch.tensor([label])).mean for label in (0, 1, -1)]
    assert not torch.allclose(codes[0], codes[1])
    assert not torch.allclose(codes[0], codes[2])
    assert model.train().draw(cases.plain_batch(images, torch.tensor([1]))).log_w.shape == (1,)


# refusals


def test_batch_normalization_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        InputError, match=r"^--normalization batch: model 'hamiltonian' follows.*; choose none or group$"
    ):
        build(HamiltonianConfig(network=Conv(normalization="batch")))


def test_another_input_than_the_target_is_refused_before_a_run_begins(tmp_path: Path) -> None:
    given = _given(corruption="blur")
    with pytest.raises(InputError, match=r"^--model hamiltonian: it infers.*; choose --model vae, or leave out"):
        train(tmp_path / "run", config=given, observer=Silent())
    assert not (tmp_path / "run").exists()


def test_an_objective_that_needs_more_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--objective free-bits: needs a rate for each latent"):
        train(tmp_path / "run", config=_given(objective="free-bits"), observer=Silent())


# a whole run


def _given(**changes: Any) -> Any:
    given = {"data": "digits", "validation": 51, "train_limit": 192, "batch_size": 32, "epochs": 2, "latent_dim": 3}
    given |= {"network": "mlp", "hidden": "16", "device": "cpu", "threads": 1, "leapfrog_steps": 2}
    return configure("mlp", model="hamiltonian", **{**given, **changes})


def test_a_run_is_trained_resumed_evaluated_and_shown(tmp_path: Path, digits: Splits) -> None:
    whole = train(tmp_path / "whole", config=_given(), observer=Silent())
    with interrupted_at(8), pytest.raises(RunError, match="stopped at step 8"):
        train(tmp_path / "part", config=_given(), observer=Silent())
    part = vaekit.resume(tmp_path / "part", observer=Silent())
    assert part.model.read_bytes() == whole.model.read_bytes()
    assert timeless(part.metrics()) == timeless(whole.metrics())

    model, _, _ = vaekit.load_model(whole.path)
    assert model.flow.step_change.abs().min() > 0
    assert model.flow.tempering_change.abs() > 0
    found = vaekit.evaluate(whole.path, num_importance_samples=8, limit=20)
    assert found["elbo_nats"] == pytest.approx(-(found["distortion_nats"] + found["rate_nats"]), abs=1e-9)
    assert -found["nll_nats"] > found["elbo_nats"]
    assert 1.0 <= found["effective_sample_size"] <= 8.0
    assert found["active_units"] in range(4)
    images = digits.test.unit()[:3]
    assert encode(model, images).shape == (3, 3)
    for shown in (sample(model, 3), reconstruct(model, images), interpolate(model, images, images.flip(0), 4)[:, 1]):
        assert shown.shape == (3, *SHAPE)
        assert not shown.requires_grad
