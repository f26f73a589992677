"""A small convolutional classifier with weights that never change, whose features images are compared by.

It was trained once, by `benchmarks/feature_network.py`, to tell apart the classes of MNIST, Fashion-MNIST and CIFAR-10
(30 together); what it can do is recorded in `benchmarks/results/feature-network.json`. It stands in for the large networks
that perceptual distances and the Frechet distance are usually taken in, so such numbers are comparable only with numbers
taken in this very network.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from torch import Tensor, nn

from vaekit.errors import InputError

SHA256 = "98a446bf5ba3b3ebc4e0586cd23014ee3f29f52641a5b783712857412c6120ac"
SMALLEST = 8
NUM_CLASSES = 30
# channels of each stage: the first sees every pixel, each further one the means of 2x2 places of the one before
STAGES = ((3, 16), (16, 32, 32), (32, 64, 64), (64, 96, 96))
EMBEDDING = STAGES[-1][-1]


def layers() -> list[tuple[str, int, int]]:
    """Name, input and output channels of each 3x3 convolution, in order.

    >>> layers()[0], len(layers())
    (('stage0.0', 3, 16), 7)
    """
    return [
        (f"stage{stage}.{place}", num_in, num_out)
        for stage, widths in enumerate(STAGES)
        for place, (num_in, num_out) in enumerate(pairwise(widths))
    ]


def pinned_bytes() -> bytes:
    """The weights' file, checked.

    Raises:
        InputError: when the file is missing or is another one.
    """
    file = files("vaekit.features").joinpath("pinned.safetensors")
    try:
        content = file.read_bytes()
    except OSError:
        raise InputError(f"{file}: the feature network's weights are missing; install vaekit again") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(f"{file}: the feature network's weights are damaged or are others; install vaekit again")
    return content


class FeatureNetwork(nn.Module):
    """Images (n, 1 or 3, height, width) in [0, 1], at least 8x8, to feature maps; grey images count as colour.

    Its weights are buffers that no state dict holds, so that nothing trains, averages or saves them; it knows no difference
    between training and evaluation, and an image's features do not depend on the others of its batch. Gradients pass
    through it to the images.

    Args:
        content: the bytes of a safetensors file with the weights; None reads those of the package.

    Raises:
        InputError: when the weights are missing or damaged.

    >>> maps = FeatureNetwork()(torch.zeros(2, 1, 28, 28))
    >>> [tuple(each.shape[1:]) for each in maps]
    [(16, 28, 28), (32, 14, 14), (64, 7, 7), (96, 4, 4)]
    """

    def __init__(self, content: bytes | None = None):
        super().__init__()
        content = pinned_bytes() if content is None else content
        try:
            arrays = load_arrays(content)
            for name, num_in, num_out in layers():
                self._hold(f"{name}.weight", arrays, (num_out, num_in, 3, 3))
                self._hold(f"{name}.bias", arrays, (num_out,))
            self._hold("head.weight", arrays, (NUM_CLASSES, EMBEDDING))
            self._hold("head.bias", arrays, (NUM_CLASSES,))
        except (SafetensorError, KeyError, ValueError):
            raise InputError("the feature network's weights do not fit the network; install vaekit again") from None

    def _hold(self, name: str, arrays: dict[str, np.ndarray], shape: tuple[int, ...]) -> None:
        # torch.tensor copies, and under fake tensors makes a fake one; reshape refuses another number of weights
        self.register_buffer(
            name.replace(".", "_"), torch.tensor(arrays[name].reshape(shape), dtype=torch.float32), persistent=False
        )

    @staticmethod
    def check(shape: tuple[int, ...]) -> None:
        """Refuse images of a `shape` (channels, height, width) that is not taken.

        Raises:
            InputError: for neither 1 nor 3 channels, or fewer than 8x8 pixels.
        """
        channels, height, width = shape
        if channels not in (1, 3):
            raise InputError(f"feature network: images have {channels} channels; give grey (1) or colour (3)")
        if min(height, width) < SMALLEST:
            raise InputError(f"feature network: images of {height}x{width} pixels are too small; give 8x8 or more")

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps at the end of each stage, (n, channels, height / 2^stage, width / 2^stage) rounded up, none negative.

        Raises:
            InputError: for images of another number of channels, or smaller than 8x8.
        """
        self.check(tuple(images.shape[1:]))
        current = images.expand(-1, 3, -1, -1)
        maps = []
        for stage, widths in enumerate(STAGES):
            if stage:
                current = F.avg_pool2d(current, 2, ceil_mode=True)
            for place in range(len(widths) - 1):
                weight, bias = (self._buffers[f"stage{stage}_{place}_{part}"] for part in ("weight", "bias"))
                assert weight is not None
                current = F.conv2d(current, weight, bias, padding=1).relu()
            maps.append(current)
        return maps

    def embed(self, images: Tensor) -> Tensor:
        """One vector for each image: the last map's mean over positions, (n, 96)."""
        return self(images)[-1].mean((2, 3))

    def classify(self, images: Tensor) -> Tensor:
        """Logits (n, 30): ten classes each of MNIST, Fashion-MNIST and CIFAR-10, in the order of their labels."""
        head, bias = self._buffers["head_weight"], self._buffers["head_bias"]
        assert head is not None
        return F.linear(self.embed(images), head, bias)
