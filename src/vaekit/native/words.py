"""Random words of `vaekit.noise` by one kernel in place of some forty small operators: the same words, to the bit."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from vaekit.native import library

__all__ = ["random_words"]

_WORDS = 2**14  # of one part of the work


class _Words(ctypes.Structure):
    """As in words.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("index", "key", "words")),
        *((name, ctypes.c_int64) for name in ("purpose", "first", "samples", "images", "count")),
        ("parts", ctypes.c_int),
        ("next", ctypes.c_int),
    )


def random_words(
    index: Tensor, key: Tensor, purpose: int, first_sample: int, sample_shape: tuple[int, ...], count: int
) -> Tensor | None:
    """int64 (*sample_shape, images, count), or None where the kernel does not serve.

    Args:
        index: int64 (images,).
        key: int64 without axes.
        purpose: what the key is combined with, a signed 64-bit number.
        first_sample: number of the first sample.
    """
    if library.in_use() is None:
        return None
    if not all(type(x) is Tensor and x.dtype == torch.int64 and x.device.type == "cpu" for x in (index, key)):
        return None
    words = torch.empty((*sample_shape, len(index), count), dtype=torch.int64, device="cpu")
    index = index.contiguous()
    what = _Words(
        index=index.data_ptr(), key=key.data_ptr(), words=words.data_ptr(), purpose=purpose, first=first_sample
    )
    what.samples, what.images, what.count = math.prod(sample_shape), len(index), count
    what.parts = min(torch.get_num_threads(), max(1, words.numel() // _WORDS))
    library.load().words(ctypes.byref(what), library.parallel())
    return words
