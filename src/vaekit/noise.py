"""Noise as an argument: every random number is a function of (key, image index, sample, purpose, position).

The generator is counter-based: the finalizer of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators") applied to a counter at each level. So an image gets the same noise whatever batch, process or device
it is drawn on, evaluation does not depend on the batch size, a resumed run needs no generator state, and nothing in a
training step waits for the device.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from vaekit.native.eager import plain
from vaekit.native.words import random_words

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_C1, _C2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def _mix_int(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * _C1) & _MASK
    value = ((value ^ (value >> 27)) * _C2) & _MASK
    return value ^ (value >> 31)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finalizer on an int64 tensor, in place; a logical shift is an arithmetic one and a mask."""
    for shift, factor in ((30, _C1), (27, _C2)):
        x ^= (x >> shift).bitwise_and_((1 << (64 - shift)) - 1)
        x *= _signed(factor)
    x ^= (x >> 31).bitwise_and_((1 << 33) - 1)
    return x


def seed_key(seed: int, *words: int | str) -> int:
    """A 64-bit key, as a signed integer, for a seed and any number of purposes, epochs or steps.

    >>> seed_key(0, "train", 3) == seed_key(0, "train", 3) != seed_key(0, "train", 4)
    True
    """
    key = _mix_int(seed + _GAMMA)
    for word in words:
        number = zlib.crc32(word.encode()) if isinstance(word, str) else word
        key = _mix_int(key + (number + 1) * _GAMMA)
    return _signed(key)


@contextmanager
def seeded(seed: int, *words: int | str) -> Iterator[None]:
    """Within it, torch's global CPU generator follows from the seed and the purpose; afterwards it stands as before."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed_key(seed, *words) & ((1 << 63) - 1))
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def content_index(values: Tensor) -> Tensor:
    """Numbers int64 (n,) that follow from the contents of rows, float32 (n, ...), whatever their place among others."""
    bits = (values.flatten(1) + 0.0).contiguous().view(torch.int32).long()  # + 0.0: no negative zeros
    places = torch.arange(1, bits.shape[1] + 1, device=bits.device) * _signed(_GAMMA)
    return _mix(_mix(bits + places).sum(1))


class Noise(NamedTuple):
    """The source of all randomness in one draw.

    Attributes:
        key: int64 tensor without axes, from `seed_key`; a tensor so that a captured graph sees it change.
        index: int64 (batch,), the image's position in its data set.
        first_sample: number of the first sample, so that samples drawn in chunks equal those drawn at once.
    """

    key: Tensor
    index: Tensor  # type: ignore[assignment]  # tuples have a method of this name, which nobody calls here
    first_sample: int = 0

    @classmethod
    def from_seed(cls, seed: int, count: int, *words: int | str, device: torch.device | str = "cpu") -> Noise:
        """Noise for images 0 to count - 1."""
        key = torch.tensor(seed_key(seed, *words), device=device)
        return cls(key, torch.arange(count, device=device))

    def _words(self, purpose: str, sample_shape: tuple[int, ...], count: int) -> Tensor:
        """(*sample_shape, batch, count) independent 64-bit words."""
        device = self.index.device
        samples = math.prod(sample_shape)
        word = _signed(_mix_int(zlib.crc32(purpose.encode())))
        if plain():
            found = random_words(self.index, self.key, word, self.first_sample, sample_shape, count)
            if found is not None:
                return found
        rows = _mix(self.index * _signed(_GAMMA) + (self.key ^ word))
        first = torch.arange(self.first_sample + 1, self.first_sample + 1 + samples, device=device)
        rows = _mix(rows + first[:, None] * _signed(_GAMMA))
        places = torch.arange(1, count + 1, device=device) * _signed(_GAMMA)
        return _mix(rows[:, :, None] + places).view(*sample_shape, len(self.index), count)

    def normal(self, purpose: str, event_shape: tuple[int, ...], sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Standard normal float32 (*sample_shape, batch, *event_shape), by the Box-Muller transform."""
        size = math.prod(event_shape)
        half = (size + 1) // 2
        bits = self._words(purpose, sample_shape, half).view(torch.int32).view(*sample_shape, -1, half, 2)
        unit = bits.bitwise_and_(0x7FFFFFFF).to(torch.float32).add_(0.5).mul_(2.0**-31)
        radius = unit[..., 0].log().mul_(-2.0).clamp_min_(0.0).sqrt_()
        angle = unit[..., 1] * (2.0 * math.pi)
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)
        return both[..., :size].reshape(*sample_shape, -1, *event_shape)

    def uniform(self, purpose: str, event_shape: tuple[int, ...], sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Uniform float32 in [0, 1), multiples of 2^-16, (*sample_shape, batch, *event_shape)."""
        size = math.prod(event_shape)
        bits = self._words(purpose, sample_shape, (size + 3) // 4).view(torch.int16)
        unit = bits[..., :size].to(torch.float32).add_(32768.0).mul_(2.0**-16)
        return unit.reshape(*sample_shape, -1, *event_shape)
