"""One Gaussian with a full covariance, and mixtures of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.config import leaf
from vaekit.errors import InputError
from vaekit.noise import Noise, seed_key
from vaekit.probability.distributions import LOG_2PI
from vaekit.probability.mixtures import choose
from vaekit.samplers.table import SAMPLERS, Density

_MOST_SEED = 2**32  # of NumPy's generator


class FullMixture(Density):
    """K Gaussians; `factor` (K, latent, latent) holds the lower triangular roots of their covariances."""

    log_weights: Tensor
    loc: Tensor
    factor: Tensor

    def __init__(self, log_weights: Tensor, loc: Tensor, factor: Tensor):
        super().__init__()
        self.register_buffer("log_weights", log_weights.float())
        self.register_buffer("loc", loc.float())
        self.register_buffer("factor", factor.float())

    def sample(self, noise: Noise) -> Tensor:
        chosen = choose(self.log_weights, noise, "sampler")
        standard = noise.normal("sampler", (self.loc.shape[-1],))
        return self.loc[chosen] + (self.factor[chosen] @ standard[..., None])[..., 0]

    def log_prob(self, codes: Tensor) -> Tensor:
        parts = []
        for log_weight, loc, factor in zip(self.log_weights, self.loc.double(), self.factor.double(), strict=True):
            standard = torch.linalg.solve_triangular(factor, (codes.double() - loc).T, upper=False)
            log_scale = factor.diagonal().log().sum()
            parts.append(log_weight - 0.5 * (standard.square() + LOG_2PI).sum(0) - log_scale)
        return torch.logsumexp(torch.stack(parts), 0).to(codes.dtype)


@SAMPLERS.register("mixture")
@dataclass(frozen=True)
class MixtureSampler:
    """Mixture of Gaussians with full covariances, by expectation maximization (Ghosh et al. 2020, arXiv:1903.12436)."""

    components: int = leaf(10, "components of the mixture", ge=1, le=65536)

    def fit(self, codes: Tensor, seed: int) -> Density:
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no types

        if self.components > len(codes):
            raise InputError(f"--components {self.components}: is more than the {len(codes)} codes; give fewer")
        random_state = seed_key(seed, "mixture") % _MOST_SEED
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of steps that ran out: the held-out density says how good the fit is
            found = GaussianMixture(self.components, max_iter=500, random_state=random_state).fit(codes.double().cpu())
        covariances = torch.from_numpy(found.covariances_)
        weights = torch.from_numpy(found.weights_)
        return FullMixture(weights.log(), torch.from_numpy(found.means_), torch.linalg.cholesky(covariances))

    def build(self, num_latents: int, num_codes: int) -> Density:
        square = (self.components, num_latents, num_latents)
        return FullMixture(torch.zeros(self.components), torch.zeros(square[:2]), torch.zeros(square))


@SAMPLERS.register("gaussian")
@dataclass(frozen=True)
class GaussianSampler:
    """One Gaussian with a full covariance: the mean and covariance of the codes (Ghosh et al. 2020, arXiv:1903.12436)."""

    def fit(self, codes: Tensor, seed: int) -> Density:
        return MixtureSampler(components=1).fit(codes, seed)

    def build(self, num_latents: int, num_codes: int) -> Density:
        return MixtureSampler(components=1).build(num_latents, num_codes)
