"""Hamiltonian dynamics as a flow of latents: leapfrog steps with tempering, and the density that they lead to."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vaekit.models.draw import Latent
from vaekit.native.eager import twice_differentiable
from vaekit.noise import Noise
from vaekit.probability.distributions import DiagonalGaussian, Distribution, StandardNormal, draw
from vaekit.probability.likelihoods import ImageDistribution

Tempering = Literal["none", "fixed", "free"]


class JointDensity:
    """log p(target, z) of a batch as a function of the latents, through its slope.

    Args:
        decode: latents (*sample_shape, batch, latent) to p(image | latents).
        prior: p(z).
        target: (batch, channels, height, width).
        mask: None, or 1 where the target is observed.

    Attributes:
        likelihood: what the latest latents were decoded to; with gradients, where they are recorded.
    """

    def __init__(
        self, decode: Callable[[Tensor], ImageDistribution], prior: Distribution, target: Tensor, mask: Tensor | None
    ):
        self.decode, self.prior, self.target, self.mask = decode, prior, target, mask
        self.likelihood: ImageDistribution | None = None

    def slope(self, latents: Tensor) -> Tensor:
        """The gradient of log p(target, z) by z, of the shape of `latents`.

        It can be differentiated again where gradients are recorded; elsewhere it is computed all the same, and is a number.
        """
        recorded = torch.is_grad_enabled()
        with torch.enable_grad(), twice_differentiable() if recorded else nullcontext():
            at = latents if recorded and latents.requires_grad else latents.detach().requires_grad_()
            self.likelihood = self.decode(at)
            joint = self.likelihood.log_prob(self.target, self.mask) + self.prior.log_prob(at)
            (slope,) = torch.autograd.grad(joint.sum(), at, create_graph=recorded)
        return slope


class Moved(NamedTuple):
    """Where a flow leads from latents z_0 and gamma ~ N(0, I).

    Attributes:
        latents: z_K, (*sample_shape, batch, latent).
        momentum: rho_K, of the same shape, in units in which its target is N(0, I).
        log_volume: the logarithm of the Jacobian's determinant of (z_0, gamma) -> (z_K, rho_K), (*sample_shape, batch).
    """

    latents: Tensor
    momentum: Tensor
    log_volume: Tensor


class Flow(Protocol):
    """Moves latents z_0 and standard normal numbers, both (*sample_shape, batch, latent), along a slope."""

    def __call__(self, slope: Callable[[Tensor], Tensor], latents: Tensor, standard: Tensor) -> Moved: ...


class LeapfrogFlow(nn.Module):
    """K leapfrog steps, each followed by tempering: the momentum is multiplied by alpha_k.

    With s = grad_z log p(x, z), step sizes e (one for each latent) and rho_0 = gamma / sqrt(beta_0) of gamma ~ N(0, I):

        rho' = rho + e/2 s(z),   z <- z + e rho',   rho <- alpha_k (rho' + e/2 s(z)).

    Each of the three lines shears phase space, so a leapfrog step preserves volume, and K tempered steps have the Jacobian
    determinant prod_k alpha_k^d, d latents. Here always prod_k alpha_k = sqrt(beta_0), so that it is beta_0^(d/2): it
    undoes the widening of the momentum at the start, and the map from (z_0, gamma) to (z_K, rho_K) preserves volume.

    Caterini, Doucet and Sejdinovic 2018, arXiv:1805.11328, section 3.

    Args:
        num_latents: d.
        steps: K, from 0 up.
        largest_step: limit of the step sizes, which are learned: largest_step * sigmoid(.).
        first_step: what they start at, as a fraction of that limit, between 0 and 1.
        tempering: ``none``: all alpha_k are 1 and beta_0 too. ``fixed``: alpha_k = sqrt(beta_(k-1) / beta_k) with
            1 / sqrt(beta_k) = (1 - 1 / sqrt(beta_0)) k^2 / K^2 + 1 / sqrt(beta_0), so beta_K = 1, and beta_0 is learned.
            ``free``: all alpha_k are learned, between 0 and 1, and start there.
        beta_zero: what beta_0 starts at, between 0 and 1.
    """

    squares: Tensor
    offset: Tensor

    def __init__(
        self,
        num_latents: int,
        steps: int,
        largest_step: float = 0.5,
        first_step: float = 0.1,
        tempering: Tempering = "fixed",
        beta_zero: float = 0.3,
    ):
        super().__init__()
        self.steps, self.largest_step, self.tempering = steps, largest_step, tempering
        self.first = math.log(first_step / (1.0 - first_step))
        self.step_change = nn.Parameter(torch.zeros(num_latents))
        self.register_buffer("squares", torch.arange(steps + 1).square() / max(steps, 1) ** 2, persistent=False)
        start = torch.full((), beta_zero)
        if tempering == "free":
            start = self._schedule(start)
        if tempering != "none":
            self.register_buffer("offset", start.logit(), persistent=False)
            self.tempering_change = nn.Parameter(torch.zeros_like(start))

    def _schedule(self, beta_zero: Tensor) -> Tensor:
        """alpha_1 to alpha_K, (K,), of the quadratic schedule."""
        widest = beta_zero.rsqrt()
        roots = (1.0 - widest) * self.squares + widest  # 1 / sqrt(beta_k)
        return roots[1:] / roots[:-1]

    @property
    def step_sizes(self) -> Tensor:
        """(latent,), between 0 and the largest step."""
        return self.largest_step * torch.sigmoid(self.first + self.step_change)

    @property
    def factors(self) -> Tensor:
        """alpha_1 to alpha_K, (K,); their product is sqrt(beta_0)."""
        if self.tempering == "none":
            return torch.ones_like(self.squares[1:])
        learned = torch.sigmoid(self.offset + self.tempering_change)
        return learned if self.tempering == "free" else self._schedule(learned)

    def forward(self, slope: Callable[[Tensor], Tensor], latents: Tensor, standard: Tensor) -> Moved:
        """(z_K, rho_K) of z_0 and gamma, both (*sample_shape, batch, latent), with a log-volume of 0."""
        sizes, factors = self.step_sizes, self.factors
        momentum = standard / factors.prod()
        force = slope(latents)
        for factor in factors.unbind():
            momentum = momentum + 0.5 * sizes * force
            latents = latents + sizes * momentum
            force = slope(latents)
            momentum = factor * (momentum + 0.5 * sizes * force)
        return Moved(latents, momentum, torch.zeros_like(latents[..., 0]))


@dataclass
class HamiltonianPosterior:
    """What a flow makes of q(z_0 | x): its samples and a point that stands for it. Its density alone is not known.

    Attributes:
        start: q(z_0 | x), over (batch, latent).
        joint: log p(x, z), whose slope the flow follows.
        flow: of latents and momentum.
    """

    start: DiagonalGaussian
    joint: JointDensity
    flow: Flow

    @cached_property
    def mean(self) -> Tensor:
        """(batch, latent): where the flow takes the mean of q(z_0 | x) without momentum; it stands for the mean of z_K."""
        return self.flow(self.joint.slope, self.start.loc, torch.zeros_like(self.start.loc))[0]

    def sample_from(self, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
        start = draw(self.start, noise, purpose, sample_shape)
        return self.flow(self.joint.slope, start, momentum_like(start, noise, purpose))[0]

    def log_prob(self, value: Tensor) -> Tensor:
        raise TypeError("the density of z_K alone is not known; only a draw's own log_ratio, with the momentum, is")


def momentum_like(latents: Tensor, noise: Noise, purpose: str) -> Tensor:
    """gamma ~ N(0, I), of the shape of latents (*sample_shape, batch, latent) that were drawn for `purpose`."""
    return noise.normal(f"{purpose} momentum", (latents.shape[-1],), tuple(latents.shape[:-2])).to(latents.dtype)


@dataclass
class MovedLatent(Latent):
    """Latents z_K that a flow made of z_0 ~ q(z_0 | x) and gamma ~ N(0, I).

    The bound lives in the space of latents and momentum, where the target is p(x, z) N(rho; 0, I) and the proposal the
    pushforward of q(z_0 | x) N(gamma; 0, I), whose density at (z_K, rho_K) is q(z_0 | x) N(gamma; 0, I) over the Jacobian
    determinant J of (z_0, gamma) -> (z_K, rho_K). So

        log w = log p(x, z_K) + log N(rho_K; 0, I) - log q(z_0 | x) - log N(gamma; 0, I) + log J,

    and E w = p(x), since the target's integral over latents and momentum is p(x). A leapfrog flow has J = 1. In terms of
    rho_0 = gamma / sqrt(beta_0) its log w reads
    log p(x, z_K) + log N(rho_K; 0, I) - log q(z_0 | x) - log N(rho_0; 0, I / beta_0) + d/2 log beta_0.

    Attributes:
        value: z_K.
        posterior: a `HamiltonianPosterior`.
        extension: log N(rho_K; 0, I) - log q(z_0 | x) - log N(gamma; 0, I) + log J in nats, (*sample_shape, batch).
    """

    extension: Tensor | None = None

    @cached_property
    def log_ratio(self) -> Tensor | None:
        """log p(z_K) + extension in nats, (*sample_shape, batch)."""
        assert self.prior is not None
        assert self.extension is not None
        return self.prior.log_prob(self.value) + self.extension


def moved(group: Latent, joint: JointDensity, flow: Flow, noise: Noise) -> MovedLatent:
    """The latents of `group`, drawn from a diagonal Gaussian, taken through the flow."""
    assert isinstance(group.posterior, DiagonalGaussian)
    gamma, standard = momentum_like(group.value, noise, "latent"), StandardNormal(group.value.shape[-1])
    value, momentum, log_volume = flow(joint.slope, group.value, gamma)
    extension = standard.log_prob(momentum) - standard.log_prob(gamma) - group.posterior.log_prob(group.value)
    extension = extension + log_volume
    posterior = HamiltonianPosterior(group.posterior, joint, flow)
    return MovedLatent(value, posterior, group.prior, extension=extension)
