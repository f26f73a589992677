"""vaekit trains, measures and explores variational autoencoders.

Everything is in nats per image: summed over pixels and latents, averaged over images.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vaekit.evaluation.evaluate import evaluate
    from vaekit.generation import denoise, interpolate, reconstruct, sample
    from vaekit.settings import configure, preset
    from vaekit.storage import load_model
    from vaekit.training.train import resume, train

_HOMES = {
    "configure": "settings",
    "denoise": "generation",
    "evaluate": "evaluation.evaluate",
    "interpolate": "generation",
    "load_model": "storage",
    "preset": "settings",
    "reconstruct": "generation",
    "resume": "training.train",
    "sample": "generation",
    "train": "training.train",
}
__all__ = [
    "__version__",
    "configure",
    "denoise",
    "evaluate",
    "interpolate",
    "load_model",
    "preset",
    "reconstruct",
    "resume",
    "sample",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vaekit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vaekit.{_HOMES[name]}"), name)
