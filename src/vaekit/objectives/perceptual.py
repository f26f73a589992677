"""The bound with a further distortion: how different two images look, by the features of a network or by structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.errors import InputError
from vaekit.features.network import FeatureNetwork
from vaekit.features.similarity import ms_ssim
from vaekit.models.draw import Draw
from vaekit.objectives.table import MODEL, OBJECTIVES, Context, Losses, SinglePlayer, detached

_FLOOR = 0.01  # added to a squared length, so that the direction of a short feature has a bounded slope


@OBJECTIVES.register("perceptual")
@dataclass(frozen=True)
class Perceptual(SinglePlayer):
    """Distortion + beta * rate + perceptual weight * distance between the mean of p(x | z) and the target.

    The distance is `feature_distance` in the pinned network of `vaekit.features.network`, after Zhang et al. 2018
    (arXiv:1801.03924), from 0 to 8; or 1 - MS-SSIM (Wang, Simoncelli and Bovik 2003), from 0 to 1. Neither is the logarithm
    of a likelihood: what is reported and selected by is the bound without it. Where a mask hides pixels of the target, both
    images are black there. A deterministic code has no rate, and beta no effect.
    """

    beta: float = leaf(1.0, "weight of the rate; 1 is the bound itself", ge=0, le=1e6)
    perceptual_weight: float = leaf(100.0, "weight of the perceptual distance, in nats", ge=0, le=1e6)
    perceptual_distance: Literal["features", "ms-ssim"] = leaf(
        "features", "how images are compared: features (of a small pinned network) or ms-ssim"
    )
    needs = frozenset()
    uses = frozenset({"rate"})
    reads_images = True

    def players(self, num_latents: int, shape: tuple[int, int, int]) -> dict[str, nn.Module]:
        """The pinned network, of which nothing is trained or saved.

        Raises:
            InputError: for images that it does not take, or when its weights are damaged.
        """
        if self.perceptual_distance == "ms-ssim":
            return {}
        try:
            FeatureNetwork.check(shape)
        except InputError as refusal:
            raise InputError(f"--perceptual-distance features: {refusal}, or choose ms-ssim") from None
        return {"features": FeatureNetwork()}

    def __call__(self, draw: Draw, batch: Batch, context: Context) -> Losses:
        shown, target = draw.likelihood.mean, draw.target
        if draw.mask is not None:
            shown, target = shown * draw.mask, target * draw.mask
        if self.perceptual_distance == "ms-ssim":
            distance = 1.0 - ms_ssim(shown, target)
        else:
            distance = feature_distance(context.players["features"], shown, target)
        loss = draw.distortion.mean() + context.hyper["perceptual_weight"] * distance.mean()
        if draw.rate is not None:
            loss = loss + context.hyper["beta"] * draw.rate.mean()
        return Losses({MODEL: loss}, detached({"perceptual_distance": distance}))


def feature_distance(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The distance of images from targets, (n, channels, height, width) both, in the maps of a network: (n,).

    Zhang et al. 2018, eq. 1, with all channels weighted alike: at each position of each map the features are divided by
    their length; the squared difference of the two directions, from 0 to 2, is averaged over positions and summed over
    maps. Gradients reach the images alone, and not the targets.
    """
    with torch.no_grad():
        expected = network(targets)
    gaps = [
        (_direction(found) - _direction(wanted)).square().sum(1).mean((1, 2))
        for found, wanted in zip(network(images), expected, strict=True)
    ]
    return torch.stack(gaps).sum(0)


def _direction(features: Tensor) -> Tensor:
    """Features (n, channels, height, width) over their length at each position."""
    return features * (features.square().sum(1, keepdim=True) + _FLOOR).rsqrt()
