"""The variational autoencoder with one group of latents (Kingma and Welling 2014, arXiv:1312.6114)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaekit.config import choice, leaf
from vaekit.data.batches import Batch
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.latents.gaussian import GaussianPosterior, StandardPrior
from vaekit.latents.geometry import EUCLIDEAN
from vaekit.latents.table import POSTERIORS, PRIORS, Posterior, Prior
from vaekit.models.conditioned import ConditionedModel, check_condition
from vaekit.models.draw import Draw, Latent
from vaekit.models.table import MODELS
from vaekit.networks.conditioning import CONDITIONINGS, Conditioning, Unconditional
from vaekit.networks.conv import Conv
from vaekit.networks.normalization import running_statistics
from vaekit.networks.table import NETWORKS, Network
from vaekit.noise import Noise
from vaekit.probability.distributions import Distribution, Point, draw
from vaekit.probability.likelihoods import LIKELIHOODS, Bernoulli, ImageDistribution, Likelihood


class VAEModel(ConditionedModel):
    """Encoder, posterior, prior, decoder and likelihood, each any `nn.Module`.

    Args:
        encoder: (images (batch, channels, height, width)[, code (batch, k)]) to features (batch, num_features).
        posterior: features to a distribution over latents (batch, latent); for its attributes see `latents.table.Posterior`.
        prior: code, or None, to a distribution over latents; for its attributes see `latents.table.Prior`.
        decoder: (latents (n, latent)[, code (n, k)]) to the likelihood's parameters (n, outputs * channels, height, width).
        likelihood: the decoder's output to a distribution over images.
        conditioning: as `ConditionedModel` has it.
    """

    def __init__(
        self,
        encoder: nn.Module,
        posterior: nn.Module,
        prior: nn.Module,
        decoder: nn.Module,
        likelihood: nn.Module,
        conditioning: nn.Module | None = None,
        low_precision: bool = False,
    ):
        super().__init__()
        self.encoder, self.posterior, self.prior = encoder, posterior, prior
        self.decoder, self.likelihood, self.conditioning = decoder, likelihood, conditioning
        self.low_precision = low_precision
        self.provides = self._provided()
        self.geometry = getattr(posterior, "geometry", EUCLIDEAN)

    def _provided(self) -> frozenset[str]:
        always = {"vectors", "inference"}
        if getattr(self.posterior, "deterministic", False):
            return frozenset({*always, "deterministic"})
        diagonal = {"diagonal"} if getattr(self.posterior, "diagonal", False) else set()
        by_dimension = {"rate_by_dimension"} if diagonal and getattr(self.prior, "diagonal", False) else set()
        path = {"path"} if getattr(self.posterior, "rescored", True) else set()
        return frozenset({*always, "rate", "moved_rate", "log_w", *diagonal, *by_dimension, *path})

    def inference_parameters(self) -> list[nn.Parameter]:
        return [*self.encoder.parameters(), *self.posterior.parameters()]

    def parts(self) -> dict[str, tuple[nn.Module, ...]]:
        return {"encoder": (self.encoder, self.posterior), "decoder": (self.decoder, self.likelihood)}

    def features(self, images: Tensor, code: Tensor | None) -> Tensor:
        features = self.encoder(images) if code is None else self.encoder(images, code)
        return features.float()

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Distribution:
        """q(z | image): images (batch, channels, height, width) in [0, 1]."""
        return self._posterior(self.features(images, self.code(condition)))

    def _posterior(self, features: Tensor) -> Distribution:
        with torch.autocast(features.device.type, enabled=False):
            return self.posterior(features)

    def decode(self, latents: Tensor, condition: Tensor | None = None, code: Tensor | None = None) -> ImageDistribution:
        return self._decode(latents, self.code(condition) if code is None else code)

    def _decode(self, latents: Tensor, code: Tensor | None) -> ImageDistribution:
        lead = latents.shape[:-1]
        flat = self.geometry.chart(latents.reshape(-1, latents.shape[-1]))
        if code is None:
            output = self.decoder(flat).float()
        else:
            rows = code.expand(*lead, -1).reshape(flat.shape[0], -1)
            given = self.decoder(flat, rows).float()
            output = self.follow(given, lambda: self.decoder(flat, self.unconditional(rows)).float())
        return self.likelihood(output.view(*lead, *output.shape[1:]) if len(lead) > 1 else output)

    @property
    def draws_vary(self) -> bool:
        return "deterministic" not in self.provides

    def sample_prior(
        self, count: int, condition: Tensor | None, noise: Noise, temperatures: Sequence[float] | None = None
    ) -> Tensor:
        latents = draw(self.prior_given(self.code(condition)), noise, "prior")
        return latents if temperatures is None else self.geometry.tempered(latents, temperatures[0])

    def prior_given(self, code: Tensor | None) -> Distribution:
        """p(z | code); code (batch, k), or None for a model without condition."""

        def encode(images: Tensor, code: Tensor | None) -> Distribution:
            with running_statistics(self.encoder):  # those of images: what a prior encodes is none of them
                return self._posterior(self.features(images, code))

        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            return self.prior(code, encode) if getattr(self.prior, "reads_encoder", False) else self.prior(code)

    def draw(self, batch: Batch, sample_shape: tuple[int, ...] = (), noise: Noise | None = None) -> Draw:
        noise = self.noise_of(batch, noise)
        code = self.code(self.shown(batch.condition, noise))
        features = self.features(batch.input, code)
        posterior = self._posterior(features)
        latents = draw(posterior, noise, "latent", sample_shape)

        def rebuild() -> Distribution:
            # a copy that shares the weights: a flow reads them only when it scores, after a functional call had ended
            shared = (*self.posterior.parameters(), *self.posterior.buffers())
            fixed = {id(tensor): tensor.detach() for tensor in shared}
            return copy.deepcopy(self.posterior, fixed)(features.detach())

        density = None if isinstance(posterior, Point) else posterior
        group = Latent(latents, density, self.prior_given(code), rebuild)
        return self._scored(group, code, batch, noise)

    def _scored(self, group: Latent, code: Tensor | None, batch: Batch, noise: Noise) -> Draw:
        """The draw of latents from the posterior; a model that moves them first defines it anew."""
        return Draw((group,), self._decode(group.value, code), batch.target, batch.mask)


@MODELS.register("vae")
@dataclass(frozen=True)
class VAEConfig:
    """One group of latents between an encoder and a decoder (Kingma and Welling 2014)."""

    latent_dim: int = leaf(16, "dimensions of the latent space", ge=1, le=65536)
    network: Network = choice(NETWORKS, Conv, "networks of encoder and decoder")
    likelihood: Likelihood = choice(LIKELIHOODS, Bernoulli, "how the decoder's output scores an image")
    posterior: Posterior = choice(POSTERIORS, GaussianPosterior, "family of q(z | x)")
    prior: Prior = choice(PRIORS, StandardPrior, "family of p(z)")
    conditioning: Conditioning = choice(CONDITIONINGS, Unconditional, "how networks read labels or attributes")

    def num_latents(self, info: DataInfo) -> int:
        return self.latent_dim

    def build(self, info: DataInfo) -> VAEModel:
        """The module for images of `info.shape`, freshly initialized from torch's global generator.

        Raises:
            InputError: when the model is conditional and the data have no labels, or no attributes.
        """
        check_condition(self.conditioning, info)
        if (space := self.posterior.space) not in self.prior.spaces:
            posterior, prior = POSTERIORS.name_of(self.posterior), PRIORS.name_of(self.prior)
            fitting = [name for name in PRIORS if space in PRIORS[name].spaces]  # type: ignore[attr-defined]
            raise InputError(
                f"--prior {prior}: does not live on the {space} of posterior {posterior!r}; "
                f"choose --prior {' or '.join(fitting)}"
            )
        size = self.conditioning.size(info)
        encoder = self.network.encoder(info.seen_shape, size)
        num_features: int = encoder.num_features  # type: ignore[assignment]
        decoded = (self.likelihood.num_outputs(info.shape[0]), *info.shape[1:])
        return VAEModel(
            encoder=encoder,
            posterior=self.posterior.build(num_features, self.latent_dim),
            prior=self.prior.build(self.latent_dim, size, info.seen_shape, self.posterior),
            decoder=self.network.decoder(decoded, size, self.latent_dim),
            likelihood=self.likelihood.build(info.shape[0]),
            conditioning=self.conditioning.build(info),
            low_precision=self.network.low_precision,
        )
