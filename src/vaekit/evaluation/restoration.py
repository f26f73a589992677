"""How well a corrupted image is restored."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.data.batches import Data
from vaekit.data.images import Images
from vaekit.features.similarity import similarity_maps
from vaekit.generation import reconstruct
from vaekit.models.table import Model
from vaekit.noise import Noise, seed_key


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image, for values in [0, 1]: (n, channels, height, width) to (n,).

    >>> round(psnr(torch.full((1, 1, 2, 2), 0.1), torch.zeros(1, 1, 2, 2)).item(), 3)
    20.0
    """
    error = (images - targets).square().mean((1, 2, 3))
    return -10.0 * error.clamp(min=1e-12).log10()


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity of each image, for values in [0, 1]: (n, channels, height, width) to (n,), at most 1.

    Wang, Bovik, Sheikh and Simoncelli 2004, eq. 13, with K1 = 0.01, K2 = 0.03 and a Gaussian window of 1.5 pixels, 11 wide;
    averaged over all positions and channels, images mirrored at their border, as torchmetrics does. So it is defined for
    images of any size, unlike the mean over positions where the whole window fits.

    >>> ssim(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8)).item()
    1.0
    """
    brightness, structure = similarity_maps(images.double(), targets.double())
    return (brightness * structure).mean((1, 2, 3)).float()


def as_target(images: Tensor, shape: torch.Size) -> Tensor:
    """Images brought to a target's `shape` (n, channels, height, width) with no model: bicubic, grey from colour or back."""
    if images.shape[1] != shape[1]:
        images = images.mean(1, keepdim=True).expand(-1, shape[1], -1, -1)
    if images.shape[-2:] == shape[-2:]:
        return images
    larger = images.shape[-2] < shape[-2] or images.shape[-1] < shape[-1]
    size = (shape[-2], shape[-1])
    if larger:
        return F.interpolate(images, size=size, mode="bicubic", align_corners=False).clamp(0.0, 1.0)
    return F.interpolate(images, size=size, mode="area")


@torch.no_grad()
def restoration(model: Model, data: Data, images: Images, seed: int = 0, batch_size: int = 500) -> dict[str, float]:
    """Mean PSNR in dB and mean SSIM, against the clean target, of the restored images and of the corrupted inputs.

    An input of another size than the target counts as enlarged to it (bicubic).
    """
    device = images.pixels.device
    key = torch.tensor(seed_key(seed, "evaluate"), device=device)
    found: dict[str, list[Tensor]] = {"psnr_db": [], "input_psnr_db": [], "ssim": [], "input_ssim": []}
    for index in torch.arange(len(images), device=device).split(batch_size):
        batch = data.batch(images, index, Noise(key, index))
        restored = reconstruct(model, batch.input, batch.condition)
        given = as_target(batch.input, batch.target.shape)
        for prefix, shown in (("", restored), ("input_", given)):
            found[f"{prefix}psnr_db"].append(psnr(shown, batch.target))
            found[f"{prefix}ssim"].append(ssim(shown, batch.target))
    return {name: torch.cat(values).mean().item() for name, values in found.items()}
