"""How well a corrupted image is restored."""

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.data.batches import Data
from vaekit.data.images import Images
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


@torch.no_grad()
def restoration(model: Model, data: Data, images: Images, seed: int = 0, batch_size: int = 500) -> dict[str, float]:
    """Mean PSNR in dB, against the clean target, of the restored images and of the corrupted inputs."""
    device = images.pixels.device
    key = torch.tensor(seed_key(seed, "evaluate"), device=device)
    restored, corrupted = [], []
    for index in torch.arange(len(images), device=device).split(batch_size):
        batch = data.batch(images, index, Noise(key, index))
        restored.append(psnr(reconstruct(model, batch.input, batch.condition), batch.target))
        corrupted.append(psnr(batch.input, batch.target))
    return {"psnr_db": torch.cat(restored).mean().item(), "input_psnr_db": torch.cat(corrupted).mean().item()}
