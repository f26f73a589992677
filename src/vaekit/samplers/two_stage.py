"""A second variational autoencoder, over the codes of the first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.latents.gaussian import DiagonalGaussianHead
from vaekit.networks.layers import linear
from vaekit.networks.mlp import dense_stack
from vaekit.noise import Noise, seeded
from vaekit.objectives.bounds import importance_weighted
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal, closed_form_kl
from vaekit.samplers.fitting import EPOCHS_HELP, PATIENCE_HELP, fit_by_gradient
from vaekit.samplers.table import SAMPLERS, Density

_SAMPLES, _AT_ONCE = 100, 250


class SecondStage(Density):
    """u ~ N(0, I), z ~ N(decoder(u), gamma^2 I), with as many u as there are latents and one learned gamma."""

    def __init__(self, num_latents: int, hidden: tuple[int, ...]):
        super().__init__()
        self.encoder = dense_stack((num_latents, *hidden), "relu", "none")
        self.posterior = DiagonalGaussianHead(hidden[-1], num_latents)
        self.decoder = nn.Sequential(
            dense_stack((num_latents, *hidden[::-1]), "relu", "none"), linear(hidden[0], num_latents)
        )
        self.log_gamma = nn.Parameter(torch.zeros(()))
        self.prior = StandardNormal(num_latents)

    def _given(self, u: Tensor) -> DiagonalGaussian:
        loc = self.decoder(u)
        return DiagonalGaussian(loc, self.log_gamma.expand_as(loc))

    def sample(self, noise: Noise) -> Tensor:
        u = self.prior.sample_from(noise, "second stage")
        return self._given(u).sample_from(noise, "sampler")

    def negative_elbo(self, codes: Tensor, noise: Noise) -> Tensor:
        """Nats (n,)."""
        q = self.posterior(self.encoder(codes))
        rate = closed_form_kl(q, self.prior)
        assert rate is not None
        return rate - self._given(q.sample_from(noise, "latent")).log_prob(codes)

    def log_prob(self, codes: Tensor) -> Tensor:
        """The importance-weighted bound with 100 samples, whose noise is fixed."""
        parts = []
        for part in codes.split(_AT_ONCE):
            noise = Noise.from_seed(0, len(part), "second stage", device=codes.device)
            q = self.posterior(self.encoder(part))
            u = q.sample_from(noise, "latent", (_SAMPLES,))
            log_w = self._given(u).log_prob(part) + self.prior.log_prob(u) - q.log_prob(u)
            parts.append(importance_weighted(log_w))
        return torch.cat(parts)


@SAMPLERS.register("two-stage")
@dataclass(frozen=True)
class TwoStageSampler:
    """A second VAE on posterior samples of the first, of the same latent size (Dai and Wipf 2019, arXiv:1903.05789).

    Its density has no closed form: what is reported is the importance-weighted bound with 100 samples. Published with
    three hidden layers of 1024.
    """

    second_hidden: tuple[int, ...] = leaf((256, 256), "units of the encoder's dense layers", ge=1, le=65536)
    fit_epochs: int = leaf(100, EPOCHS_HELP, ge=1, le=1_000_000)
    patience: int = leaf(8, PATIENCE_HELP, ge=1, le=1_000_000)

    def fit(self, codes: Tensor, seed: int) -> Density:
        with seeded(seed, "two-stage"):
            density = SecondStage(codes.shape[1], self.second_hidden).to(codes.device)
        fit_by_gradient(density, density.negative_elbo, codes, self.fit_epochs, self.patience, seed)
        return density

    def build(self, num_latents: int, num_codes: int) -> Density:
        return SecondStage(num_latents, self.second_hidden)
