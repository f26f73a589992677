"""A Gaussian kernel on every code."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.noise import Noise
from vaekit.probability.distributions import LOG_2PI
from vaekit.probability.mixtures import choose
from vaekit.samplers.fitting import held_out
from vaekit.samplers.table import SAMPLERS, Density

_AT_ONCE = 250  # codes scored against all kernels at a time
_MOST_TRIED = 500  # held-out codes that choose the bandwidth
_NARROWEST, _WIDEST = 1e-3, 3.0


class KernelDensity(Density):
    """Equally weighted N(code, bandwidth^2 I) around each of n codes."""

    codes: Tensor
    bandwidth: Tensor

    def __init__(self, codes: Tensor, bandwidth: float):
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("bandwidth", torch.tensor(bandwidth, device=codes.device))

    def sample(self, noise: Noise) -> Tensor:
        alike = torch.full((len(self.codes),), -math.log(len(self.codes)), device=self.codes.device)
        chosen = choose(alike, noise, "sampler")
        return self.codes[chosen] + self.bandwidth * noise.normal("sampler", (self.codes.shape[1],))

    def log_prob(self, codes: Tensor) -> Tensor:
        parts = [_log_density(squares, self.bandwidth, codes.shape[1]) for squares in self._squares(codes)]
        return torch.cat(parts).to(codes.dtype)

    def _squares(self, codes: Tensor) -> list[Tensor]:
        return [torch.cdist(part.double(), self.codes.double()).square() for part in codes.split(_AT_ONCE)]


def _log_density(squares: Tensor, bandwidth: Tensor | float, num_latents: int) -> Tensor:
    """Of squared distances (n, kernels), nats (n,)."""
    log_scale = math.log(float(bandwidth)) + 0.5 * LOG_2PI
    kernels = torch.logsumexp(-0.5 * squares / float(bandwidth) ** 2, 1)
    return kernels - math.log(squares.shape[1]) - num_latents * log_scale


@SAMPLERS.register("kernel-density")
@dataclass(frozen=True)
class KernelDensitySampler:
    """Gaussian kernels around the codes themselves, of the width that held-out codes are likeliest under (Parzen 1962).

    Samples lie near codes of training images, and the file holds all of these.
    """

    bandwidth: float | None = leaf(
        None, "standard deviation of a kernel, in those of the codes (none: chosen on held-out codes)", gt=0, le=100
    )

    def fit(self, codes: Tensor, seed: int) -> Density:
        return KernelDensity(codes, self.bandwidth or self._best(codes, seed))

    def _best(self, codes: Tensor, seed: int) -> float:
        from scipy.optimize import minimize_scalar

        kept, apart = held_out(codes, seed)
        squares = torch.cdist(apart[:_MOST_TRIED].double(), kept.double()).square()

        def surprise(log_bandwidth: float) -> float:
            return -float(_log_density(squares, math.exp(log_bandwidth), codes.shape[1]).mean())

        bounds = (math.log(_NARROWEST), math.log(_WIDEST))
        found = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 0.02})
        return math.exp(found.x)

    def build(self, num_latents: int, num_codes: int) -> Density:
        return KernelDensity(torch.zeros(num_codes, num_latents), 1.0)
