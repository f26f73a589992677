"""Image files, folders and archives of them, made by Pillow, tarfile and zipfile for the tests of own images."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def saved(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """uint8 (height, width, channels), or (height, width) where there is one channel."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def numbered(count: int, side: int = 8, ending: str = ".png") -> dict[str, bytes]:
    """Files 0 to count - 1, each one grey that is its number."""
    return {f"{n}{ending}": saved(np.full((side, side), n, np.uint8)) for n in range(count)}


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, files: Mapping[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def special_tar(path: Path) -> Path:
    """A tar of links, devices and a folder that are named like images, and one good file."""
    kinds = {
        "soft.png": tarfile.SYMTYPE,
        "hard.png": tarfile.LNKTYPE,
        "disk.png": tarfile.BLKTYPE,
        "terminal.png": tarfile.CHRTYPE,
        "pipe.png": tarfile.FIFOTYPE,
        "folder.png": tarfile.DIRTYPE,
        "soft.txt": tarfile.SYMTYPE,
    }
    with tarfile.open(path, "w") as tar:
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("good.png")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"good"))
    return path


def photographs(count: int, side: int = 32, seed: int = 0) -> Tensor:
    """Images (n, 3, side, side) in [0, 1] with the spectrum of photographs: amplitude falls as one over frequency."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / side)
    shape = (count, 3, side, side // 2 + 1)
    spectrum = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * falling
    spectrum[:, 1:] = 0.4 * spectrum[:, 1:] + spectrum[:, :1]  # channels go together
    images = np.fft.irfft2(spectrum, (side, side))
    images = images / images.std((1, 2, 3), keepdims=True)
    return torch.from_numpy((0.5 + 0.18 * images).clip(0, 1)).float()


def as_jpeg(image: Tensor, quality: int) -> Tensor:
    """A colour image (3, height, width) in [0, 1] after a journey through JPEG."""
    file = io.BytesIO()
    Image.fromarray((image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1).float() / 255
