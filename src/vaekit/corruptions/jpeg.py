"""JPEG compression as a corruption: what its quantization takes away, computed in tensors.

Follows baseline JPEG (ITU-T T.81) as libjpeg encodes and decodes it: its scaling of the tables by quality, its rounding,
its chroma at half resolution (4:2:0) and its triangle filter on the way back. Huffman coding loses nothing and is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.config import leaf
from vaekit.corruptions.table import CORRUPTIONS, SameSize, like
from vaekit.noise import Noise

# T.81, tables K.1 and K.2, row by row
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99), (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)  # fmt: skip
_TINY = 1e-6  # decides ties, which are common among whole numbers, the same way on every device

Rows = tuple[tuple[int, ...], ...]


def quantization(table: Rows, quality: int) -> Rows:
    """A table at a quality from 1 to 100, as libjpeg scales it.

    >>> quantization(LUMINANCE, 75)[0], quantization(LUMINANCE, 100)[7][7]
    ((8, 6, 5, 8, 12, 20, 26, 31), 1)
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(tuple(min(255, max(1, (step * scale + 50) // 100)) for step in row) for row in table)


def _on_device(table: Rows, device: torch.device) -> Tensor:
    """The table as float64 (8, 8). Each row goes as one number: a copy from the host could not be captured in a graph."""
    packed = [int.from_bytes(bytes(row[:4]), "little") for row in (r[at:] for r in table for at in (0, 4))]
    words = torch.stack([torch.full((), word, dtype=torch.int64, device=device) for word in packed])
    return ((words[:, None] >> (8 * torch.arange(4, device=device))) & 255).view(8, 8).double()


def _transform(device: torch.device) -> Tensor:
    """The orthonormal cosine transform of 8 numbers, float64 (8, 8)."""
    places = torch.arange(8, device=device, dtype=torch.float64)
    waves = ((2.0 * places + 1.0) * places[:, None] * (math.pi / 16.0)).cos() / 2.0
    return torch.where(places[:, None] == 0, waves / math.sqrt(2.0), waves)


def _coded(planes: Tensor, table: Rows) -> Tensor:
    """Grey levels (batch, channels, height, width), sides multiples of 8, after quantization of their 8x8 blocks."""
    steps, waves = _on_device(table, planes.device), _transform(planes.device)
    blocks = (planes - 128.0).unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    eighths = (8.0 * (waves @ blocks @ waves.mT)).round()  # libjpeg rounds coefficients so before it quantizes
    kept = eighths.sign() * ((eighths.abs() + 4.0 * steps) / (8.0 * steps)).floor() * steps
    back = (waves.mT @ kept @ waves + (128.5 + _TINY)).floor().clamp(0.0, 255.0)
    return back.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def _extend(planes: Tensor, height: int, width: int) -> Tensor:
    """Planes with the last row and column repeated up to a size."""
    return F.pad(planes, (0, width - planes.shape[-1], 0, height - planes.shape[-2]), mode="replicate")


def _up_to(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def grey_jpeg(levels: Tensor, quality: int) -> Tensor:
    """Grey levels 0 to 255, float64 (batch, channels, height, width), each channel a grey image of its own."""
    height, width = levels.shape[-2:]
    whole = _extend(levels, _up_to(height, 8), _up_to(width, 8))
    return _coded(whole, quantization(LUMINANCE, quality))[..., :height, :width]


def colour_jpeg(levels: Tensor, quality: int) -> Tensor:
    """Red, green and blue levels 0 to 255, float64 (batch, 3, height, width), chroma at half resolution."""
    height, width = levels.shape[-2:]
    red, green, blue = levels.unbind(1)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue + 0.5 + _TINY).floor()[:, None]
    chroma = torch.stack([0.5 * blue - 0.168735892 * red - 0.331264108 * green,
                          0.5 * red - 0.418687589 * green - 0.081312411 * blue], 1)  # fmt: skip
    chroma = (chroma + (128.5 - _TINY)).floor()
    luma = _coded(_extend(luma, _up_to(height, 16), _up_to(width, 16)), quantization(LUMINANCE, quality))

    chroma = _extend(chroma, _up_to(height, 2), _up_to(width, 16))
    odd = torch.arange(chroma.shape[-1] // 2, device=levels.device) % 2  # ties go down and up by turns
    halved = (F.avg_pool2d(chroma, 2) + (1.0 + odd) / 4.0).floor()
    halved = _extend(halved, _up_to(halved.shape[-2], 8), halved.shape[-1])
    coded = _coded(halved, quantization(CHROMINANCE, quality))[..., : (height + 1) // 2, : (width + 1) // 2]
    wide = F.interpolate(coded, scale_factor=2.0, mode="bilinear", align_corners=False)
    odd = torch.arange(wide.shape[-1], device=levels.device) % 2
    whole = (wide + (8.0 - odd) / 16.0).floor()[..., :height, :width] - 128.0

    luma, (first, second) = luma[:, 0, :height, :width], whole.unbind(1)
    red = luma + (1.402 * second + 0.5).floor()
    green = luma + (0.5 - 0.344136286 * first - 0.714136286 * second).floor()
    blue = luma + (1.772 * first + 0.5).floor()
    return torch.stack([red, green, blue], 1).clamp(0.0, 255.0)


@CORRUPTIONS.register("jpeg")
@dataclass(frozen=True)
class Jpeg(SameSize):
    """Saved as JPEG and opened again: 8 bits, and for colour images chroma at half resolution."""

    jpeg_quality: int = leaf(20, "quality as libjpeg counts it: the lower, the coarser", ge=1, le=100)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        levels = (images.double() * 255.0).round()
        code = colour_jpeg if images.shape[1] == 3 else grey_jpeg
        return like(code(levels, self.jpeg_quality) / 255.0, images)
