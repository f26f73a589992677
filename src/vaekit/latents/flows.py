"""What the flows of posteriors and priors share: the distribution, and the autoregressive networks and transforms.

Transforms follow `torch.distributions.Transform`; those of zuko are taken where it has them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Transform, constraints
from torch.utils.weak import WeakTensorKeyDictionary

from vaekit.errors import InputError
from vaekit.networks.layers import linear
from vaekit.noise import Noise
from vaekit.probability.distributions import Distribution, draw

SMALL = 0.01  # what the last weights of a flow are multiplied by, so that it starts near the identity


@dataclass(eq=False)
class Flow:
    """A base distribution seen through an invertible transform: log q(z) = log base(f(z)) + log |det df/dz|.

    Drawing z = f^-1(u) takes the log-determinant along the way and remembers the density of what it drew, so that
    `log_prob` of that very tensor costs nothing and needs no f. There is no mean in closed form; `center_of` pushes the
    mean of the base through. All is computed in float32.

    Attributes:
        base: distribution over u (batch, latent).
        transform: f, from z to u, as in zuko's NormalizingFlow; its inverse draws.
        rescored: whether f can be computed, and so the density at any z.
        name: of the family, for messages.
    """

    base: Distribution
    transform: Transform
    rescored: bool = True
    name: str = "flow"
    _drawn: Any = field(default_factory=WeakTensorKeyDictionary, repr=False)

    def sample_from(self, noise: Noise, purpose: str, sample_shape: tuple[int, ...] = ()) -> Tensor:
        with torch.autocast(noise.index.device.type, enabled=False):
            start = draw(self.base, noise, purpose, sample_shape)
            value, log_determinant = self.transform.inv.call_and_ladj(start)  # type: ignore[attr-defined]
            self._drawn[value] = self.base.log_prob(start) - log_determinant
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density in nats, (*sample_shape, batch).

        Raises:
            InputError: for a value that this object did not draw, where the transform has no inverse in closed form.
        """
        if value in self._drawn:
            return self._drawn[value]
        if not self.rescored:
            raise InputError(
                f"posterior {self.name!r} has no inverse in closed form, so its density is known only where it drew; "
                "choose --posterior iaf, maf or spline"
            )
        with torch.autocast(value.device.type, enabled=False):
            start, log_determinant = self.transform.call_and_ladj(value)  # type: ignore[attr-defined]
            return self.base.log_prob(start) + log_determinant


def _zuko() -> Any:
    """zuko's transforms, imported when a flow first needs them."""
    return importlib.import_module("zuko.transforms")


def composed(transforms: Iterable[Transform]) -> Transform:
    """One transform after the other, the first one first."""
    return _zuko().ComposedTransform(*transforms)


class MaskedNetwork(nn.Module):
    """A masked multi-layer perceptron (Germain et al. 2015, MADE, arXiv:1502.03509).

    The latents stand in `passes` groups; what comes out for a latent depends on the latents of earlier groups and on the
    context alone. Hidden layers use tanh: its bounds keep shifts and scales from growing along a chain of latents.

    Args:
        num_latents: D.
        num_context: size of the context; 0 for none.
        hidden: sizes of the hidden layers.
        num_outputs: numbers that come out for each latent.
        passes: number of groups, 1 to D; None for D, each latent a group of its own.
        reverse: count the groups from the last latent on.
    """

    def __init__(
        self,
        num_latents: int,
        num_context: int,
        hidden: tuple[int, ...],
        num_outputs: int,
        passes: int | None = None,
        reverse: bool = False,
    ):
        super().__init__()
        self.num_outputs, self.passes = num_outputs, min(passes or num_latents, num_latents)
        group = torch.arange(num_latents) * self.passes // num_latents
        group = group.flip(0) if reverse else group
        # a hidden unit of degree k reads groups up to k; degree -1 reads the context alone
        lowest = -1 if num_context or self.passes == 1 else 0
        spread = self.passes - 1 - lowest
        degrees = [group, *(torch.arange(size) * spread // size + lowest for size in hidden)]
        self.layers = nn.ModuleList(linear(num_in, num_out) for num_in, num_out in pairwise((num_latents, *hidden)))
        self.last = linear(hidden[-1], num_latents * num_outputs)
        with torch.no_grad():
            self.last.weight.mul_(SMALL)
        self.context = linear(num_context, hidden[0]) if num_context else None
        masks = [after[:, None] >= before for before, after in pairwise(degrees)]
        masks.append((group[:, None] > degrees[-1]).repeat_interleave(num_outputs, 0))
        for number, mask in enumerate(masks):
            self.register_buffer(f"mask_{number}", mask.float(), persistent=False)

    def given(self, context: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The function from latents (*sample_shape, batch, D) to (*sample_shape, batch, D, num_outputs).

        Args:
            context: (batch, num_context); None where the network has none.
        """
        first = None if self.context is None or context is None else self.context(context)
        masks = [getattr(self, f"mask_{number}") for number in range(len(self.layers) + 1)]
        layers = [*self.layers, self.last]
        weights = [layer.weight * mask for layer, mask in zip(layers, masks, strict=True)]
        biases = [layer.bias for layer in layers]

        def outputs(latents: Tensor) -> Tensor:
            hidden = latents
            for number, (weight, bias) in enumerate(zip(weights[:-1], biases[:-1], strict=True)):
                hidden = F.linear(hidden, weight, bias)
                hidden = torch.tanh(hidden if number or first is None else hidden + first)
            return F.linear(hidden, weights[-1], biases[-1]).unflatten(-1, (-1, self.num_outputs))

        return outputs


class Autoregressive(nn.Module):
    """Each latent through a monotonic transform whose parameters follow from earlier latents and the context.

    Called with the context (batch, num_context), or None, it returns zuko's AutoregressiveTransform: one pass of the network
    forwards, as many passes as groups backwards.

    Args:
        network: parameters of the transforms.
        univariate: (..., num_outputs) to a transform of numbers (...).
    """

    def __init__(self, network: MaskedNetwork, univariate: Callable[[Tensor], Transform]):
        super().__init__()
        self.network, self.univariate = network, univariate

    def forward(self, context: Tensor | None) -> Transform:
        transforms = _zuko()
        parameters = self.network.given(context)

        def meta(latents: Tensor) -> Transform:
            return transforms.DependentTransform(self.univariate(parameters(latents)), 1)

        return transforms.AutoregressiveTransform(meta, self.network.passes)


class GatedTransform(Transform):
    """y = g x + (1 - g) m with the gate g = sigmoid(s), so that y never leaves the span of x and m.

    Kingma et al. 2016 (arXiv:1606.04934), equations 13 and 14.

    Args:
        offset: m.
        gate: s; both of the shape of x.
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = 1

    def __init__(self, offset: Tensor, gate: Tensor):
        super().__init__()
        self.log_scale, self.shift = F.logsigmoid(gate), offset * torch.sigmoid(-gate)

    def _call(self, x: Tensor) -> Tensor:
        return x * self.log_scale.exp() + self.shift

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.shift) * (-self.log_scale).exp()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.log_scale.expand(x.shape)


def gated(parameters: Tensor) -> Transform:
    """`GatedTransform` of parameters (..., 2); the gate's are raised by 2, so that it starts open."""
    return GatedTransform(parameters[..., 0], parameters[..., 1] + 2.0)


def affine(parameters: Tensor) -> Transform:
    """A shift and a scale between 1e-3 and 1e3, of parameters (..., 2)."""
    return _zuko().MonotonicAffineTransform(parameters[..., 0], parameters[..., 1])


def spline(parameters: Tensor) -> Transform:
    """A monotonic rational-quadratic spline on [-5, 5], the identity outside, of parameters (..., 3 * bins - 1)."""
    bins = (parameters.shape[-1] + 1) // 3
    return _zuko().MonotonicRQSTransform(*parameters.split((bins, bins, bins - 1), -1))


def autoregressive_steps(
    count: int,
    num_latents: int,
    num_context: int,
    hidden: tuple[int, ...],
    num_outputs: int,
    univariate: Callable[[Tensor], Transform],
    passes: int | None = None,
) -> nn.ModuleList:
    """`count` autoregressive transforms, the order of the latents reversed from one to the next."""
    return nn.ModuleList(
        Autoregressive(
            MaskedNetwork(num_latents, num_context, hidden, num_outputs, passes, reverse=number % 2 == 1), univariate
        )
        for number in range(count)
    )
