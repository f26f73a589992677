"""The table of samplers, and the contract of an entry and of the density it fits.

An autoencoder has no prior that its codes follow, and the aggregate posterior of a VAE differs from its prior; a density
fitted to the codes after training mends both (Ghosh et al. 2020, arXiv:1903.12436; Dai and Wipf 2019, arXiv:1903.05789).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from torch import Tensor, nn

from vaekit.noise import Noise
from vaekit.tables import Table

SAMPLERS = Table("sampler", "vaekit.samplers")


class Density(nn.Module):
    """A density over codes (n, latent), all of it in the state."""

    @abstractmethod
    def sample(self, noise: Noise) -> Tensor:
        """Codes (count, latent), one for each index of the noise, which decides it."""

    @abstractmethod
    def log_prob(self, codes: Tensor) -> Tensor:
        """The log-density in nats, (n,), or where there is no closed form a lower bound on it."""


class Sampler(Protocol):
    """An entry: fits a `Density` to codes that have mean 0 and variance 1 in every latent.

    One that reads the model has two more methods: ``check(model)``, which raises an InputError for a model that it cannot
    read, and ``fit_model(model, loc, scale, seed)`` in place of `fit`, where the codes are (z - loc) / scale.
    """

    def fit(self, codes: Tensor, seed: int) -> Density:
        """A density of codes float32 (n, latent), which follows from them and the seed.

        What it chooses on codes apart, such as when to stop, it chooses on some of these.

        Raises:
            InputError: when there are too few codes.
        """
        ...

    def build(self, num_latents: int, num_codes: int) -> Density:
        """A density as `fit` makes of so many codes, whose state is still to be loaded."""
        ...
