"""The record that a model returns, and that objectives, evaluation and figures all read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import add
from typing import Any

from torch import Tensor

from vaekit.probability.distributions import Distribution, center_of, closed_form_kl, kl_by_dimension
from vaekit.probability.likelihoods import ImageDistribution


@dataclass
class Latent:
    """One group of latents, drawn given its ancestors.

    Attributes:
        value: (*sample_shape, batch, *event).
        posterior: the distribution it was drawn from; None for a deterministic code.
        prior: its prior given ancestors and condition; None for a deterministic code.
        rebuild: returns the posterior with its parameters detached from the graph, for path-derivative gradients.
        shape: (channels, height, width) of a map of latents, which lies in `value` in that order; () for a vector.
    """

    value: Tensor
    posterior: Distribution | None = None
    prior: Distribution | None = None
    rebuild: Callable[[], Distribution] | None = None
    shape: tuple[int, ...] = ()

    @cached_property
    def log_ratio(self) -> Tensor | None:
        """log p(value) - log q(value) in nats, (*sample_shape, batch); None for a deterministic code."""
        if self.posterior is None or self.prior is None:
            return None
        return self.prior.log_prob(self.value) - self.posterior.log_prob(self.value)

    @cached_property
    def rate(self) -> Tensor | None:
        """KL(posterior || prior) in nats: closed form (batch,) where there is one, else one sample's -log_ratio."""
        if self.stochastic and (kl := closed_form_kl(self.posterior, self.prior)) is not None:
            return kl
        return None if self.log_ratio is None else -self.log_ratio

    @cached_property
    def rate_by_dimension(self) -> Tensor | None:
        """The parts of `rate`, (batch, latent) nats, where it is a sum over latents; else None."""
        return kl_by_dimension(self.posterior, self.prior)

    @property
    def stochastic(self) -> bool:
        """Whether the group was drawn from a density."""
        return self.posterior is not None and self.prior is not None

    @property
    def code(self) -> Tensor:
        """What represents the image: the posterior's mean, or for a flow its center, (batch, *event); else the value."""
        center = center_of(self.posterior)
        return self.value if center is None else center


@dataclass
class Draw:
    """What one pass through a model yields. Quantities are computed when first asked for, in nats.

    Attributes:
        latents: groups in order of ancestry.
        likelihood: p(target | latents), over (*sample_shape, batch).
        target: (batch, channels, height, width) that it scores.
        mask: None, or 1 where the target is observed.
        penalties: named further terms, each (*sample_shape, batch) or (batch,), weighted; the training step adds their
            means to the model's loss, whatever the objective.
        tallies: counts over the images of the batch that add up over batches, such as how often each code was used, each
            (n,); an epoch's record says of them how many of the n occur and their perplexity.
    """

    latents: tuple[Latent, ...]
    likelihood: ImageDistribution
    target: Tensor
    mask: Tensor | None = None
    penalties: Mapping[str, Tensor] = field(default_factory=dict)
    tallies: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def log_p_x(self) -> Tensor:
        """log p(target | latents), (*sample_shape, batch)."""
        return self.likelihood.log_prob(self.target, self.mask)

    @cached_property
    def log_w(self) -> Tensor | None:
        """The log importance weight log p(target, z) - log q(z), never from closed forms; None without a density."""
        return _total([self.log_p_x, *(latent.log_ratio for latent in self.latents)])

    @cached_property
    def rate(self) -> Tensor | None:
        """Sum of the groups' rates, broadcast over samples where it is a closed form; None for deterministic codes."""
        return _total([latent.rate for latent in self.latents])

    @property
    def distortion(self) -> Tensor:
        """-log p(target | latents), (*sample_shape, batch)."""
        return -self.log_p_x

    @cached_property
    def elbo(self) -> Tensor | None:
        """log p(target | latents) - rate, (*sample_shape, batch); None where there is no bound."""
        return None if self.rate is None else self.log_p_x - self.rate

    def rescore(self, path_only: bool = False) -> Draw:
        """The same values scored again; with `path_only`, log q depends on the values alone.

        Then the gradient of log_w flows through the sampled path only, as sticking-the-landing (Roeder, Wu and Duvenaud
        2017) and doubly reparameterized gradients (Tucker et al. 2019) need it.
        """

        def again(latent: Latent) -> Latent:
            if path_only and latent.posterior is not None:
                if latent.rebuild is None:
                    raise TypeError("this posterior cannot be rebuilt with detached parameters")
                return replace(latent, posterior=latent.rebuild())
            return replace(latent)

        return replace(self, latents=tuple(map(again, self.latents)))


def _total(parts: list[Any]) -> Any:
    return None if any(part is None for part in parts) or not parts else reduce(add, parts)
