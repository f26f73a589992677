"""The evidence lower bound, and the beta-VAE that weights its rate."""

from __future__ import annotations

from dataclasses import dataclass

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached


@OBJECTIVES.register("elbo")
@dataclass(frozen=True)
class Elbo(SinglePlayer):
    """Distortion + beta * rate: minus the ELBO with beta 1, a beta-VAE otherwise (Higgins et al. 2017).

    Both terms are nats per image, summed over pixels and latents and averaged over images, so beta means the same
    whatever the batch, image or latent size.
    """

    beta: float = leaf(1.0, "weight of the rate; 1 is the bound itself", ge=0, le=1e6)
    num_samples: int = leaf(1, "samples drawn for each image", ge=1, le=100000)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return () if self.num_samples == 1 else (self.num_samples,)

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        assert draw.rate is not None
        distortion, rate = draw.distortion.mean(), draw.rate.mean()
        return Losses({MODEL: distortion + context.hyper["beta"] * rate}, detached({}))
