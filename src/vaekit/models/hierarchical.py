"""Deep latents: a top-down hierarchical variational autoencoder.

A deterministic encoder goes up from the image. The way down starts from a learned tensor and draws group after group of
latents, each given all before it: p(z) = prod p(z_l | z_<l) and q(z | x) = prod q(z_l | z_<l, x) share that way (Sonderby et
al. 2016, arXiv:1602.02282; Vahdat and Kautz 2020, arXiv:2007.03898; Child 2021, arXiv:2011.10650).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaekit.config import choice, leaf
from vaekit.data.batches import Batch
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.models.conditioned import ConditionedModel, check_condition
from vaekit.models.draw import Draw, Latent
from vaekit.models.table import MODELS
from vaekit.networks.conditioning import CONDITIONINGS, Conditioning, Unconditional
from vaekit.networks.conv import halved
from vaekit.networks.ladder import Ascent, Descent, Group, Style
from vaekit.networks.layers import ACTIVATION_HELP, Activation
from vaekit.networks.normalization import NORMALIZATION_HELP, Normalization
from vaekit.noise import Noise
from vaekit.probability.distributions import DiagonalGaussian, draw
from vaekit.probability.likelihoods import LIKELIHOODS, Bernoulli, ImageDistribution, Likelihood


class HierarchicalModel(ConditionedModel):
    """A way up, a way down with groups of latents, and a likelihood.

    Flat codes hold all groups side by side, in the order in which they are drawn.

    Args:
        encoder: the way up.
        decoder: the way down; with the posteriors, which share it.
        likelihood: the decoder's output to a distribution over images.
        conditioning: as `ConditionedModel` has it.
    """

    low_precision = True
    provides = frozenset({"rate", "moved_rate", "log_w", "rate_by_dimension"})

    def __init__(self, encoder: Ascent, decoder: Descent, likelihood: nn.Module, conditioning: nn.Module | None):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.likelihood, self.conditioning = likelihood, conditioning

    @property
    def levels(self) -> int:
        return len(self.decoder.groups)

    def draw(self, batch: Batch, sample_shape: tuple[int, ...] = (), noise: Noise | None = None) -> Draw:
        noise = self.noise_of(batch, noise)
        code = self.code(self.shown(batch.condition, noise))
        features = self.encoder(batch.input)
        lead, found = (*sample_shape, len(batch.index)), []

        def choose(number: int, group: Group, path: Tensor) -> Tensor:
            prior = group.prior(path)
            posterior = group.posterior(path, group.seen(features[group.resolution], code), prior)
            if isinstance(prior, DiagonalGaussian):  # of a path that is another for each sample
                prior, posterior = _over(prior, lead), _over(posterior, lead)
            value = draw(posterior, noise, f"latent {number + 1}", sample_shape)
            found.append(Latent(value, posterior, prior, shape=group.shape))
            return value.flatten(0, -2)

        likelihood = self._likelihood(self.decoder(code, choose), lead)
        return Draw(tuple(found), likelihood, batch.target, batch.mask)

    def _likelihood(self, output: Tensor, lead: tuple[int, ...]) -> ImageDistribution:
        return self.likelihood(output.float().unflatten(0, lead))

    def encode(self, images: Tensor, condition: Tensor | None = None) -> DiagonalGaussian:
        """The posteriors of all groups side by side, along the path of their means.

        Each but the first is the posterior given the means of those before it, so that independent draws from them all
        are no draws of the model.

        Args:
            images: (batch, channels, height, width) in [0, 1].
            condition: labels (batch,) or attributes (batch, n), of a model that reads them.
        """
        code, features = self.code(condition), self.encoder(images)
        found: list[DiagonalGaussian] = []

        def choose(number: int, group: Group, path: Tensor) -> Tensor:
            seen = group.seen(features[group.resolution], code)
            found.append(group.posterior(path, seen, group.prior(path)))
            return found[-1].loc

        self.decoder(code, choose)
        return DiagonalGaussian(torch.cat([q.loc for q in found], -1), torch.cat([q.log_scale for q in found], -1))

    def decode(self, latents: Tensor, condition: Tensor | None = None, code: Tensor | None = None) -> ImageDistribution:
        code = self.code(condition) if code is None else code
        lead = latents.shape[:-1]
        parts = latents.flatten(0, -2).split([group.num_latents for group in self.decoder.groups], -1)

        def choose(number: int, group: Group, path: Tensor) -> Tensor:
            return parts[number]

        output = self.decoder(code, choose).float()
        if code is not None:
            output = self.follow(output, lambda: self.decoder(self.unconditional(code), choose).float())
        return self._likelihood(output, lead)

    def sample_prior(
        self, count: int, condition: Tensor | None, noise: Noise, temperatures: Sequence[float] | None = None
    ) -> Tensor:
        scales = [1.0] * self.levels if temperatures is None else temperatures
        found: list[Tensor] = []

        def choose(number: int, group: Group, path: Tensor) -> Tensor:
            prior = group.prior(path)
            center = prior.loc if isinstance(prior, DiagonalGaussian) else 0.0
            sample = draw(prior, noise, f"prior {number + 1}")
            found.append(sample if scales[number] == 1.0 else center + scales[number] * (sample - center))
            return found[-1]

        self.decoder(self.code(condition), choose)
        return torch.cat(found, -1)


def _over(given: DiagonalGaussian, lead: tuple[int, ...]) -> DiagonalGaussian:
    """A Gaussian over (n, latent) as one over (*lead, latent)."""
    return DiagonalGaussian(given.loc.unflatten(0, lead), given.log_scale.unflatten(0, lead))


@MODELS.register("hierarchical")
@dataclass(frozen=True)
class HierarchicalConfig:
    """Levels of latents from coarse to fine, each drawn given those before it (Sonderby et al. 2016; Child 2021).

    An optional vector of latents comes first; then maps of latents at each resolution, from the smallest up.
    """

    latent_dim: int | None = leaf(
        32, "numbers in the vector of latents that is drawn first (none: no such vector, only maps)", ge=1, le=65536
    )
    levels: tuple[int, ...] = leaf(
        (1, 1), "maps of latents at each resolution, from half the image's size down to the smallest", ge=0, le=64
    )
    latent_channels: tuple[int, ...] = leaf((2, 4), "channels of these maps at each resolution", ge=1, le=1024)
    widths: tuple[int, ...] = leaf((32, 64), "channels of the features at each resolution", ge=1, le=4096)
    blocks: int = leaf(
        1,
        "residual blocks at each resolution on the way up, and behind each map of latents on the way down",
        ge=1,
        le=64,
    )
    dense: int = leaf(128, "units of the dense layer before the vector's posterior", ge=1, le=65536)
    normalization: Normalization = leaf("none", NORMALIZATION_HELP)
    activation: Activation = leaf("relu", ACTIVATION_HELP)
    likelihood: Likelihood = choice(LIKELIHOODS, Bernoulli, "how the decoder's output scores an image")
    conditioning: Conditioning = choice(CONDITIONINGS, Unconditional, "how networks read labels or attributes")

    def num_latents(self, info: DataInfo) -> int:
        maps = zip(halved(info.shape[1:], len(self.levels))[1:], self.levels, self.latent_channels, strict=False)
        return (self.latent_dim or 0) + sum(math.prod(size) * count * channels for size, count, channels in maps)

    def build(self, info: DataInfo) -> HierarchicalModel:
        """The module for images of `info.shape`, freshly initialized from torch's global generator.

        Raises:
            InputError: when settings do not agree, what the encoder reads has another size than what is made, or the data
                lack what the condition is.
        """
        self._check(info)
        num_condition = self.conditioning.size(info)
        depth = sum(self.levels) + len(self.widths)
        style = Style(self.activation, self.normalization, 1.0 / math.sqrt(depth * self.blocks))
        channels, height, width = info.shape
        return HierarchicalModel(
            Ascent(info.seen_shape, self.widths, self.blocks, style),
            Descent(
                (self.likelihood.num_outputs(channels), height, width),
                self.widths,
                self.levels,
                self.latent_channels,
                self.blocks,
                self.latent_dim,
                self.dense,
                num_condition,
                style,
            ),
            self.likelihood.build(channels),
            self.conditioning.build(info),
        )

    def _check(self, info: DataInfo) -> None:
        check_condition(self.conditioning, info)
        for name, given in (("--levels", self.levels), ("--latent-channels", self.latent_channels)):
            if len(given) != len(self.widths):
                text, fitting = (
                    ",".join(map(str, numbers)) for numbers in (given, (given * len(self.widths))[: len(self.widths)])
                )
                raise InputError(
                    f"{name} {text}: {len(given)} numbers for the {len(self.widths)} resolutions of --widths; "
                    f"give one for each, such as {fitting}"
                )
        if self.latent_dim is None and not any(self.levels):
            raise InputError("--levels: no level has latents; give at least one map of latents, or a --latent-dim")
        if info.seen_shape[1:] != info.shape[1:]:
            raise InputError(
                f"--model hierarchical: reads images of the size that it makes, {info.shape[1:]}, and these are "
                f"{info.seen_shape[1:]} (height, width); choose --model vae"
            )
