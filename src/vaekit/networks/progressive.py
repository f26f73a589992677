"""Networks that begin with small images: an encoder entered, and a decoder left, at one of their inner levels.

Progressive growing (Karras, Aila, Laine and Lehtinen 2018, arXiv:1710.10196, section 2 and figure 2), for any encoder and
decoder with levels (see `vaekit.networks.table`). The layers are those of the whole networks, by reference: what they learn
at a small size is where growing on begins, and the whole networks never know of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.networks.convolution import Conv2d
from vaekit.networks.layers import ACTIVATIONS, initialize
from vaekit.networks.residual import activated
from vaekit.networks.table import LevelledDecoder, LevelledEncoder, Levels


def has_levels(network: nn.Module) -> bool:
    """Whether an encoder or a decoder can be entered or left at an inner level."""
    return isinstance(getattr(network, "levels", None), Levels)


def pooled(images: Tensor, halvings: int) -> Tensor:
    """Images (n, channels, height, width), halved so often, each pixel the mean of 2x2; odd sizes round up.

    Of an odd size the last pixel is the mean of those that are there, so sizes are those of `vaekit.networks.conv.halved`.

    >>> pooled(torch.tensor([[[[1.0, 3.0, 5.0]]]]), 1).tolist()
    [[[[2.0, 5.0]]]]
    """
    for _ in range(halvings):
        images = F.avg_pool2d(images, 2, ceil_mode=True)
    return images


def blend(low: Tensor, high: Tensor, alpha: Tensor) -> Tensor:
    """(1 - alpha) low + alpha high; exactly one of them where alpha, without axes, is 0 or 1."""
    return low * (1.0 - alpha) + high * alpha


def _entrance(levels: Levels, level: int) -> nn.Module:
    """Images of a level's size to what the encoder's layers read there."""
    into = initialize(Conv2d(levels.channels[0], levels.channels[level], 1))
    return nn.Sequential(into, ACTIVATIONS[levels.activation]()) if levels.activated else into


def _exit(levels: Levels, level: int) -> nn.Module:
    """What the decoder's layers have made at a level to the likelihood's parameters, of that size.

    Its bias begins as that of the decoder's own last layer, which may know the mean image.
    """
    last = levels.layers[-1]
    out_of = initialize(Conv2d(levels.channels[level], last.out_channels, 3, 1, 1))  # type: ignore[arg-type]
    with torch.no_grad():
        out_of.bias.copy_(last.bias)  # type: ignore[union-attr, arg-type]
    before = [] if levels.activated else activated(levels.channels[level], levels.activation, "none", shared=True)
    return nn.Sequential(*before, out_of)


class GrowingEncoder(nn.Module):
    """An encoder of images of one level's size: an entrance, and the layers from that level on.

    While it fades in, its features at the next level are (1 - alpha) * those of the next level's own entrance, which reads
    the halved image, + alpha * those of the level itself.

    Args:
        whole: has levels.
        entrances: for levels 1, 2, ...
        level: 0 is the full size.
        fading: whether the level is being faded in.
        alpha: without axes, on the device.
        full: (height, width) of whole images, which are brought to the level's size; others have it already.
    """

    def __init__(
        self,
        whole: nn.Module,
        entrances: nn.ModuleList,
        level: int,
        fading: bool,
        alpha: Tensor,
        full: tuple[int, int],
    ):
        super().__init__()
        given: LevelledEncoder = whole  # type: ignore[assignment]
        layers, cuts = given.levels.layers, given.levels.cuts
        self.level, self.alpha, self.full, self.finish = level, alpha, full, given.finish
        self.entrance = entrances[level - 1] if level else nn.Identity()
        self.below = entrances[level] if fading else None
        self.grown = layers[cuts[level] : cuts[level + fading]]
        self.rest = layers[cuts[level + fading] :]
        self.ending = nn.ModuleList(module for module in whole.children() if module is not layers)  # of `finish`

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        if tuple(images.shape[-2:]) == self.full:
            images = pooled(images, self.level)
        features = self.grown(self.entrance(images))
        if self.below is not None:
            features = blend(self.below(pooled(images, 1)), features, self.alpha)
        return self.finish(self.rest(features), condition)


class GrowingDecoder(nn.Module):
    """A decoder to images of one level's size: the layers up to that level, and an exit.

    While it fades in, the output is (1 - alpha) * that of the next level's own exit, each pixel repeated, + alpha * that of
    the level itself. Arguments as for `GrowingEncoder`, with `exits` for levels 1, 2, ...
    """

    def __init__(self, whole: nn.Module, exits: nn.ModuleList, level: int, fading: bool, alpha: Tensor):
        super().__init__()
        given: LevelledDecoder = whole  # type: ignore[assignment]
        layers, cuts = given.levels.layers, given.levels.cuts
        self.alpha, self.start = alpha, given.start
        self.beginning = nn.ModuleList(module for module in whole.children() if module is not layers)  # of `start`
        self.rest = layers[: cuts[level + fading]]
        self.below = exits[level] if fading else None
        self.grown = layers[cuts[level + fading] : cuts[level]]
        self.exit = exits[level - 1] if level else layers[cuts[0] :]

    def forward(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        features = self.rest(self.start(latents, condition))
        output: Tensor = self.exit(self.grown(features))
        if self.below is not None:
            repeated = F.interpolate(self.below(features), output.shape[-2:], mode="nearest")
            output = blend(repeated, output, self.alpha)
        return output


class Pyramid(nn.Module):
    """The adapters by which small images enter an encoder and leave a decoder, for levels 1 to `stages` - 1.

    Args:
        encoder: of the whole network; has levels.
        decoder: likewise.
        stages: sizes of images, the full one among them; at most one more than there are levels that halve.
        seen: (height, width) of what the whole encoder reads.
    """

    alpha: Tensor

    def __init__(self, encoder: nn.Module, decoder: nn.Module, stages: int, seen: tuple[int, int]):
        super().__init__()
        inward: Levels = encoder.levels  # type: ignore[assignment]
        outward: Levels = decoder.levels  # type: ignore[assignment]
        self.seen = seen
        self.entrances = nn.ModuleList(_entrance(inward, level) for level in range(1, stages))
        self.exits = nn.ModuleList(_exit(outward, level) for level in range(1, stages))
        self.register_buffer("alpha", torch.ones(()), persistent=False)

    def at(
        self, encoder: nn.Module, decoder: nn.Module, level: int, fading: bool
    ) -> tuple[GrowingEncoder, GrowingDecoder]:
        """Encoder and decoder of images of a level's size; they share `alpha`, which may change later, and all weights."""
        return (
            GrowingEncoder(encoder, self.entrances, level, fading, self.alpha, self.seen),
            GrowingDecoder(decoder, self.exits, level, fading, self.alpha),
        )
