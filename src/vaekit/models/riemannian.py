"""The Riemannian Hamiltonian variational autoencoder (Chadebec, Mantoux and Allassonniere 2020, arXiv:2010.11518)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vaekit.config import leaf
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.models.draw import Draw
from vaekit.models.hamiltonian import HamiltonianConfig, HamiltonianVAE
from vaekit.models.hamiltonian_flow import Flow, HamiltonianPosterior, LeapfrogFlow
from vaekit.models.metric import Kernels, Memory, Metric, MetricNetwork
from vaekit.models.riemannian_flow import RiemannianFlow
from vaekit.models.table import MODELS
from vaekit.models.vae import VAEModel
from vaekit.networks.mlp import MLP
from vaekit.probability.distributions import DiagonalGaussian

_MOST_LATENTS = 128  # a matrix of each image, and of each centroid


class RiemannianVAE(HamiltonianVAE):
    """A Hamiltonian VAE whose dynamics follow a learned metric of the latents.

    The metric that moves an image has a kernel at each centroid of `memory` and one at the image's own posterior mean. The
    paper trains with the images of a batch as centroids and evaluates with those of training; here gradients reach the
    metric network through the image itself, the others are remembered without gradients, and training and evaluation have
    the same metric. So no image's numbers depend on its company, nor on how a batch is shared by processes. Each of the n
    remembered matrices counts as 1/n: unscaled, many centroids near each other make a metric so steep that no step is small
    enough (the latents of a model that begins to learn all lie at one place).

    Args:
        parts: a VAE with a diagonal Gaussian posterior, whose modules are taken over.
        flow: step sizes and tempering.
        network: makes a matrix of an image.
        memory: the centroids; they change in `after_step` alone.
        temperature: of the metric.
        floor: of the metric.
        iterations: of each fixed point.
    """

    flow: LeapfrogFlow

    def __init__(
        self,
        parts: VAEModel,
        flow: LeapfrogFlow,
        network: MetricNetwork,
        memory: Memory,
        temperature: float,
        floor: float,
        iterations: int = 3,
    ):
        super().__init__(parts, flow)
        self.network, self.memory = network, memory
        self.temperature, self.floor, self.iterations = temperature, floor, iterations

    def metric(self, *own: Kernels) -> Metric:
        """That of the memory, with further kernels."""
        return Metric((self.memory.kernels, *own), self.temperature, self.floor)

    def _flow_of(self, start: DiagonalGaussian, images: Tensor, code: Tensor | None) -> Flow:
        own = Kernels(start.loc[:, None], self.network(images, code)[:, None])
        return RiemannianFlow(self.flow, self.metric(own), self.iterations)

    def after_step(self, draw: Draw, gather: Callable[[Tensor], Tensor]) -> None:
        super().after_step(draw, gather)
        posterior = draw.latents[0].posterior
        assert isinstance(posterior, HamiltonianPosterior)
        assert isinstance(posterior.flow, RiemannianFlow)
        centres, matrices = (part.detach()[:, 0] for part in posterior.flow.metric.kernels[-1])
        self.memory.take(gather(centres), gather(matrices))


@MODELS.register("riemannian")
@dataclass(frozen=True)
class RiemannianConfig(HamiltonianConfig):
    """Riemannian Hamiltonian VAE: the dynamics follow a learned metric (Chadebec et al. 2020, arXiv:2010.11518).

    The inverse metric is that of the paper, G^-1(z) = sum_i L_i L_i^T exp(-|z - c_i|^2 / T^2) + lambda I, over the latest n
    training images, each counted as 1/n, and the image itself; L_i is what a small network makes of image i, c_i the mean
    of its posterior. The bound is that of the space of latents and momentum, target p(x, z) N(rho; 0, G(z)); the Jacobian
    of the implicit steps counts in it as it is, however well they are solved; steps must be small
    enough for the map to be one-to-one (see `RiemannianFlow`).
    """

    largest_step: float = leaf(0.05, "limit of the leapfrog step sizes, which are learned for each latent", gt=0, le=10)
    first_step: float = leaf(0.2, "step sizes at the start, as a fraction of their limit", gt=0, lt=1)
    centroids: int = leaf(100, "latest training images that the metric is made of", ge=1, le=100_000)
    metric_temperature: float | None = leaf(
        None, "reach of a centroid, in units of the latents (none: the square root of their number)", gt=0, le=1000
    )
    metric_floor: float = leaf(0.01, "inverse metric far from all centroids", gt=0, le=100)
    metric_hidden: tuple[int, ...] = leaf(
        (100,), "units of the dense layers of the metric's network, such as 400 or 200,200", ge=1, le=65536
    )

    def build(self, info: DataInfo) -> VAEModel:
        if self.latent_dim > _MOST_LATENTS:
            raise InputError(
                f"--latent-dim {self.latent_dim}: model {MODELS.name_of(self)!r} makes a matrix of latent by latent numbers "
                f"of each image; give at most {_MOST_LATENTS}, or choose --model hamiltonian"
            )
        parts = super().build(info)
        encoder = MLP(self.metric_hidden).encoder(info.seen_shape, self.conditioning.size(info))
        network, memory = MetricNetwork(encoder, self.latent_dim), Memory(self.centroids, self.latent_dim)
        return RiemannianVAE(
            parts,
            self.leapfrog(),
            network,
            memory,
            self.metric_temperature or math.sqrt(self.latent_dim),
            self.metric_floor,
        )
