"""Paths between vectors: straight, and on an arc."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def lerp(start: Tensor, end: Tensor, weights: Tensor) -> Tensor:
    """Straight lines from `start` to `end`, (n, d) each, at `weights` (steps,): (n, steps, d), with exact ends."""
    weights = weights[:, None]
    return (1.0 - weights) * start[:, None] + weights * end[:, None]


def slerp(start: Tensor, end: Tensor, weights: Tensor) -> Tensor:
    """Arcs from `start` to `end`: the direction turns evenly, the length goes evenly from that of one end to the other's.

    For ends of one length this is sin((1 - t) a) / sin(a) start + sin(t a) / sin(a) end, with a the angle between them
    (White 2016, arXiv:1609.04468, after Shoemake 1985); for others that formula overshoots both lengths at wide angles.
    Codes of many latents lie near a shell of radius sqrt(d), which a straight line cuts through. Where no arc is defined
    (ends of one direction, of opposite ones, or zero) the line is straight.

    Args:
        start: (n, d).
        end: the same shape.
        weights: (steps,), t from 0 to 1.

    Returns:
        (n, steps, d), with exact ends.

    >>> slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([0.0, 0.5, 1.0]))[0].round(decimals=4)
    tensor([[1.0000, 0.0000],
            [0.7071, 0.7071],
            [0.0000, 1.0000]])
    """
    straight = lerp(start, end, weights)
    near, far = (side.norm(dim=-1)[:, None] for side in (start, end))
    first, last = (F.normalize(side, dim=-1) for side in (start, end))
    # twice the half-angle: exact near 0 and pi, where the arccosine of a product is not (Kahan)
    angle = 2.0 * torch.atan2((first - last).norm(dim=-1), (first + last).norm(dim=-1))[:, None]
    curved = (angle.sin() > 1e-4) & (near > 0) & (far > 0)
    angle, near, far = (torch.where(curved, part, 1.0) for part in (angle, near, far))
    length = (1.0 - weights) * near + weights * far
    of_start = ((1.0 - weights) * angle).sin() / angle.sin() * (length / near)
    of_end = (weights * angle).sin() / angle.sin() * (length / far)
    arc = of_start[..., None] * start[:, None] + of_end[..., None] * end[:, None]
    return torch.where(curved[..., None], arc, straight)
