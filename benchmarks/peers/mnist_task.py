"""What every system's script shares: arguments, the images, and the one line of results.

The standard library and numpy only, so that it runs in each system's own environment.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import struct
from importlib import metadata
from pathlib import Path

import numpy as np

BATCH_SIZE = 128
LATENT_DIM = 2
LEARNING_RATE = 1e-3  # Keras's and torch's default for Adam, and what Pythae's documentation trains with
RESULT = "RESULT "


def arguments() -> argparse.Namespace:
    """Command line of a system's script; `images` None means all 60,000."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", default=os.environ.get("VAEKIT_DATA"), help="holds mnist/ in its IDX files")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--images", type=int, default=None, help="train on the first so many images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("auto", "float32"), default="auto", help="read by vaekit alone")
    return parser.parse_args()


def read_idx(path: Path) -> np.ndarray:
    """Unsigned bytes of a gzipped IDX file, in the shape that its header gives.

    Raises:
        ValueError: when the file is not IDX, or its size differs from its header's.
    """
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: not an IDX file of bytes")
    start = 4 + 4 * data[3]
    return np.frombuffer(data, np.uint8, offset=start).reshape(struct.unpack(f">{data[3]}I", data[4:start]))


def load(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Training and test images, float32 (n, 28, 28) in [0, 1]."""
    folder = Path(options.data_dir) / "mnist"
    train = read_idx(folder / "train-images-idx3-ubyte.gz")[: options.images]
    test = read_idx(folder / "t10k-images-idx3-ubyte.gz")
    return train.astype(np.float32) / 255.0, test.astype(np.float32) / 255.0


def report(
    *, images_trained: int, parameters: int, test_loss_nats: float, libraries: tuple[str, ...], **more: object
) -> None:
    """Print the line that the benchmark reads.

    Args:
        images_trained: images that went through training steps, over all epochs.
        parameters: trainable numbers of the model.
        test_loss_nats: -ELBO on the 10,000 test images, one latent sample each, nats per image.
        libraries: distributions whose versions are recorded.
        more: further facts to keep.
    """
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in libraries}
    result = {
        "images_trained": images_trained,
        "parameters": parameters,
        "test_loss_nats": test_loss_nats,
        "versions": versions,
        **more,
    }
    print("\n" + RESULT + json.dumps(result), flush=True)
