"""Structural similarity: the local statistics behind SSIM, and its product over scales. Differentiable in any precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.corruptions.blurs import filter_axes, gaussian_window

# exponents of the five scales, from the finest: Wang, Simoncelli and Bovik 2003, section 3.2
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11
_LEAST = 1e-4  # of a scale's mean before it is raised to its exponent, whose slope at 0 is infinite


def similarity_maps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """How alike two sets of images are in brightness, and in contrast and structure, around each pixel.

    Wang, Bovik, Sheikh and Simoncelli 2004, the factors of eq. 13, for values in [0, 1]: K1 = 0.01, K2 = 0.03, a Gaussian
    window of 1.5 pixels, 11 wide; images mirrored at their border, so that any size will do.

    Args:
        first: (n, channels, height, width).
        second: of the same shape.

    Returns:
        Two tensors of that shape, at most 1, whose product is SSIM.
    """
    window = gaussian_window(1.5, _WINDOW // 2, first.device, first.dtype)

    def local_mean(values: Tensor) -> Tensor:
        return filter_axes(values, window, "mirror")

    mean, other = local_mean(first), local_mean(second)
    variance = local_mean(first * first) - mean.square()
    variance_of_other = local_mean(second * second) - other.square()
    covariance = local_mean(first * second) - mean * other
    brightness = (2 * mean * other + 0.01**2) / (mean.square() + other.square() + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance + variance_of_other + 0.03**2)
    return brightness, structure


def num_scales(height: int, width: int) -> int:
    """Scales of MS-SSIM, 1 to 5: as many as leave the window of 11 pixels inside the image; one for images below that.

    >>> [num_scales(side, side) for side in (8, 21, 28, 64, 176, 1000)]
    [1, 1, 2, 3, 5, 5]
    """
    scales = 1
    while scales < len(EXPONENTS) and min(height, width) >= _WINDOW * 2**scales:
        scales += 1
    return scales


def ms_ssim(first: Tensor, second: Tensor) -> Tensor:
    """Multi-scale structural similarity of images (n, channels, height, width) in [0, 1]: (n,), from 0 to 1.

    Wang, Simoncelli and Bovik 2003 ("Multiscale structural similarity for image quality assessment"), eq. 7: the product
    over scales, each the means of 2x2 pixels of the one before, of the mean structure to the scale's exponent; at the
    coarsest, of the mean SSIM. Images too small for five scales have `num_scales` of them, whose exponents are divided by
    their sum. A mean below 0.0001, as of an image and its negative, counts as that.

    >>> ms_ssim(torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)).item()
    1.0
    """
    scales = num_scales(*first.shape[-2:])
    total, product = sum(EXPONENTS[:scales]), torch.ones(len(first), device=first.device, dtype=first.dtype)
    for scale in range(scales):
        if scale:
            first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
        brightness, structure = similarity_maps(first, second)
        found = structure * brightness if scale == scales - 1 else structure
        product = product * found.mean((1, 2, 3)).clamp(_LEAST, 1.0) ** (EXPONENTS[scale] / total)
    return product
