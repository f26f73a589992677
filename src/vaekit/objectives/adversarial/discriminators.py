"""Discriminators of codes and of images, and the losses of the two sides.

A discriminator returns logits: log D / (1 - D), where D is the probability it gives to "real". Its optimum is the log of
the ratio of the two densities (Goodfellow et al. 2014, arXiv:1406.2661, proposition 1).

No discriminator here normalizes over a batch: then each image has a loss of its own, and the loss of a batch is their
mean, on one process or many.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.networks.conv import ConvEncoder
from vaekit.networks.layers import linear
from vaekit.networks.table import Shape

DISCRIMINATOR = "discriminator"
RATE_HELP = "learning rate of the discriminator over that of the model"
HIDDEN_HELP = "units of the discriminator's dense layers, such as 400 or 200,200"
_SLOPE = 0.2  # of the leaky ReLUs, as Kim and Mnih 2018 have it
_DENSE = 128


def code_discriminator(num_latents: int, hidden: tuple[int, ...]) -> nn.Module:
    """Dense layers with leaky ReLUs, from codes (batch, num_latents) to logits (batch,)."""
    layers: list[nn.Module] = []
    for num_in, num_out in pairwise((num_latents, *hidden)):
        layers += [linear(num_in, num_out), nn.LeakyReLU(_SLOPE, inplace=True)]
    return nn.Sequential(*layers, linear(hidden[-1], 1), nn.Flatten(0))


class ImageDiscriminator(nn.Module):
    """Convolutions of stride 2, a dense layer and a logit, for images of any size.

    Group normalization gives the features a scale of one, as Larsen et al. 2016 have it from the batch's statistics: so
    that their squared distance in nats weighs against a rate. Without it latents collapsed on MNIST, to 0.05 nats.

    Args:
        shape: of the images, (channels, height, width).
        channels: of the convolutions, one for each halving.
    """

    def __init__(self, shape: Shape, channels: tuple[int, ...]):
        super().__init__()
        self.encoder = ConvEncoder(shape, 0, channels, _DENSE, "leaky-relu", "group")
        self.output = linear(_DENSE, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (batch, channels, height, width) to the last convolution's features (batch, n) and logits (batch,)."""
        features = self.encoder.maps(images)
        return features, self.output(self.encoder.head(features)).flatten()


def discriminator_loss(real: Tensor, *fakes: Tensor) -> Tensor:
    """-1/2 E log D(real) - 1/2 E log(1 - D(fake)), in nats, no axes; log 2 where D knows nothing.

    Args:
        real: logits (n,).
        fakes: logits (m,) of each kind of fake; their means count the same.

    >>> round(discriminator_loss(torch.zeros(3), torch.zeros(2)).item(), 6)
    0.693147
    """
    return 0.5 * (F.softplus(-real).mean() + torch.stack([F.softplus(fake).mean() for fake in fakes]).mean())


def generator_loss(*fakes: Tensor) -> Tensor:
    """-E log D(fake), in nats, no axes: the non-saturating loss of what is to be taken for real.

    Goodfellow et al. 2014 (arXiv:1406.2661), section 3: it has the fixed points of E log(1 - D(fake)), and its gradient
    does not vanish where the discriminator is sure. Arguments as those of `discriminator_loss`.
    """
    return torch.stack([F.softplus(-fake).mean() for fake in fakes]).mean()


def smoothed(discriminator: nn.Module, real: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n,) of what is real, and 1/2 E |d logit / d real|^2, no axes: with it in its loss, players settle.

    The penalty R1 of Mescheder, Geiger and Nowozin 2018 (arXiv:1801.04406), equation 9. Without it two players, each in
    steps of its own, may circle round the solution for ever.
    """
    penalized = torch.is_grad_enabled()
    with torch.enable_grad():
        real = real.detach().requires_grad_()
        logits = discriminator(real)
        (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=penalized)
    penalty = 0.5 * slope.square().flatten(1).sum(1).mean()
    return (logits, penalty) if penalized else (logits.detach(), penalty.detach())


def accuracy(real: Tensor, *fakes: Tensor) -> Tensor:
    """Share of right answers, no axes; 1/2 where real and fake cannot be told apart."""
    right = torch.stack([(fake < 0).float().mean() for fake in fakes]).mean()
    return 0.5 * ((real > 0).float().mean() + right)
