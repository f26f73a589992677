"""The record of a draw: probabilistic PCA as the oracle, rescoring, and what exists when."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

import cases
from oracles import LinearGaussian
from vaekit.data.batches import Data
from vaekit.data.images import Images, Splits
from vaekit.evaluation.likelihood import estimate
from vaekit.models.draw import Draw, Latent
from vaekit.models.vae import VAEModel
from vaekit.noise import Noise
from vaekit.objectives import bounds
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal
from vaekit.probability.likelihoods import BernoulliImage


@pytest.fixture(scope="module")
def linear(digits: Splits) -> tuple[LinearGaussian, Tensor]:
    """The oracle fitted to the digits, and 300 of them."""
    images = digits.train.unit()
    return LinearGaussian.fit(images.numpy(), 5), images[:300]


def draw_of(model: VAEModel, images: Tensor, samples: int, seed: int = 0) -> Draw:
    return model.draw(cases.plain_batch(images), (samples,), Noise.from_seed(seed, len(images)))


def test_the_oracle_agrees_with_scikit_learn_and_has_a_diagonal_posterior(
    linear: tuple[LinearGaussian, Tensor],
) -> None:
    oracle, images = linear
    flat = images.numpy().reshape(300, -1)
    np.testing.assert_allclose(oracle.log_p(images.numpy()), oracle.pca.score_samples(flat), rtol=1e-6)
    gram = oracle.loadings.T @ oracle.loadings
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-10


@torch.no_grad()
def test_exact_posterior_gives_log_p_for_every_image_and_sample(
    linear: tuple[LinearGaussian, Tensor],
) -> None:
    """Every importance weight of an image is log p(x), so ELBO = bound = log p(x), image by image."""
    oracle, images = linear
    draw = draw_of(oracle.model(), images, 20)
    expected = torch.from_numpy(oracle.pca.score_samples(images.numpy().reshape(300, -1))).float()
    torch.testing.assert_close(draw.log_w, expected.expand(20, -1), atol=1e-3, rtol=0)
    torch.testing.assert_close(bounds.importance_weighted(draw.log_w), expected, atol=1e-3, rtol=0)


@torch.no_grad()
def test_exact_posterior_gives_log_p_through_the_evaluation(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    packed = Images(images.permute(0, 2, 3, 1).contiguous())
    found = estimate(oracle.model(), Data(), packed, 50)
    expected = torch.from_numpy(oracle.log_p(images.numpy()))
    torch.testing.assert_close(found.log_p, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.effective_samples, torch.full((300,), 50.0).double(), atol=1e-3, rtol=0)
    # the closed-form rate differs from one sample's; its average with the distortion does not
    elbo = -(found.distortion + found.rate)
    means, variances = oracle.posterior(images.numpy())
    rate = 0.5 * (means**2 + variances - 1 - np.log(variances)).sum(1)
    np.testing.assert_allclose(found.rate, rate, atol=1e-3)
    np.testing.assert_allclose(found.codes, means, atol=1e-4)
    # what is left is the noise of 50 samples of a quadratic in 5 latents, a fraction of a nat an image
    assert abs((elbo - expected).mean().item()) < 4 * (elbo - expected).std().item() / math.sqrt(300)
    assert (elbo - expected).abs().max() < 2.0


@torch.no_grad()
def test_a_wrong_posterior_loses_its_kl_and_more_samples_win_it_back(
    linear: tuple[LinearGaussian, Tensor],
) -> None:
    """log p - ELBO = KL(q || p(z | x)), known here; the importance-weighted bound climbs between the two."""
    oracle, images = linear
    shift, log_variance = 0.5, 0.4
    gap = oracle.posterior_kl(shift, log_variance)
    expected = torch.from_numpy(oracle.log_p(images.numpy()))
    log_w = draw_of(oracle.model(shift, log_variance), images, 2000).log_w.double()
    error = log_w.mean(0).sub(expected).add(gap)
    assert abs(error.mean().item()) < 0.02
    bound_at = {k: log_w.view(-1, k, 300) for k in (1, 4, 20, 100, 1000)}
    losses = [(expected - bounds.importance_weighted(w, 1)).mean().item() for w in bound_at.values()]
    assert losses[0] == pytest.approx(gap, abs=0.02)
    assert all(before > after for before, after in pairwise(losses))
    assert -0.005 < losses[-1] < 0.02 < losses[1] < gap


@torch.no_grad()
def test_closed_form_and_sampled_rates_agree(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    draw = draw_of(oracle.model(0.5, 0.4), images, 500)
    sampled = -draw.latents[0].log_ratio.double()
    z = (sampled.mean(0) - draw.rate) / (sampled.std(0) / math.sqrt(500))
    assert z.abs().max() < 4.5
    assert abs(z.mean().item()) < 4 / math.sqrt(300)


def test_weights_are_sampled_even_where_the_rate_has_a_closed_form(
    linear: tuple[LinearGaussian, Tensor],
) -> None:
    oracle, images = linear
    draw = draw_of(oracle.model(0.5, 0.4), images, 3)
    torch.testing.assert_close(draw.log_w, draw.log_p_x + draw.latents[0].log_ratio)
    assert (draw.log_w - draw.elbo).abs().mean() > 0.1


def test_a_draw_without_sample_axes_is_the_first_sample(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    one = oracle.model().draw(cases.plain_batch(images), (), Noise.from_seed(0, 300))
    assert one.log_w.shape == (300,)
    assert one.rate.shape == (300,)
    torch.testing.assert_close(one.log_w, draw_of(oracle.model(), images, 1).log_w[0])


def test_two_sample_axes(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    draw = oracle.model().draw(cases.plain_batch(images), (2, 3), Noise.from_seed(0, 300))
    assert draw.log_w.shape == (2, 3, 300)
    torch.testing.assert_close(draw.log_w.flatten(0, 1), draw_of(oracle.model(), images, 6).log_w)


def _gradient(model: VAEModel, draw: Draw, part: torch.nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(draw.log_w.sum(), list(part.parameters()), retain_graph=True))


def test_rescoring_gives_the_same_values_and_gradients(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    model = oracle.model(0.5, 0.4)
    draw = draw_of(model, images, 3)
    again = draw.rescore()
    for name in ("log_p_x", "log_w", "rate", "elbo"):
        assert torch.equal(getattr(again, name), getattr(draw, name))
    for first, second in zip(_gradient(model, draw, model), _gradient(model, again, model), strict=True):
        assert torch.equal(first, second)


def test_path_only_keeps_the_values_and_drops_the_score(linear: tuple[LinearGaussian, Tensor]) -> None:
    """At an exact posterior log w is constant in z: the encoder's path gradient vanishes draw by draw.

    The full gradient there is minus the score of q, zero only on average (Roeder, Wu and Duvenaud 2017).
    """
    oracle, images = linear
    model = oracle.model()
    draw = draw_of(model, images, 3)
    path = draw.rescore(path_only=True)
    torch.testing.assert_close(path.log_w, draw.log_w)
    torch.testing.assert_close(path.rate, draw.rate)
    total = max(g.abs().max().item() for g in _gradient(model, draw, model.posterior))
    left = max(g.abs().max().item() for g in _gradient(model, path, model.posterior))
    assert total > 5.0
    assert left < 1e-3 * total


def test_path_only_has_no_gradient_through_the_posteriors_own_parameters(
    linear: tuple[LinearGaussian, Tensor],
) -> None:
    """Against the score in closed form, at a posterior that is not exact."""
    oracle, images = linear
    model = oracle.model(0.5, 0.4)
    draw = draw_of(model, images, 3)
    path = draw.rescore(path_only=True)
    fixed = path.latents[0].posterior.log_prob(draw.latents[0].value.detach())
    assert not fixed.requires_grad  # given the value, nothing of log q depends on a parameter
    q = draw.latents[0].posterior
    score = q.log_prob(draw.latents[0].value.detach())
    by_score = torch.autograd.grad(score.sum(), list(model.posterior.parameters()), retain_graph=True)
    full, pathwise = (_gradient(model, d, model.posterior) for d in (draw, path))
    for a, b, s in zip(full, pathwise, by_score, strict=True):
        torch.testing.assert_close(a - b, -s, rtol=1e-3, atol=2e-2)


def test_path_only_needs_a_posterior_that_can_be_rebuilt() -> None:
    q = DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3))
    draw = Draw(
        (Latent(torch.zeros(2, 3), q, StandardNormal(3)),),
        BernoulliImage(torch.zeros(2, 1, 1, 1)),
        torch.zeros(2, 1, 1, 1),
    )
    assert torch.equal(draw.rescore().log_w, draw.log_w)
    with pytest.raises(TypeError, match="cannot be rebuilt"):
        draw.rescore(path_only=True)


def test_a_deterministic_code_has_distortion_but_no_bound() -> None:
    draw = Draw((Latent(torch.ones(2, 3)),), BernoulliImage(torch.zeros(2, 1, 2, 2)), torch.zeros(2, 1, 2, 2))
    assert draw.rate is None
    assert draw.log_w is None
    assert draw.elbo is None
    torch.testing.assert_close(draw.distortion, torch.full((2,), 4 * math.log(2)))
    assert torch.equal(draw.latents[0].code, torch.ones(2, 3))
    assert not draw.latents[0].stochastic


def test_groups_add_up_and_one_without_a_density_takes_the_bound_away() -> None:
    z = Noise.from_seed(0, 2).normal("z", (3,))
    q = DiagonalGaussian(torch.full((2, 3), 0.5), torch.zeros(2, 3))
    first = Latent(z, q, StandardNormal(3))
    p = BernoulliImage(torch.zeros(2, 1, 2, 2))
    one, two = (Draw((first,) * n, p, torch.zeros(2, 1, 2, 2)) for n in (1, 2))
    torch.testing.assert_close(two.rate, 2 * one.rate)
    torch.testing.assert_close(two.log_w - two.log_p_x, 2 * (one.log_w - one.log_p_x))
    mixed = Draw((first, Latent(z)), p, torch.zeros(2, 1, 2, 2))
    assert mixed.rate is None
    assert mixed.log_w is None


def test_the_mask_reaches_the_likelihood(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    mask = torch.zeros_like(images)
    batch = cases.plain_batch(images)._replace(mask=mask)
    draw = oracle.model().draw(batch, (), Noise.from_seed(0, 300))
    assert torch.equal(draw.log_p_x, torch.zeros(300))


def test_denoising_scores_the_target_and_reads_the_input(linear: tuple[LinearGaussian, Tensor]) -> None:
    oracle, images = linear
    other = images.flip(0)
    draw = oracle.model().draw(cases.plain_batch(images)._replace(target=other), (), Noise.from_seed(0, 300))
    plain = oracle.model().draw(cases.plain_batch(images), (), Noise.from_seed(0, 300))
    assert torch.equal(draw.rate, plain.rate)
    torch.testing.assert_close(draw.log_p_x, draw.likelihood.log_prob(other))
    assert (draw.log_p_x < plain.log_p_x).float().mean() > 0.9
