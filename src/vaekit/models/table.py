"""The table of models, and the contract of an entry and of the module it builds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, Self

from torch import Tensor, nn

from vaekit.data.batches import Batch
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.latents.geometry import EUCLIDEAN, Geometry
from vaekit.models.draw import Draw
from vaekit.noise import Noise
from vaekit.probability.likelihoods import ImageDistribution, Likelihood
from vaekit.tables import Table

MODELS = Table("model", "vaekit.models")


# What a model may provide to an objective: the name, and the words for it in messages and tables.
PROVIDES = {
    "rate": "a rate, and so a bound on log p(x)",
    "moved_rate": "a rate that the encoder can move (that of codes moves their prior alone)",
    "log_w": "importance weights",
    "diagonal": "a diagonal Gaussian posterior",
    "rate_by_dimension": "a rate for each latent (Gaussian posterior and prior, both with independent latents)",
    "vectors": "one vector of latents for each image, and a prior over such vectors",
    "deterministic": "a deterministic code (--posterior deterministic)",
    "path": "a posterior density that can be taken at given latents with its parameters held fixed",
    "inference": "parameters of inference apart from those of generation",
}


class ModelConfig(Protocol):
    """An entry: sized by the data, it builds a module."""

    @property
    def likelihood(self) -> Likelihood: ...

    def num_latents(self, info: DataInfo) -> int:
        """How many numbers the code of an image has, all groups of latents together."""
        ...

    def build(self, info: DataInfo) -> Model: ...


def code_in_words(config: ModelConfig, info: DataInfo, noun: str) -> str:
    """What the code of an image is, such as ``16 latents``; a config with a method `in_words(info)` says it itself."""
    own = getattr(config, "in_words", None)
    count = config.num_latents(info)
    return f"{count:,} {noun}{'s' * (count != 1)}" if own is None else own(info)


class Model(nn.Module):
    """Base of all models.

    `provides` names what its draws offer to an objective, in the words of `PROVIDES`. `low_precision` says that bfloat16
    is safe. `geometry` is that of the space of latents, for whoever walks in it. `frozen` names the part that stays.
    `guidance` is how strongly what is decoded or drawn follows its condition; see `guided`. `code_is_told` says that encoder
    and decoder read the condition, where there is one, and not the prior alone.
    """

    provides: frozenset[str] = frozenset()
    low_precision: bool = False
    geometry: Geometry = EUCLIDEAN
    frozen: str = "none"
    guidance: float = 1.0
    code_is_told: bool = True

    @contextmanager
    def guided(self, strength: float) -> Iterator[None]:
        """Within it, what is decoded or drawn follows its condition so strongly: 1 as trained, 0 as if there were none.

        What is guided is decoding, or a prior over codes: latents of a prior that reads the condition are drawn under it.
        An output o, such as the logits of pixels, becomes o_free + strength * (o_given - o_free), where o_free is that
        under the unknown condition: classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598, equation 6, where
        the strength is called 1 + w).

        Raises:
            InputError: when the model has no condition, or never learned to do without.
        """
        if strength != 1.0 and not self.conditional:
            raise InputError(f"--guidance {strength:g}: the model is not conditional; leave it out")
        if strength != 1.0 and not self.accepts_unknown:
            raise InputError(
                f"--guidance {strength:g}: the model never saw an image without its condition; "
                "train with --label-dropout 0.1"
            )
        before, self.guidance = self.guidance, strength
        try:
            yield
        finally:
            self.guidance = before

    @property
    def levels(self) -> int:
        """Groups of latents, from the one that is drawn first, each with a temperature of its own in `sample_prior`."""
        return 1

    @property
    def draws_vary(self) -> bool:
        """Whether two draws of one image differ; where they do not, evaluation makes a single one."""
        return True

    @property
    def num_classes(self) -> int | None:
        """Number of labels that a conditional model knows; None for one that reads no labels."""
        return None

    @property
    def num_attributes(self) -> int | None:
        """Number of attributes that a model reads in place of a label; None for one that reads none."""
        return None

    @property
    def conditional(self) -> bool:
        """Whether the model reads labels or attributes."""
        return self.num_classes is not None or self.num_attributes is not None

    @property
    def accepts_unknown(self) -> bool:
        """Whether the model also learned to do without a condition: the label -1, or attributes that are all NaN."""
        return False

    def prior_parameters(self) -> list[nn.Parameter]:
        """Those of a prior that is learned."""
        prior = getattr(self, "prior", None)
        return [] if prior is None else list(prior.parameters())

    def inference_parameters(self) -> list[nn.Parameter]:
        """Those of q(z | x), of a model that provides ``inference``; all others are of generation."""
        return []

    def parts(self) -> dict[str, tuple[nn.Module, ...]]:
        """The modules that `freeze` can hold, by the names ``encoder`` and ``decoder``."""
        return {}

    def freeze(self, part: str) -> None:
        """Hold a part as it is: its weights are not trained, and its batch normalization keeps its statistics.

        Raises:
            InputError: when the model has no such part.
        """
        if part not in self.parts():
            raise InputError(f"--freeze {part}: model {type(self).__name__} has no such part; leave it out")
        for module in self.parts()[part]:
            module.requires_grad_(False)
        self.frozen = part
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.parts().get(self.frozen, ()):
            module.eval()
        return self

    def begin(self) -> None:
        """Read the files that a training starts from; called before its first step alone, not for weights loaded.

        Raises:
            InputError: when one is missing or does not fit.
        """

    def code(self, condition: Tensor | None) -> Tensor | None:
        """The vectors (batch, k) that stand for labels (batch,) or attributes (batch, n); None where it reads neither."""
        return None

    def shown(self, condition: Tensor | None, noise: Noise) -> Tensor | None:
        """The condition as a draw with this noise sees it: training may hide that of some images."""
        return condition

    def draw(self, batch: Batch, sample_shape: tuple[int, ...] = (), noise: Noise | None = None) -> Draw:
        """Draw latents for each image and decode them; noise None draws from torch's global generator."""
        raise TypeError(f"{type(self).__name__} does not define draw()")

    def decode(self, latents: Tensor, condition: Tensor | None = None, code: Tensor | None = None) -> ImageDistribution:
        """p(image | latents) of latents (*sample_shape, batch, latent), under a condition, or what `code` made of it."""
        raise TypeError(f"{type(self).__name__} does not define decode()")

    def sample_prior(
        self, count: int, condition: Tensor | None, noise: Noise, temperatures: Sequence[float] | None = None
    ) -> Tensor:
        """Latents (count, latent) from the prior.

        Args:
            count: how many; as many as the noise has indices.
            condition: labels (count,) or attributes (count, n), of a model that reads them.
            noise: all that is random.
            temperatures: for each level; below 1, latents are more typical and less varied. None: 1 for each.
        """
        raise InputError(f"model {type(self).__name__} has no prior to sample from; choose another model")

    def after_step(self, draw: Draw, gather: Callable[[Tensor], Tensor]) -> None:
        """Changes of state that are no gradient step, such as moving averages; called after each step.

        `gather` joins a tensor (batch, ...) of all processes along its first axis, so that their states stay equal.
        """
