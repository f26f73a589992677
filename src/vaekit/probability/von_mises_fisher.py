"""Distributions on the unit sphere: von Mises-Fisher, and uniform (Davidson et al. 2018, arXiv:1804.00891)."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.noise import Noise
from vaekit.probability.bessel import Cumulant, cumulant

_CELLS, _NODES, _NEWTON = 32, 4, 4
_REACH = 7.5  # standard deviations that the table of the distribution function spans on either side of the mode


def log_area(dim: int) -> float:
    """log of the area of the unit sphere in `dim` dimensions: log(2 pi^(d/2) / Gamma(d/2)).

    >>> round(math.exp(log_area(3)) / math.pi, 9)  # 4 pi
    4.0
    """
    return math.log(2.0) + 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim)


@dataclass(frozen=True)
class UniformSphere:
    """The uniform distribution on the unit sphere in `num_latents` dimensions, the same for every image."""

    num_latents: int

    def sample_from(self, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return F.normalize(noise.normal(purpose, (self.num_latents,), sample_shape), dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        return value.new_full(value.shape[:-1], -log_area(self.num_latents))


@dataclass(frozen=True)
class VonMisesFisher:
    """The density exp(kappa <mean, z>) times a constant, with respect to the area of the unit sphere in d dimensions.

    A sample is w mean + sqrt(1 - w^2) t with a unit vector t across the mean. w comes from the inverse of its distribution
    function, and its derivative by kappa is that of the exact implicit function, so that samples are reparameterized; the
    rejection sampler of Davidson et al. (2018, algorithm 1) needs a correction of its gradient in place of that.

    Attributes:
        mean: (*sample_shape, batch, d) mean directions, of length 1; the mean itself is shorter, A_d(kappa) times this.
        concentration: (*sample_shape, batch), kappa, 0 or more.
    """

    mean: Tensor
    concentration: Tensor

    @cached_property
    def _cumulant(self) -> Cumulant:
        return cumulant(self.concentration, self.mean.shape[-1])

    def sample_from(self, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
        dim = self.mean.shape[-1]
        normal = noise.normal(purpose, (dim,), sample_shape)
        angle = 2.0 * half_angle(self.concentration, torch.special.ndtr(normal[..., 0].double()), dim)[..., None]
        return angle.cos() * self.mean + angle.sin() * across(self.mean, F.normalize(normal[..., 1:], dim=-1))

    def log_prob(self, value: Tensor) -> Tensor:
        # kappa (w - 1) from the chord, as 1 - w would lose its digits where kappa is large
        chord = (value - self.mean).square().sum(-1)
        found = self._cumulant
        log_constant = _through(found.deficit, 1.0 - found.ratio, self.concentration)
        return log_constant - 0.5 * self.concentration * chord - log_area(self.mean.shape[-1])

    def kl_to(self, prior: Any) -> Tensor | None:
        """KL(self || prior) in nats, (*sample_shape, batch), for a uniform prior: kappa A_d(kappa) - L(kappa); else None.

        Davidson et al. 2018, equation 14.
        """
        if not isinstance(prior, UniformSphere):
            return None
        found = self._cumulant
        return _through(found.divergence, self.concentration.detach() * found.slope, self.concentration)


def _through(value: Tensor, slope: Tensor, argument: Tensor) -> Tensor:
    """`value`, which has no graph, as a function of `argument` whose derivative is `slope`."""
    return (value + slope * (argument - argument.detach())).to(argument.dtype)


def across(mean: Tensor, rest: Tensor) -> Tensor:
    """Unit vectors orthogonal to `mean` (..., d) from unit vectors `rest` (..., d - 1), by a Householder reflection.

    It takes the first axis to `mean`, or to its opposite, whichever is further away: then no difference of close vectors
    is divided by, as in the published reflection near the first axis. Uniform `rest` gives the same uniform law either way.
    """
    first, others = mean[..., :1], mean[..., 1:]
    sign = torch.where(first < 0, -1.0, 1.0).to(mean.dtype)
    share = (others * rest).sum(-1, keepdim=True) / (1.0 + first.abs())
    return torch.cat([-share * (first + sign), rest - share * others], -1)


@functools.cache
def _legendre() -> tuple[tuple[float, float], ...]:
    """Nodes and weights of Gauss and Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return tuple(zip((0.5 + 0.5 * nodes).tolist(), (0.5 * weights).tolist(), strict=True))


class _Density:
    """The density of half the angle between sample and mean, up to a constant, float64.

    With w = cos(2 phi) it is exp(-2 kappa sin(phi)^2) sin(2 phi)^(d - 2) on [0, pi / 2]: smooth for every d, also where
    that of w has a pole (d = 2). In sin(phi) its logarithm is concave with a second derivative of at most
    -(4 kappa + 5.9 (d - 2)), which bounds where its mass lies.

    Args:
        kappa: (n, 1).
        dim: d.
    """

    def __init__(self, kappa: Tensor, dim: int):
        power = float(dim - 2)
        self.kappa, self.power, self.height = kappa, power, torch.zeros_like(kappa)
        root = torch.sqrt(4.0 * kappa.square() + power**2)
        square = 0.5 * (power + power**2 / (root + 2.0 * kappa).clamp(min=1e-30)) / (root + power).clamp(min=1e-30)
        self.height = self._log(square)
        sine, width = square.sqrt(), _REACH / torch.sqrt(4.0 * kappa + 5.9 * power).clamp(min=1e-30)
        self.low = torch.asin((sine - width).clamp(min=0.0))
        self.high = torch.asin((sine + width).clamp(max=1.0))

    def _log(self, square: Tensor) -> Tensor:
        value = -2.0 * self.kappa * square - self.height
        if self.power:
            value = value + 0.5 * self.power * (4.0 * square * (1.0 - square)).clamp(min=1e-300).log()
        return value

    def at(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        """The density, and (1 - w) / 2 = sin(phi)^2, at angles (n, m)."""
        square = angle.sin().square()
        return self._log(square).exp().clamp(min=1e-300), square

    def integrals(self, start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Of the density, and of (1 - w) / 2 times it, from `start` over `length`, (n, m) each."""
        mass, moment = torch.zeros_like(start), torch.zeros_like(start)
        for node, weight in _legendre():
            height, square = self.at(start + node * length)
            part = weight * length * height
            mass, moment = mass + part, moment + part * square
        return mass, moment


def half_angle(kappa: Tensor, uniform: Tensor, dim: int) -> Tensor:
    """The quantile of half the angle to the mean direction, in [0, pi / 2], reparameterized by kappa.

    A table of the distribution function F over 32 cells finds the cell; Newton's method, with F integrated from the cell's
    edge to the point itself, does the rest: both with fixed counts. The derivative is -(dF / dkappa) / f (Figurnov,
    Mohamed and Mnih 2018, arXiv:1805.08498, equation 4), where dF / dkappa = F E[1 - w] - E[(1 - w) below the point].

    Args:
        kappa: (*lead, batch), 0 or more; without leading axes, the same for every sample.
        uniform: float64 (*sample_shape, batch) in (0, 1), probabilities.
        dim: d, 2 or more.

    Returns:
        (*sample_shape, batch), of the dtype of `kappa`.
    """
    with torch.no_grad():
        density = _Density(kappa.double().reshape(-1, 1), dim)
        columns = density.kappa.shape[0]
        wanted = uniform.reshape(-1, columns).T.contiguous()
        cell = (density.high - density.low) / _CELLS
        edges = density.low + cell * torch.arange(_CELLS, device=kappa.device)
        mass, moment = (F.pad(part.cumsum(1), (1, 0)) for part in density.integrals(edges, cell.expand_as(edges)))
        total = mass[:, -1:]
        mass, moment = mass / total, moment / total
        place = (torch.searchsorted(mass, wanted, right=True) - 1).clamp(0, _CELLS - 1)
        start, below = density.low + cell * place, mass.gather(1, place)
        share = ((wanted - below) / (mass.gather(1, place + 1) - below).clamp(min=1e-300)).clamp(0.0, 1.0)
        first, last = density.at(start)[0], density.at(start + cell)[0]  # as if it were linear within the cell
        root = torch.sqrt(first.square() + (last.square() - first.square()) * share)
        linear = share * (first + last) / (first + root)
        angle = start + cell * torch.where(start > 0.0, linear, share ** (1.0 / (dim - 1)))  # near 0, phi^(d - 2)
        for _ in range(_NEWTON):
            inside, _ = density.integrals(start, angle - start)
            excess = (below - wanted) * total + inside
            angle = torch.minimum(torch.maximum(angle - excess / density.at(angle)[0], start), start + cell)
        inside, further = density.integrals(start, angle - start)
        partial = moment.gather(1, place) * total + further
        slope = -2.0 * ((below * total + inside) * moment[:, -1:] - partial) / density.at(angle)[0]
        angle, slope = (part.T.reshape(uniform.shape) for part in (angle, slope))
    return _through(angle, slope, kappa)
