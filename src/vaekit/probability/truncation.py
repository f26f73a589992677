"""The truncated normal distribution, by the quantiles of the whole one."""

from __future__ import annotations

import torch
from torch import Tensor


def truncated_normal(standard: Tensor, threshold: float) -> Tensor:
    """Draws from N(0, 1) moved, each to the same quantile of N(0, 1) cut off beyond `threshold`.

        Phi(z') = Phi(-t) + (Phi(t) - Phi(-t)) Phi(z)

    The law is that of drawing values beyond the threshold again until all lie within (the truncation trick of Brock,
    Donahue and Simonyan 2019, arXiv:1809.11096), without a loop, and a draw moves smoothly as the threshold does.

    Args:
        standard: draws from N(0, 1), of any shape.
        threshold: t above 0.

    Returns:
        The same shape, in [-threshold, threshold].

    >>> truncated_normal(torch.tensor([-3.0, 0.5, 3.0]), 1.0).round(decimals=3)
    tensor([-0.9960,  0.3340,  0.9960])
    """
    # the lower tail alone, where small probabilities keep their digits; double, for the same reason
    lower = torch.special.ndtr(-standard.double().abs())
    edge = torch.special.ndtr(torch.tensor(-threshold, dtype=torch.float64, device=standard.device))
    inside = edge + (1.0 - 2.0 * edge) * lower
    return (torch.special.ndtri(inside).clamp(-threshold, 0.0) * -standard.sign()).to(standard.dtype)
