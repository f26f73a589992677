"""Tiny versions of what is to come, which the walls must hold: other objectives, posteriors, latents and models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import zuko
from torch import Tensor, nn

from vaekit.config import choice, leaf
from vaekit.corruptions.table import DownUp
from vaekit.data.batches import Batch, Data
from vaekit.data.images import DataInfo
from vaekit.latents.gaussian import DiagonalGaussianHead, StandardNormalPrior
from vaekit.latents.table import POSTERIORS, PRIORS
from vaekit.models.draw import Draw, Latent
from vaekit.models.table import MODELS, Model
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.objectives.bounds import importance_weighted
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached
from vaekit.probability.distributions import StandardNormal, draw
from vaekit.probability.likelihoods import LIKELIHOODS, Bernoulli, Likelihood
from vaekit.settings import Config, Training

LATENTS = 3
INFO = DataInfo("digits", (1, 8, 8), tuple("0123456789"), False, 192)


# (a) maximum mean discrepancy: images of a batch interact, and the objective draws samples of the prior


@dataclass(frozen=True)
class MmdWall(SinglePlayer):
    """Distortion + weight * squared MMD between codes and prior, unbiased (Gretton et al. 2012, lemma 6)."""

    mmd_weight: float = leaf(10.0, "weight of the discrepancy", ge=0)
    scope = "batch"
    needs = frozenset()

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        codes = context.gather(draw.latents[0].value)
        prior = context.gather(context.noise.normal("mmd", tuple(codes.shape[1:])))
        mmd = _off_diagonal(codes) + _off_diagonal(prior) - 2.0 * _kernel(codes, prior).mean()
        loss = draw.distortion.mean() + context.hyper["mmd_weight"] * mmd
        return Losses({MODEL: loss}, detached({"mmd": mmd}))


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Inverse multiquadric (n, m) of (n, latent) and (m, latent); squares written out, as a root has no slope at 0."""
    scale = 2.0 * a.shape[-1]
    return scale / (scale + (a[:, None] - b).square().sum(-1))


def _off_diagonal(a: Tensor) -> Tensor:
    return (_kernel(a, a).sum() - len(a)) / (len(a) * (len(a) - 1))


# (b) two players: a discriminator estimates the total correlation (Kim and Mnih 2018)


@dataclass(frozen=True)
class FactorWall(SinglePlayer):
    """Distortion + rate + gamma * total correlation, by a discriminator against shuffled codes."""

    gamma: float = leaf(5.0, "weight of the total correlation", ge=0)
    scope = "batch"

    def players(self, num_latents: int, shape: tuple[int, int, int]) -> dict[str, nn.Module]:
        return {"discriminator": nn.Sequential(nn.Linear(num_latents, 16), nn.ReLU(), nn.Linear(16, 2))}

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        codes = context.gather(draw.latents[0].value)
        order = context.gather(context.noise.normal("shuffle", tuple(codes.shape[1:]))).argsort(0)
        shuffled = codes.detach().gather(0, order)
        discriminator = context.players["discriminator"]
        real, fake = discriminator(codes.detach()).log_softmax(-1), discriminator(shuffled).log_softmax(-1)
        density_ratio = discriminator(codes)
        total_correlation = (density_ratio[:, 0] - density_ratio[:, 1]).mean()
        bound = (draw.distortion + draw.rate).mean()
        model = bound + context.hyper["gamma"] * total_correlation
        return Losses(
            {MODEL: model, "discriminator": -0.5 * (real[:, 0].mean() + fake[:, 1].mean())},
            detached({"total_correlation": total_correlation}),
        )


# (c) flows as posterior and as prior


@dataclass(frozen=True)
class FlowPosteriorWall:
    """Neural spline flow given the features (Durkan et al. 2019)."""

    space = "euclidean"

    def build(self, num_features: int, num_latents: int) -> nn.Module:
        return zuko.flows.NSF(num_latents, num_features, bins=4, transforms=1, hidden_features=(16,))

    def standard(self, num_latents: int) -> nn.Module:
        return StandardNormalPrior(num_latents)


class _FlowPrior(nn.Module):
    def __init__(self, num_latents: int, num_condition: int):
        super().__init__()
        self.flow = zuko.flows.MAF(num_latents, num_condition, transforms=1, hidden_features=(16,))

    def forward(self, code: Tensor | None) -> Any:
        return self.flow(code)


@dataclass(frozen=True)
class FlowPriorWall:
    """Masked autoregressive flow (Papamakarios, Pavlakou and Murray 2017)."""

    spaces = frozenset({"euclidean"})

    def build(self, num_latents: int, num_condition: int, shape: tuple[int, int, int], posterior: Any) -> nn.Module:
        return _FlowPrior(num_latents, num_condition)


# (d) vector quantization with a codebook of moving averages (van den Oord, Vinyals and Kavukcuoglu 2017)


@dataclass
class Codes(Latent):
    """A quantized latent, with what its codebook moves by."""

    encoded: Tensor | None = None
    chosen: Tensor | None = None


@dataclass(frozen=True)
class Point:
    """All mass on one point, (batch, latent)."""

    mean: Tensor


class Autoencoder(Model):
    """A deterministic code; no bound exists."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: nn.Module):
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood

    def latent(self, encoded: Tensor) -> tuple[Latent, dict[str, Tensor]]:
        return Latent(encoded), {}

    def draw(self, batch: Batch, sample_shape: tuple[int, ...] = (), noise: Noise | None = None) -> Draw:
        latent, penalties = self.latent(self.encoder(batch.input))
        latent.value = latent.value.expand(*sample_shape, *latent.value.shape)
        return Draw((latent,), self.decode(latent.value), batch.target, batch.mask, penalties)

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Point:
        return Point(self.latent(self.encoder(images))[0].value)

    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Any:
        return self.likelihood(self.decoder(latents.flatten(0, -2)).unflatten(0, latents.shape[:-1]))


class Quantized(Autoencoder):
    """The nearest entry of a codebook; gradients pass straight through."""

    provides = frozenset()
    codebook: Tensor
    counts: Tensor
    totals: Tensor

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: nn.Module, entries: int, latents: int):
        super().__init__(encoder, decoder, likelihood)
        self.register_buffer("codebook", torch.randn(entries, latents))
        self.register_buffer("counts", torch.ones(entries))
        self.register_buffer("totals", self.codebook.clone())

    def latent(self, encoded: Tensor) -> tuple[Latent, dict[str, Tensor]]:
        chosen = (encoded.detach()[:, None] - self.codebook).square().sum(-1).argmin(-1)
        nearest = self.codebook[chosen]
        value = encoded + (nearest - encoded).detach()
        commitment = 0.25 * (encoded - nearest.detach()).square().sum(-1)
        return Codes(value, encoded=encoded.detach(), chosen=chosen), {"commitment": commitment}

    def draw(self, batch: Batch, sample_shape: tuple[int, ...] = (), noise: Noise | None = None) -> Draw:
        found = super().draw(batch, sample_shape, noise)
        (latent,) = found.latents
        assert isinstance(latent, Codes)
        assert latent.chosen is not None
        entries = torch.arange(len(self.codebook), device=self.codebook.device)
        return replace(found, tallies={"codes": (latent.chosen[:, None] == entries).sum(0)})

    def after_step(self, draw: Draw, gather: Callable[[Tensor], Tensor]) -> None:
        (latent,) = draw.latents
        assert isinstance(latent, Codes)
        assert latent.encoded is not None
        assert latent.chosen is not None
        entries = torch.arange(len(self.codebook), device=self.codebook.device)
        members = (gather(latent.chosen)[:, None] == entries).to(latent.encoded.dtype)
        self.counts.lerp_(members.sum(0), 0.05)
        self.totals.lerp_(members.T @ gather(latent.encoded), 0.05)
        self.codebook.copy_(self.totals / (self.counts[:, None] + 1e-5))


def _networks(info: DataInfo, num_latents: int) -> tuple[nn.Module, nn.Module]:
    """An encoder and a decoder of one argument each."""
    size = math.prod(info.shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, num_latents))
    decoder = nn.Sequential(nn.Linear(num_latents, size), nn.Unflatten(1, info.shape))
    return encoder, decoder


@dataclass(frozen=True)
class AutoencoderWall:
    """Plain autoencoder."""

    latent_dim: int = leaf(LATENTS, "size of the code", ge=1)
    likelihood: Likelihood = choice(LIKELIHOODS, Bernoulli, "how an image is scored")

    def num_latents(self, info: DataInfo) -> int:
        return self.latent_dim

    def build(self, info: DataInfo) -> Model:
        return Autoencoder(*_networks(info, self.latent_dim), self.likelihood.build())


@dataclass(frozen=True)
class QuantizedWall:
    """Vector-quantized autoencoder."""

    latent_dim: int = leaf(LATENTS, "size of a codebook entry", ge=1)
    entries: int = leaf(8, "entries of the codebook", ge=2)
    likelihood: Likelihood = choice(LIKELIHOODS, Bernoulli, "how an image is scored")

    def num_latents(self, info: DataInfo) -> int:
        return self.latent_dim

    def build(self, info: DataInfo) -> Model:
        networks = _networks(info, self.latent_dim)
        return Quantized(*networks, self.likelihood.build(), self.entries, self.latent_dim)


@dataclass(frozen=True)
class ReconstructionWall(SinglePlayer):
    """Distortion; the step adds the model's penalties."""

    needs = frozenset()

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        return Losses({MODEL: draw.distortion.mean()}, {})


# (e) two levels of latents: p(z1) p(z0 | z1) p(x | z0), q(z1 | x) q(z0 | z1, x)


class TwoLevels(Model):
    provides = frozenset({"rate", "log_w"})

    def __init__(self, info: DataInfo, top: int, bottom: int, likelihood: nn.Module):
        super().__init__()
        self.encoder, self.decoder = _networks(info, bottom)
        self.encoder[-1] = nn.Identity()
        self.top, self.bottom = DiagonalGaussianHead(16, top), DiagonalGaussianHead(16 + top, bottom)
        self.bottom_prior = DiagonalGaussianHead(top, bottom)
        self.likelihood, self.num_top = likelihood, top

    def draw(self, batch: Batch, sample_shape: tuple[int, ...] = (), noise: Noise | None = None) -> Draw:
        assert noise is not None
        features = self.encoder(batch.input)
        q_top = self.top(features)
        top = draw(q_top, noise, "top", sample_shape)
        q_bottom = self.bottom(torch.cat([features.expand(*sample_shape, *features.shape), top], -1))
        bottom = draw(q_bottom, noise, "bottom", sample_shape)
        groups = (
            Latent(top, q_top, StandardNormal(self.num_top)),
            Latent(bottom, q_bottom, self.bottom_prior(top)),
        )
        image = self.decoder(bottom.flatten(0, -2)).unflatten(0, bottom.shape[:-1])
        return Draw(groups, self.likelihood(image), batch.target, batch.mask)


@dataclass(frozen=True)
class TwoLevelsWall:
    """Two stochastic layers (Sønderby et al. 2016)."""

    latent_dim: int = leaf(2, "latents of the top level", ge=1)
    bottom_dim: int = leaf(4, "latents of the bottom level", ge=1)
    likelihood: Likelihood = choice(LIKELIHOODS, Bernoulli, "how an image is scored")

    def num_latents(self, info: DataInfo) -> int:
        return self.latent_dim + self.bottom_dim

    def build(self, info: DataInfo) -> Model:
        return TwoLevels(info, self.latent_dim, self.bottom_dim, self.likelihood.build())


# (f) MIWAE: M bounds of K samples each (Rainforth et al. 2018)


@dataclass(frozen=True)
class MiwaeWall(SinglePlayer):
    """Minus the mean of M importance-weighted bounds with K samples each."""

    bounds: int = leaf(2, "M", ge=1)
    num_samples: int = leaf(3, "K", ge=1)
    needs = frozenset({"log_w"})

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.bounds, self.num_samples)

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        assert draw.log_w is not None
        bound = importance_weighted(draw.log_w, dim=1)
        return Losses({MODEL: -bound.mean()}, detached({"miwae": bound}))


# (j) networks of others, which take one argument and know no condition


@dataclass(frozen=True)
class ForeignWall:
    """A variational autoencoder around any two modules."""

    latent_dim: int = leaf(LATENTS, "latents", ge=1)
    likelihood: Likelihood = choice(LIKELIHOODS, Bernoulli, "how an image is scored")

    def num_latents(self, info: DataInfo) -> int:
        return self.latent_dim

    def build(self, info: DataInfo) -> Model:
        encoder, decoder = _networks(info, self.latent_dim)
        head, prior = (
            DiagonalGaussianHead(self.latent_dim, self.latent_dim),
            StandardNormalPrior(self.latent_dim),
        )
        return VAEModel(encoder, head, prior, decoder, self.likelihood.build())


ENTRIES = [
    (OBJECTIVES, "wall-mmd", MmdWall),
    (OBJECTIVES, "wall-factor", FactorWall),
    (OBJECTIVES, "wall-reconstruction", ReconstructionWall),
    (OBJECTIVES, "wall-miwae", MiwaeWall),
    (POSTERIORS, "wall-flow", FlowPosteriorWall),
    (PRIORS, "wall-flow", FlowPriorWall),
    (MODELS, "wall-autoencoder", AutoencoderWall),
    (MODELS, "wall-quantized", QuantizedWall),
    (MODELS, "wall-two-levels", TwoLevelsWall),
    (MODELS, "wall-foreign", ForeignWall),
]


def register() -> None:
    for table, name, entry in ENTRIES:
        table.register(name)(entry)


@contextmanager
def registered() -> Iterator[None]:
    """Within it, the tables have these entries."""
    register()
    try:
        yield
    finally:
        for table, name, _ in ENTRIES:
            del table._entries[name]


def config(model: Any = None, objective: Any = None, **data: Any) -> Config:
    """12 steps on 192 digits, validated on 51."""
    return Config(
        data=Data(data="digits", validation=51, train_limit=192, **data),
        model=model or VAEConfig(latent_dim=LATENTS, network=MLP(hidden=(16,))),
        objective=objective or Elbo(),
        training=Training(epochs=2.0, batch_size=32, device="cpu", threads=1, learning_rate=0.01),
    )


def _flow(**parts: Any) -> Config:
    return config(VAEConfig(latent_dim=LATENTS, network=MLP(hidden=(16,)), **parts))


BOUND = (
    "elbo_nats",
    "rate_nats",
    "nll_nats",
    "effective_sample_size",
    "standard_error_nats",
    "num_importance_samples",
)
WALLS: dict[str, Callable[[], Config]] = {
    "mmd": lambda: config(objective=MmdWall()),
    "two-players": lambda: config(objective=FactorWall()),
    "flow-posterior": lambda: _flow(posterior=FlowPosteriorWall()),
    "flow-prior": lambda: _flow(prior=FlowPriorWall()),
    "quantized": lambda: config(QuantizedWall(), ReconstructionWall()),
    "two-levels": lambda: config(TwoLevelsWall()),
    "miwae": lambda: config(objective=MiwaeWall()),
    "autoencoder": lambda: config(AutoencoderWall(), ReconstructionWall()),
    "foreign-networks": lambda: config(ForeignWall()),
    "denoising": lambda: config(corruption=DownUp()),
}
NO_BOUND = ("quantized", "autoencoder")
NO_MEAN = ("flow-posterior",)
