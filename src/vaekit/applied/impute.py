"""`impute`: what hidden pixels may have been, drawn from the model given the pixels that are seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaekit.errors import InputError
from vaekit.noise import Noise
from vaekit.probability.distributions import draw
from vaekit.probability.likelihoods import ImageDistribution
from vaekit.trained import Progress, Trained, silent

_FIRST = 64  # samples of the prior whose mean image stands in for hidden pixels at the start


@dataclass(frozen=True)
class Imputed:
    """Completed images. Pixels that were seen are in all of them exactly what they were.

    Attributes:
        mean: (n, channels, height, width), hidden pixels at their mean over all chains and all steps that count.
        samples: (n, imputations, channels, height, width), hidden pixels as each chain ends: the mean image of a code drawn
            from p(z | seen pixels). The pixel noise of the likelihood is left out.
        acceptance: the rate of proposals that the chains took after the warm-up, 1 where every one is taken.
        exact: whether the chains end in p(z | seen pixels); else they are pseudo-Gibbs.
    """

    mean: Tensor
    samples: Tensor
    acceptance: float
    exact: bool


@torch.no_grad()
def impute(
    trained: Trained,
    images: Tensor,
    hidden: Tensor,
    condition: Tensor | None = None,
    imputations: int = 5,
    steps: int = 200,
    warmup: int = 50,
    seed: int = 0,
    size: int = 256,
    first: int = 0,
    progress: Progress = silent,
) -> Imputed:
    """Complete images by Metropolis-within-Gibbs (Mattei and Frellsen 2018, arXiv:1802.04826, algorithm 1).

    Each step proposes z' ~ q(z | x) for the present guess of the whole image x, takes it with the chance

        min(1, p(x | z') p(z') q(z | x) / (p(x | z) p(z) q(z' | x))),

    and draws the hidden pixels anew from p(x_hidden | z). In the `warmup` every proposal is taken, which is pseudo-Gibbs
    (Rezende, Mohamed and Wierstra 2014, arXiv:1401.4082, appendix F): it moves fast and is biased by what q lacks. It is all
    that there is for a posterior without a density at given codes. Where the likelihood is a surrogate, hidden pixels are
    at their mean given z in place of drawn.

    Args:
        trained: a trained model; see `vaekit.load`.
        images: (n, channels, height, width) in [0, 1]; what stands at hidden pixels does not count.
        hidden: bool, of the same shape or one that expands to it.
        condition: (n,) labels or (n, k) attributes, for a conditional model.
        imputations: independent chains for each image.
        steps: of each chain, the warm-up with them.
        warmup: below `steps`; the mean is taken over the steps after it.
        seed: of everything random.
        size: chains at once in memory.
        first: number of the first image, so that images that are completed in parts equal those completed together.
        progress: is told the fraction done.

    Raises:
        InputError: for a model that has no encoder or prior, or steps that are too few.
    """
    trained.check_same("impute")
    if not 0 <= warmup < steps:
        raise InputError(f"--steps {steps}: the warm-up takes {warmup} of them; give more steps than these")
    if not hasattr(trained.model, "encode") or not hasattr(trained.model, "prior_given"):
        raise InputError(f"model {type(trained.model).__name__} has no posterior of one vector; choose another model")
    hidden = hidden.expand(images.shape)
    chains = [
        _Chains(trained, images, hidden, condition, rows, first, imputations, seed)
        for rows in torch.arange(len(images)).split(max(1, size // imputations))
    ]
    for number, part in enumerate(chains):
        for step in range(steps):
            part.step(step, step < warmup)
            if step % 10 == 0:
                progress((number + step / steps) / len(chains))
        part.finish(steps - warmup)
    progress(1.0)
    if not chains:
        return Imputed(images, images[:, None], 1.0, True)
    mean = torch.cat([part.mean for part in chains])
    samples = torch.cat([part.samples for part in chains])
    tried = sum(part.tried for part in chains)
    taken = sum(part.taken for part in chains)
    return Imputed(mean, samples, taken / max(tried, 1), chains[0].exact)


class _Chains:
    """All chains of some images, (images * imputations) side by side."""

    def __init__(
        self,
        trained: Trained,
        images: Tensor,
        hidden: Tensor,
        condition: Tensor | None,
        rows: Tensor,
        first: int,
        imputations: int,
        seed: int,
    ):
        model, device = trained.model, trained.device
        self.model: Any = model
        self.count, self.seed = imputations, seed
        self.given, self.hidden = images[rows], hidden[rows]
        rows = first + rows
        noise = Noise(Noise.from_seed(seed, 1, "impute").key, rows)
        self.seen = self._each(trained.data.binarization(self.given, noise).to(device))
        self.mask = self._each(self.hidden.to(device))
        self.condition = None if condition is None else self._each(condition[rows - first].to(device))
        self.code = model.code(self.condition)
        # chains of one image differ, and an image's chains are the same whatever stands beside it
        self.index = (rows[:, None] * imputations + torch.arange(imputations)).flatten().to(device)
        info = trained.info
        self.draws_pixels = trained.config.model.likelihood.measure(trained.config.data.is_binary(info)) != "surrogate"
        self.exact = "path" in model.provides
        prior = model.sample_prior(_FIRST * len(self.seen), self._often(self.condition), self._noise(0, _FIRST))
        start = model.decode(prior, self._often(self.condition)).mean.clamp(0.0, 1.0)
        start = start.unflatten(0, (len(self.seen), _FIRST)).mean(1)
        self.images = torch.where(self.mask, start, self.seen)
        self.latents: Tensor | None = None
        self.sum = torch.zeros_like(self.seen)
        self.taken = self.tried = 0

    def _each(self, part: Tensor) -> Tensor:
        return part.repeat_interleave(self.count, 0)

    def _often(self, part: Tensor | None) -> Tensor | None:
        return None if part is None else part.repeat_interleave(_FIRST, 0)

    def _noise(self, step: int, times: int = 1) -> Noise:
        noise = Noise.from_seed(self.seed, 1, "impute", step, device=self.index.device)
        index = (
            self.index if times == 1 else (self.index[:, None] * times + torch.arange(times).to(self.index)).flatten()
        )
        return Noise(noise.key, index)

    def step(self, number: int, warming: bool) -> None:
        """One proposal for the codes, and hidden pixels drawn anew."""
        noise = self._noise(number + 1)
        posterior = self.model.encode(self.images, self.condition)
        proposed = draw(posterior, noise, "proposal")
        likelihood = self.model.decode(proposed, self.condition)
        latents, accepted = proposed, torch.ones(len(self.index), dtype=torch.bool, device=self.index.device)
        before = self.latents
        if before is not None and self.exact and not warming:
            present = self._log_weight(posterior, before, self.model.decode(before, self.condition))
            ratio = self._log_weight(posterior, proposed, likelihood) - present
            accepted = (noise.uniform("accept", (1,))[:, 0] + 2.0**-17).log() < ratio
            latents = torch.where(accepted[:, None], proposed, before)
            likelihood = self.model.decode(latents, self.condition)
        self.latents = latents
        if not warming:
            self.tried += len(accepted)
            self.taken += int(accepted.sum())
            self.sum += likelihood.mean.clamp(0.0, 1.0)
        filled = likelihood.sample_from(noise, "pixels") if self.draws_pixels else likelihood.mean.clamp(0.0, 1.0)
        self.images = torch.where(self.mask, filled, self.seen)

    def _log_weight(self, posterior: Any, latents: Tensor, likelihood: ImageDistribution) -> Tensor:
        """log p(x | z) + log p(z) - log q(z | x) for the present images, (chains,)."""
        prior = self.model.prior_given(self.code)
        return likelihood.log_prob(self.images) + prior.log_prob(latents) - posterior.log_prob(latents)

    def finish(self, counted: int) -> None:
        """Sets `mean` and `samples`, on the CPU, and lets go of all else."""
        assert self.latents is not None
        last = self.model.decode(self.latents, self.condition).mean.clamp(0.0, 1.0).cpu()
        shape = (len(self.given), self.count)
        mean = (self.sum / counted).cpu().unflatten(0, shape).mean(1)
        self.mean = torch.where(self.hidden, mean, self.given)
        self.samples = torch.where(self.hidden[:, None], last.unflatten(0, shape), self.given[:, None])
        del self.seen, self.mask, self.images, self.sum, self.latents
