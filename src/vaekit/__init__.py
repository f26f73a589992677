"""vaekit trains, measures and explores variational autoencoders.

Everything is in nats per image: summed over pixels and latents, averaged over images.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vaekit.applied.anomaly import anomalies
    from vaekit.applied.augment import augment
    from vaekit.applied.codes import embed
    from vaekit.applied.impute import impute
    from vaekit.applied.morph import morph
    from vaekit.applied.restored import restore_folder
    from vaekit.comparison.compare import compare
    from vaekit.doctor.examine import examine
    from vaekit.estimators.conditional import ConditionalVAE
    from vaekit.estimators.vae import VAE, DenoisingVAE
    from vaekit.evaluation.evaluate import evaluate
    from vaekit.evaluation.restoration_table import restoration_table
    from vaekit.export.export import export_model
    from vaekit.export.hub import pull, push
    from vaekit.export.keras_import import import_keras
    from vaekit.generation import denoise, interpolate, reconstruct, sample, traverse
    from vaekit.inspection.inspect import inspect
    from vaekit.samplers.fit import fit_sampler
    from vaekit.samplers.fitted import load_sampler
    from vaekit.settings import configure, preset
    from vaekit.storage import load_model
    from vaekit.sweeps.sweep import sweep
    from vaekit.trained import load
    from vaekit.training.modules import assemble, fit_model
    from vaekit.training.train import resume, train

_HOMES = {
    "ConditionalVAE": "estimators.conditional",
    "DenoisingVAE": "estimators.vae",
    "VAE": "estimators.vae",
    "anomalies": "applied.anomaly",
    "assemble": "training.modules",
    "augment": "applied.augment",
    "compare": "comparison.compare",
    "configure": "settings",
    "denoise": "generation",
    "embed": "applied.codes",
    "evaluate": "evaluation.evaluate",
    "examine": "doctor.examine",
    "export_model": "export.export",
    "fit_model": "training.modules",
    "fit_sampler": "samplers.fit",
    "import_keras": "export.keras_import",
    "impute": "applied.impute",
    "inspect": "inspection.inspect",
    "interpolate": "generation",
    "load": "trained",
    "load_model": "storage",
    "load_sampler": "samplers.fitted",
    "morph": "applied.morph",
    "preset": "settings",
    "pull": "export.hub",
    "push": "export.hub",
    "reconstruct": "generation",
    "restoration_table": "evaluation.restoration_table",
    "restore_folder": "applied.restored",
    "resume": "training.train",
    "sample": "generation",
    "sweep": "sweeps.sweep",
    "train": "training.train",
    "traverse": "generation",
}
__all__ = [
    "VAE",
    "ConditionalVAE",
    "DenoisingVAE",
    "__version__",
    "anomalies",
    "assemble",
    "augment",
    "compare",
    "configure",
    "denoise",
    "embed",
    "evaluate",
    "examine",
    "export_model",
    "fit_model",
    "fit_sampler",
    "import_keras",
    "impute",
    "inspect",
    "interpolate",
    "load",
    "load_model",
    "load_sampler",
    "morph",
    "preset",
    "pull",
    "push",
    "reconstruct",
    "restoration_table",
    "restore_folder",
    "resume",
    "sample",
    "sweep",
    "train",
    "traverse",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vaekit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vaekit.{_HOMES[name]}"), name)
