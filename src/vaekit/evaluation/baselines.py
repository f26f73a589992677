"""Restoring without a model: the classical filters that a trained model has to beat.

Each has at most one parameter, which is chosen on images that are not those measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.ndimage import median_filter
from torch import Tensor

from vaekit.corruptions.blurs import Defocus, Downsample, GaussianBlur, filter_axes, gaussian_window
from vaekit.corruptions.chain import Chain
from vaekit.corruptions.noises import LowLight
from vaekit.corruptions.table import Corruption, DownUp
from vaekit.evaluation.restoration import as_target, psnr
from vaekit.noise import Noise

NAMES = ("bicubic", "median", "gaussian", "brighten", "back-projection")
Restore = Callable[[Tensor, torch.Size, float], Tensor]


@dataclass(frozen=True)
class Baseline:
    """A way to restore: `restore(inputs, shape of the targets, parameter)` gives images of that shape.

    Attributes:
        name: for tables.
        parameter: what the number is, with its unit; empty without one.
        values: what it is chosen from.
        restore: the method.
    """

    name: str
    parameter: str
    values: tuple[float, ...]
    restore: Restore

    def chosen(self, inputs: Tensor, targets: Tensor) -> float:
        """The parameter of the highest mean PSNR on these images."""
        if len(self.values) == 1:
            return self.values[0]
        quality = [psnr(self.restore(inputs, targets.shape, value), targets).mean().item() for value in self.values]
        return self.values[quality.index(max(quality))]


def median(inputs: Tensor, shape: torch.Size, size: float) -> Tensor:
    """Median over a square of `size` by `size` pixels in each channel, outermost pixels repeated."""
    images, side = as_target(inputs, shape), int(size)
    found = median_filter(images.cpu().numpy(), size=(1, 1, side, side), mode="nearest")
    return torch.from_numpy(found).to(inputs.device)


def gaussian(inputs: Tensor, shape: torch.Size, sigma: float) -> Tensor:
    """Gaussian filter of `sigma` pixels."""
    images = as_target(inputs, shape)
    return filter_axes(images, gaussian_window(sigma, int(4 * sigma + 0.5), images.device))


def bicubic(inputs: Tensor, shape: torch.Size, _: float) -> Tensor:
    """Enlarged by bicubic interpolation."""
    return as_target(inputs, shape)


def brighten(inputs: Tensor, shape: torch.Size, gain: float) -> Tensor:
    """Brightness times `gain`."""
    return (gain * as_target(inputs, shape)).clamp(0.0, 1.0)


def back_projection(corruption: Corruption) -> Restore | None:
    """Iterated correction of what the corruption would make of the estimate; None for a corruption that is random.

    For fewer pixels y = A(x), x moves by bicubic(y - A(x)) (Irani and Peleg 1991); for a blur by a symmetric kernel,
    without fewer pixels, by A(y - A(x)) (Landweber 1951, as A is its own transpose), which cannot diverge; clipped to
    [0, 1] after each step. Of pixels that were scaled down and up again, the smaller image is recovered first, exactly, as
    enlarging it lost nothing.
    """
    if isinstance(corruption, DownUp):
        return _down_up(corruption)
    parts = corruption.parts if isinstance(corruption, Chain) else (corruption,)
    if not all(isinstance(part, (Downsample, GaussianBlur, Defocus)) for part in parts):
        return None

    def again(images: Tensor) -> Tensor:
        return corruption(images, Noise.from_seed(0, len(images), device=images.device))

    return lambda inputs, shape, steps: _corrected(inputs, shape, steps, again)


def _corrected(inputs: Tensor, shape: torch.Size, steps: float, again: Callable[[Tensor], Tensor]) -> Tensor:
    estimate, size = as_target(inputs, shape), (shape[-2], shape[-1])
    for _ in range(int(steps)):
        missing = inputs - again(estimate)
        if (
            tuple(missing.shape[-2:]) == size
        ):  # corruptions clip to [0, 1], so differences pass through it halved, about 0.5
            back = 2.0 * again(0.5 * (missing + 1.0)) - 1.0
        else:
            back = F.interpolate(missing, size=size, mode="bicubic", align_corners=False)
        estimate = (estimate + back).clamp(0.0, 1.0)
    return estimate


def _down_up(corruption: DownUp) -> Restore:
    def restore(inputs: Tensor, shape: torch.Size, steps: float) -> Tensor:
        low = tuple(max(1, round(side / corruption.blur_factor)) for side in shape[-2:])
        rows, columns = (_inverse_of_up(small, side) for small, side in zip(low, shape[-2:], strict=True))
        small = (rows.to(inputs.device) @ inputs.double() @ columns.to(inputs.device).mT).float()

        def again(images: Tensor) -> Tensor:
            return F.interpolate(images, size=low, mode="bilinear", align_corners=False)

        return _corrected(small, shape, steps, again)

    return restore


def _inverse_of_up(small: int, side: int) -> Tensor:
    """float64 (small, side): undoes bilinear enlarging of one axis."""
    up = F.interpolate(torch.eye(small, dtype=torch.float64)[None], size=side, mode="linear", align_corners=False)
    return torch.linalg.pinv(up[0].mT)


def baselines(corruption: Corruption, smaller: bool) -> list[Baseline]:
    """The classical methods that apply to a corruption.

    Args:
        corruption: what was done to the inputs.
        smaller: whether the inputs have fewer pixels than the targets.
    """
    found = [Baseline("bicubic", "", (0.0,), bicubic)] if smaller else []
    found += [
        Baseline("median", "side in pixels", (3.0, 5.0, 7.0), median),
        Baseline("gaussian", "sigma in pixels", (0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.4, 2.0, 3.0), gaussian),
    ]
    parts: Sequence[Corruption] = corruption.parts if isinstance(corruption, Chain) else (corruption,)
    if any(isinstance(part, LowLight) for part in parts):
        found.append(Baseline("brighten", "gain", (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0), brighten))
    if (project := back_projection(corruption)) is not None:
        found.append(Baseline("back-projection", "steps", (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0), project))
    return found
