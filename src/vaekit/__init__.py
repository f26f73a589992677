"""vaekit trains, measures and explores variational autoencoders.

Everything is in nats per image: summed over pixels and latents, averaged over images.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vaekit.comparison.compare import compare
    from vaekit.doctor.examine import examine
    from vaekit.evaluation.evaluate import evaluate
    from vaekit.evaluation.restoration_table import restoration_table
    from vaekit.generation import denoise, interpolate, reconstruct, sample, traverse
    from vaekit.inspection.inspect import inspect
    from vaekit.samplers.fit import fit_sampler
    from vaekit.samplers.fitted import load_sampler
    from vaekit.settings import configure, preset
    from vaekit.storage import load_model
    from vaekit.trained import load
    from vaekit.training.train import resume, train

_HOMES = {
    "compare": "comparison.compare",
    "configure": "settings",
    "denoise": "generation",
    "evaluate": "evaluation.evaluate",
    "examine": "doctor.examine",
    "fit_sampler": "samplers.fit",
    "inspect": "inspection.inspect",
    "interpolate": "generation",
    "load": "trained",
    "load_model": "storage",
    "load_sampler": "samplers.fitted",
    "preset": "settings",
    "reconstruct": "generation",
    "restoration_table": "evaluation.restoration_table",
    "resume": "training.train",
    "sample": "generation",
    "train": "training.train",
    "traverse": "generation",
}
__all__ = [
    "__version__",
    "compare",
    "configure",
    "denoise",
    "evaluate",
    "examine",
    "fit_sampler",
    "inspect",
    "interpolate",
    "load",
    "load_model",
    "load_sampler",
    "preset",
    "reconstruct",
    "restoration_table",
    "resume",
    "sample",
    "train",
    "traverse",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vaekit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vaekit.{_HOMES[name]}"), name)
