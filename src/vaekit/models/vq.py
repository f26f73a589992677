"""The vector-quantized autoencoder: grids of codes (van den Oord, Vinyals and Kavukcuoglu 2017, arXiv:1711.00937)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from vaekit.code_priors.table import CODE_PRIORS, CodePrior, CodePriorConfig, Grid
from vaekit.code_priors.transformer import TransformerPrior
from vaekit.config import choice, leaf
from vaekit.data.batches import Batch
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.models.conditioned import ConditionedModel, check_condition
from vaekit.models.draw import Draw, Latent
from vaekit.models.table import MODELS
from vaekit.networks.conditioning import CONDITIONINGS, Conditioning, Unconditional
from vaekit.networks.conv import halved
from vaekit.networks.convolution import Conv2d
from vaekit.networks.layers import initialize
from vaekit.networks.residual import ascent, descent
from vaekit.noise import Noise
from vaekit.probability.likelihoods import LIKELIHOODS, Bernoulli, ImageDistribution, Likelihood
from vaekit.quantizers.codebooks import Ema
from vaekit.quantizers.table import QUANTIZERS, Quantized, Quantizer, QuantizerConfig


@dataclass(frozen=True)
class CodesOf:
    """q(codes | image): all mass on one grid of codes, in the counting measure.

    Attributes:
        mean: the codes' vectors side by side, (batch, positions * code_dim), with the quantizer's gradient.
        quantized: all that the quantizer said.
    """

    mean: Tensor
    quantized: Quantized

    def log_prob(self, value: Tensor) -> Tensor:
        """log 1 = 0 of the codes that were drawn, (*sample_shape, batch); no others are ever asked for."""
        return torch.zeros(value.shape[:-2], device=value.device)


class PriorOfCodes:
    """p(codes | condition); the codes of one draw are scored once, however often they are asked for.

    Args:
        prior: scores grids.
        code: the conditions' vectors (batch, k), or None.
        drawn: int64 (*sample_shape, batch, positions, books), of a draw whose samples are all the same.
    """

    def __init__(self, prior: CodePrior, code: Tensor | None, drawn: Tensor):
        self.prior, self.code, self.drawn = prior, code, drawn

    @cached_property
    def _of_drawn(self) -> Tensor:
        with torch.autocast(self.drawn.device.type, enabled=False):
            return self.prior.log_prob(self.drawn[(0,) * (self.drawn.dim() - 3)], self.code)

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, (*sample_shape, batch), of codes (*sample_shape, batch, positions, books)."""
        lead = value.shape[:-2]
        if value is self.drawn:
            return self._of_drawn.expand(lead)
        code = None if self.code is None else self.code.expand(*lead, -1).flatten(0, -2)
        return self.prior.log_prob(value.flatten(0, -3), code).view(lead)


class VQModel(ConditionedModel):
    """An encoder to a grid of vectors, a quantizer that puts a code in place of each, a decoder that reads these.

    The latents of an image are its codes. q(codes | image) is all mass on one grid, so the rate is -log p(codes) under the
    prior over codes, and -(distortion + rate) a bound on log p(image); no two draws differ. Under an objective with a rate
    the gradient of the rate reaches the prior alone, that of the distortion goes through the quantizer into the encoder:
    one training makes both.

    A condition is read by the prior over codes, and by no other part: encoder and decoder see images and grids alone.

    Args:
        encoder: images (batch, channels, height, width) to (batch, code_dim, *grid).
        quantizer: see `Quantizer`.
        code_prior: see `CodePrior`.
        decoder: (n, code_dim, *grid) to the likelihood's parameters (n, outputs * channels, height, width).
        grid: (height, width) of the codes.
        likelihood: see `ConditionedModel`.
        conditioning: see `ConditionedModel`.
    """

    provides = frozenset({"rate", "log_w"})
    draws_vary = False
    low_precision = True
    code_is_told = False

    def __init__(
        self,
        encoder: nn.Module,
        quantizer: Quantizer,
        code_prior: CodePrior,
        decoder: nn.Module,
        grid: tuple[int, int],
        likelihood: nn.Module,
        conditioning: nn.Module | None = None,
    ):
        super().__init__()
        self.encoder, self.quantizer, self.code_prior, self.decoder = encoder, quantizer, code_prior, decoder
        self.grid, self.likelihood, self.conditioning = grid, likelihood, conditioning

    def prior_parameters(self) -> list[nn.Parameter]:
        return list(self.code_prior.parameters())

    def parts(self) -> dict[str, tuple[nn.Module, ...]]:
        return {"encoder": (self.encoder, self.quantizer), "decoder": (self.decoder, self.likelihood)}

    @property
    def positions(self) -> int:
        """Places of the grid."""
        return self.grid[0] * self.grid[1]

    @property
    def codebooks(self) -> Tensor:
        """The vectors of all codes of each book, (books, codes, code_dim)."""
        return self.quantizer.codebooks

    def encode(self, images: Tensor, condition: Tensor | None = None) -> CodesOf:
        """The codes of images (batch, channels, height, width) in [0, 1]; a condition changes nothing."""
        maps = self.encoder(images)
        with torch.autocast(images.device.type, enabled=False):
            quantized = self.quantizer(maps.float().permute(0, 2, 3, 1).flatten(1, 2))
        return CodesOf(quantized.vectors.flatten(1), quantized)

    def vectors(self, indices: Tensor) -> Tensor:
        """What the decoder reads (..., positions * code_dim) for codes (..., positions, books)."""
        return self.quantizer.lookup(indices).flatten(-2)

    def decode(self, latents: Tensor, condition: Tensor | None = None, code: Tensor | None = None) -> ImageDistribution:
        """p(image | grid): any vectors (*sample_shape, batch, positions * code_dim), between codes too; see `Model`."""
        lead = latents.shape[:-1]
        maps = latents.reshape(-1, *self.grid, self.quantizer.code_dim).permute(0, 3, 1, 2)
        output = self.decoder(maps).float()
        return self.likelihood(output.view(*lead, *output.shape[1:]) if len(lead) > 1 else output)

    def draw(self, batch: Batch, sample_shape: tuple[int, ...] = (), noise: Noise | None = None) -> Draw:
        code = self.code(self.shown(batch.condition, self.noise_of(batch, noise)))
        posterior = self.encode(batch.input)
        quantized = posterior.quantized
        indices = quantized.indices.expand(*sample_shape, *quantized.indices.shape)
        group = Latent(indices, posterior, PriorOfCodes(self.code_prior, code, indices))
        likelihood = self.decode(posterior.mean.expand(*sample_shape, *posterior.mean.shape))
        return Draw((group,), likelihood, batch.target, batch.mask, quantized.penalties, self._used(quantized))

    def _used(self, quantized: Quantized) -> dict[str, Tensor]:
        """How often each code was chosen, (codes,) for each book."""
        by_book = quantized.indices.flatten(0, 1).T
        counts = torch.zeros(len(by_book), self.quantizer.num_codes, device=by_book.device)
        counts.scatter_add_(1, by_book, torch.ones_like(by_book, dtype=counts.dtype))
        if len(counts) == 1:
            return {"codes": counts[0]}
        return {f"codes_{number}": count for number, count in enumerate(counts, 1)}

    def sample_prior(
        self, count: int, condition: Tensor | None, noise: Noise, temperatures: Sequence[float] | None = None
    ) -> Tensor:
        return self.vectors(self.sample_codes(condition, noise, 1.0 if temperatures is None else temperatures[0]))

    @torch.no_grad()
    def sample_codes(self, condition: Tensor | None, noise: Noise, temperature: float = 1.0) -> Tensor:
        """Codes (count, positions, books) from the prior, as many as the noise has indices; see `sample_prior`."""
        code = self.code(condition)
        event = (2, self.positions, self.quantizer.num_books)
        coarse, fine = noise.uniform("codes", event).double().unbind(1)  # each in steps of 2^-16
        free = None if code is None or self.guidance == 1.0 else self.unconditional(code)
        return self.code_prior.sample(coarse + fine / 65536.0, code, temperature, free, self.guidance)

    def after_step(self, draw: Draw, gather: Callable[[Tensor], Tensor]) -> None:
        super().after_step(draw, gather)
        posterior = draw.latents[0].posterior
        assert isinstance(posterior, CodesOf)
        if self.frozen != "encoder":
            self.quantizer.after_step(posterior.quantized, gather)


@MODELS.register("vq")
@dataclass(frozen=True)
class VQConfig:
    """Grids of discrete codes, with a prior over them (van den Oord et al. 2017).

    Labels or attributes are read by the prior over codes alone.
    """

    channels: tuple[int, ...] = leaf((32, 64), "channels of the levels, one for each halving", ge=1, le=4096)
    blocks: int = leaf(1, "residual blocks at each level, the one that halves among them", ge=1, le=64)
    quantizer: QuantizerConfig = choice(QUANTIZERS, Ema, "how vectors become codes")
    code_prior: CodePriorConfig = choice(CODE_PRIORS, TransformerPrior, "family of p(codes)")
    likelihood: Likelihood = choice(LIKELIHOODS, Bernoulli, "how the decoder's output scores an image")
    conditioning: Conditioning = choice(
        CONDITIONINGS, Unconditional, "how the prior over codes reads labels or attributes"
    )

    def grid(self, info: DataInfo) -> tuple[int, int]:
        """(height, width) of the codes."""
        return halved(info.seen_shape[1:], len(self.channels))[-1]

    def num_latents(self, info: DataInfo) -> int:
        height, width = self.grid(info)
        return height * width * self.quantizer.code_dim

    def in_words(self, info: DataInfo) -> str:
        """Such as ``49 codes (7 by 7 places), each one of 256``."""
        height, width = self.grid(info)
        books = self.quantizer.num_books
        places = f"{height} by {width} places" + (f", {books} books" if books > 1 else "")
        return f"{height * width * books:,} codes ({places}), each one of {self.quantizer.num_codes:,}"

    def build(self, info: DataInfo) -> VQModel:
        """The module for images of `info.shape`, freshly initialized from torch's global generator.

        Raises:
            InputError: when the model is conditional and the data have no labels, or no attributes, or the prior over codes
                reads none; when what the encoder reads has not the target's size.
        """
        check_condition(self.conditioning, info)
        if self.conditioning.size(info) and not getattr(self.code_prior, "reads_condition", True):
            raise InputError(
                f"--code-prior {CODE_PRIORS.name_of(self.code_prior)}: reads no labels or attributes, and no other part of "
                "--model vq does; choose --code-prior transformer, or --conditioning none"
            )
        grid = self.grid(info)
        if halved(info.shape[1:], len(self.channels))[-1] != grid:
            raise InputError(
                f"--model vq: the encoder reads images of {_by(info.seen_shape)} pixels and the decoder makes "
                f"{_by(info.shape)}, and both need the same grid of codes; choose a corruption that keeps the size"
            )
        quantizer = self.quantizer.build()
        code_dim = self.quantizer.code_dim
        layers = descent(info.seen_shape[0], self.channels, self.blocks, "relu", "none")
        to_codes = initialize(Conv2d(self.channels[-1], code_dim, 1))
        decoded = (self.likelihood.num_outputs(info.shape[0]), *info.shape[1:])
        from_codes = initialize(Conv2d(code_dim, self.channels[-1], 3, 1, 1))
        places = Grid(grid[0] * grid[1], quantizer.num_books, quantizer.num_codes)
        return VQModel(
            encoder=nn.Sequential(*layers, to_codes),
            quantizer=quantizer,
            code_prior=self.code_prior.build(places, self.conditioning.size(info)),
            decoder=nn.Sequential(from_codes, *ascent(decoded, self.channels, self.blocks, "relu", "none")),
            grid=grid,
            likelihood=self.likelihood.build(info.shape[0]),
            conditioning=self.conditioning.build(info),
        )


def _by(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]}x{shape[2]}"
