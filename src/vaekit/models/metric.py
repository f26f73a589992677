"""A Riemannian metric on latents, made of kernels at centroids, with the derivatives that Hamiltonian dynamics need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vaekit.networks.layers import linear


class Kernels(NamedTuple):
    """Centroids with a matrix each; leading axes, where there are any, are those of latents, such as (batch,).

    Attributes:
        centres: (..., n, latent).
        matrices: (..., n, latent, latent), symmetric and positive semidefinite; zeros where there is no kernel yet.
    """

    centres: Tensor
    matrices: Tensor


@dataclass(frozen=True)
class Metric:
    """G(z) by its inverse, G^-1(z) = sum_i M_i exp(-|z - c_i|^2 / T^2) + lambda I.

    Chadebec, Mantoux and Allassonniere 2020, arXiv:2010.11518, section 3.2; M_i = L_i L_i^T there.

    Attributes:
        kernels: groups of (c_i, M_i), all summed.
        temperature: T, in units of the latents.
        floor: lambda, above 0.
    """

    kernels: tuple[Kernels, ...]
    temperature: float
    floor: float

    def at(self, latents: Tensor) -> Place:
        """The metric at latents (*sample_shape, batch, latent)."""
        return Place(self, latents)


class Place:
    """A metric at latents z (*lead, latent). Momenta rho have the same shape; matrices are (*lead, latent, latent)."""

    def __init__(self, metric: Metric, latents: Tensor):
        self.metric, self.latents = metric, latents
        self._offsets = [latents[..., None, :] - group.centres for group in metric.kernels]
        squares = [offset.square().sum(-1) for offset in self._offsets]
        self._weights = [torch.exp(-square / metric.temperature**2) for square in squares]

    @cached_property
    def inverse(self) -> Tensor:
        """G^-1."""
        found = self.metric.floor * torch.eye(self.latents.shape[-1], device=self.latents.device).to(self.latents)
        found = found.expand(*self.latents.shape, -1)
        for group, weights in zip(self.metric.kernels, self._weights, strict=True):
            found = found + torch.einsum("...n,...nij->...ij", weights, group.matrices)
        return found

    @cached_property
    def root(self) -> Tensor:
        """C, lower triangular, of G^-1 = C C^T; so C^-T gamma, of gamma ~ N(0, I), has the covariance G."""
        root: Tensor = torch.linalg.cholesky_ex(self.inverse).L  # unlike cholesky, it does not wait for the device
        return root

    @cached_property
    def tensor(self) -> Tensor:
        """G."""
        eye = torch.eye(self.latents.shape[-1], device=self.latents.device).to(self.latents)
        half = torch.linalg.solve_triangular(self.root, eye.expand_as(self.root), upper=False)
        return half.mT @ half

    @cached_property
    def log_volume(self) -> Tensor:
        """log sqrt det G^-1, (*lead,)."""
        return self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def velocity(self, momentum: Tensor) -> Tensor:
        """G^-1 rho, the gradient by rho of K = rho^T G^-1 rho / 2."""
        return (self.inverse @ momentum[..., None])[..., 0]

    def force(self, momentum: Tensor) -> Tensor:
        """The gradient by z of log det G / 2 + rho^T G^-1 rho / 2.

        It is 1/2 sum_i (rho^T M_i rho - tr(G M_i)) grad w_i, w_i = exp(-|z - c_i|^2 / T^2).
        """
        total = torch.zeros_like(self.latents)
        for group, slopes in zip(self.metric.kernels, self._slopes, strict=True):
            kinetic = torch.einsum("...nij,...i,...j->...n", group.matrices, momentum, momentum)
            trace = torch.einsum("...nij,...ij->...n", group.matrices, self.tensor)
            total = total + 0.5 * torch.einsum("...n,...nd->...d", kinetic - trace, slopes)
        return total

    def shear(self, momentum: Tensor) -> Tensor:
        """A = d(G^-1 rho) / dz = sum_i (M_i rho) (grad w_i)^T; its transpose is d force / d rho."""
        total = torch.zeros_like(self.inverse)
        for group, slopes in zip(self.metric.kernels, self._slopes, strict=True):
            pulled = torch.einsum("...nij,...j->...ni", group.matrices, momentum)
            total = total + torch.einsum("...ni,...nj->...ij", pulled, slopes)
        return total

    @cached_property
    def _slopes(self) -> list[Tensor]:
        """grad w_i of each group, (*lead, n, latent)."""
        factor = -2.0 / self.metric.temperature**2
        return [factor * w[..., None] * z for w, z in zip(self._weights, self._offsets, strict=True)]


class MetricNetwork(nn.Module):
    """M = L L^T of an image, where L is lower triangular.

    The diagonal of L lies between 0 and 2, and starts near 1; what is below it lies between -1 and 1. The paper has an
    exponential and no limits; the limits keep the implicit steps of the dynamics solvable whatever is learned.

    Args:
        encoder: (images (batch, channels, height, width)[, code]) to features (batch, num_features).
        num_latents: d.
    """

    def __init__(self, encoder: nn.Module, num_latents: int):
        super().__init__()
        self.encoder, self.num_latents = encoder, num_latents
        self.diagonal = linear(encoder.num_features, num_latents)  # type: ignore[arg-type]
        pairs = num_latents * (num_latents - 1) // 2
        self.below = linear(encoder.num_features, pairs) if pairs else None  # type: ignore[arg-type]

    def forward(self, images: Tensor, code: Tensor | None) -> Tensor:
        """(batch, latent, latent)."""
        features = self.encoder(images) if code is None else self.encoder(images, code)
        root = torch.diag_embed(2.0 * self.diagonal(features).sigmoid())
        if self.below is not None:
            rows, columns = torch.tril_indices(self.num_latents, self.num_latents, -1, device=features.device)
            root[:, rows, columns] = self.below(features).tanh()
        return root @ root.mT


class Memory(nn.Module):
    """The latest n centroids and their matrices, a ring that is filled step by step; state without gradients."""

    centres: Tensor
    matrices: Tensor
    next: Tensor

    def __init__(self, count: int, num_latents: int):
        super().__init__()
        self.register_buffer("centres", torch.zeros(count, num_latents))
        self.register_buffer("matrices", torch.zeros(count, num_latents, num_latents))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))

    @property
    def kernels(self) -> Kernels:
        """All of it, each with a share of 1/n, so that their sum is bounded whatever n; places never filled have none."""
        return Kernels(self.centres, self.matrices / len(self.centres))

    @torch.no_grad()
    def take(self, centres: Tensor, matrices: Tensor) -> None:
        """Put the last of (batch, latent) and (batch, latent, latent) in the places of the oldest."""
        count = min(len(centres), len(self.centres))
        rows = (self.next + torch.arange(count, device=self.next.device)) % len(self.centres)
        self.centres.index_copy_(0, rows, centres[-count:])
        self.matrices.index_copy_(0, rows, matrices[-count:])
        self.next.add_(count).remainder_(len(self.centres))
