"""What the tests of importance-weighted objectives share: a model with known evidence, its draws, their gradients."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cases
from oracles import LinearGaussian
from vaekit.data.splits import load_splits
from vaekit.models.draw import Draw
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.networks.conditioning import Embedding
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.objectives.table import Losses
from vaekit.training.step import numeric_fields


@functools.cache
def linear(num_latents: int = 4) -> tuple[LinearGaussian, Tensor]:
    """Probabilistic PCA of the digits, and 40 of them."""
    images = load_splits("digits", None).train.unit()
    return LinearGaussian.fit(images.numpy(), num_latents), images[:40]


def draw_of(model: VAEModel, images: Tensor, sample_shape: tuple[int, ...], seed: int = 0) -> Draw:
    return model.draw(cases.plain_batch(images), sample_shape, Noise.from_seed(seed, len(images)))


def linear_draw(samples: tuple[int, ...], shift: float, log_variance: float, seed: int = 0) -> tuple[VAEModel, Draw]:
    """A draw for 40 digits whose posterior is off by so much."""
    oracle, images = linear()
    model = oracle.model(shift, log_variance)
    return model, draw_of(model, images, samples, seed)


def losses_of(objective: Any, draw: Draw, **hyper: float) -> Losses:
    """Its losses; numbers that are not given are the objective's own, as without a schedule."""
    return objective(draw, None, cases.context(**{**numeric_fields(objective), **hyper}))


def gradients(module: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Of each parameter by name, in float64; zeros where the loss does not reach."""
    named = dict(module.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(weight).double() if gradient is None else gradient.double()
        for (name, weight), gradient in zip(named.items(), found, strict=True)
    }


def of_posterior(draw: Draw, loss: Tensor) -> Tensor:
    """The gradient of each image's loss in its posterior's mean and log-scale, (batch, 2 * latent) in float64."""
    q: Any = draw.latents[0].posterior
    found = torch.autograd.grad(len(q.loc) * loss, [q.loc, q.log_scale], retain_graph=True, materialize_grads=True)
    return torch.cat(found, -1).double()


def z_scores(found: Tensor, expected: Tensor | float = 0.0) -> Tensor:
    """How many standard errors the mean over the first axis lies from what is expected."""
    return (found.mean(0) - expected) / (found.std(0) / math.sqrt(len(found)))


def conditional_model() -> VAEModel:
    """A small one whose labels' codes are read by encoder and decoder."""
    torch.manual_seed(0)
    config = VAEConfig(latent_dim=3, network=MLP(hidden=(9,)), conditioning=Embedding(embedding_dim=2))
    return config.build(cases.info((1, 8, 8)))


def conditional_draw(model: VAEModel, sample_shape: tuple[int, ...], count: int = 12) -> Draw:
    images = cases.random_images((1, 8, 8), count)
    batch = cases.plain_batch(images.unit(), images.labels)
    return model.draw(batch, sample_shape, Noise.from_seed(0, count))


def expected_slope(shift: float, log_variance: float, count: int, nodes: int = 60) -> Tensor:
    """d/d(mean, log-scale) of E[IWAE bound] with `count` samples of one latent, by Gauss-Hermite quadrature in float64.

    log w = log p(x) + log p(z | x) - log q(z) for z ~ q, where p(z | x) = N(0, 1) in units of its own standard deviation and
    q is off by `shift` and `log_variance`.
    """
    points, masses = np.polynomial.hermite_e.hermegauss(nodes)
    noise = torch.cartesian_prod(*[torch.from_numpy(points)] * count).view(-1, count)
    mass = torch.cartesian_prod(*[torch.from_numpy(masses / masses.sum())] * count).view(-1, count).prod(1)
    loc = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
    log_scale = torch.tensor(0.5 * log_variance, dtype=torch.float64, requires_grad=True)
    z = loc + log_scale.exp() * noise
    log_w = -0.5 * z.square() + 0.5 * noise.square() + log_scale
    bound = (mass * (log_w.logsumexp(1) - math.log(count))).sum()
    return torch.stack(torch.autograd.grad(bound, [loc, log_scale]))
