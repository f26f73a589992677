"""Makes the models that come with the package: `python benchmarks/shipped.py`, with MNIST and Fashion-MNIST at hand.

Each is trained by a recipe of a few settings, stored in half precision (its numbers are measured after that), and entered
into `index.json` with its hash.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vaekit
import vaekit.shipped
from vaekit.config import encode
from vaekit.records import to_json
from vaekit.runs import write_atomically
from vaekit.shipped import INDEX
from vaekit.storage import load_model, write_tensors

_MNIST = "CC BY-SA 3.0, as MNIST (Y. LeCun and C. Cortes)"
_FASHION = "MIT, as Fashion-MNIST (Zalando SE)"
_DIGITS = "CC BY 4.0, as the optical recognition of handwritten digits (E. Alpaydin and C. Kaynak)"
_DSPRITES = "Apache 2.0, as dSprites (DeepMind); its images are generated here"
_NUMBERS = (
    "num_images", "num_importance_samples", "elbo_nats", "rate_nats", "distortion_nats", "nll_nats", "active_units",
    "psnr_db",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How a model is made; see `vaekit.shipped.Shipped`."""

    about: str
    licence: str
    preset: str
    settings: dict[str, Any] = field(default_factory=dict)

    def command(self) -> str:
        flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in self.settings.items())
        return f"vaekit train --preset {self.preset} {flags}"


_SMALL: dict[str, Any] = {"channels": "16,32", "dense": 64, "epochs": 12}
RECIPES = {
    "mnist-conv": Recipe(
        "MNIST digits in 16 latents: a convolutional VAE", _MNIST, "conv", {"data": "mnist", **_SMALL}
    ),
    "mnist-cvae-embedding": Recipe(
        "MNIST digits told their class by a learned vector; two latents hold the style",
        _MNIST,
        "cvae-embedding",
        {"data": "mnist", "beta": 1.0, **_SMALL},
    ),
    "mnist-denoising": Recipe(
        "sharpens MNIST digits that were scaled down by 2 and up again",
        _MNIST,
        "denoising",
        {"data": "mnist", **_SMALL},
    ),
    "fashion-mnist-conv": Recipe(
        "Fashion-MNIST clothing in 16 latents: a convolutional VAE",
        _FASHION,
        "conv",
        {"data": "fashion-mnist", **_SMALL},
    ),
    "dsprites-beta": Recipe(
        "dSprites in 6 latents, beta 4: place, size and shape, more or less apart",
        _DSPRITES,
        "beta",
        {
            "data": "dsprites",
            "channels": "16,16,32,32",
            "dense": 64,
            "latent_dim": 6,
            "train_limit": 60000,
            "epochs": 8,
            "learning_rate": 0.002,
        },
    ),
    "digits-cvae-onehot": Recipe(
        "scikit-learn's 8x8 digits told their class; two latents hold the style",
        _DIGITS,
        "cvae-onehot",
        {"data": "digits", "network": "mlp", "hidden": "64", "epochs": 150, "batch_size": 64, "learning_rate": 0.004},
    ),
}


def make(name: str, runs: Path, out: Path, samples: int, limit: int | None, threads: int | None) -> dict[str, Any]:
    """Train one model, store it in half precision and measure what was stored; its entry of the index."""
    recipe = RECIPES[name]
    path = runs / name
    if not path.exists():
        vaekit.train(path, recipe.preset, threads=threads, **recipe.settings)
    elif not (path / "model.safetensors").exists():
        vaekit.resume(path)
    model, config, info = load_model(path)
    weights = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    file = out / f"{name}.safetensors"
    write_tensors(file, weights, {"config": encode(config), "info": vars(info)})
    found = vaekit.evaluate(file, num_importance_samples=samples, limit=limit)
    numbers = {key: found[key] for key in _NUMBERS if found.get(key) is not None}
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {
        "about": recipe.about, "licence": recipe.licence, "recipe": recipe.command(), "sha256": digest, "numbers": numbers,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/shipped"), help="folder of the runs; finished ones are kept"
    )
    parser.add_argument("--out", type=Path, default=Path(vaekit.shipped.__file__).parent)
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--importance-samples", type=int, default=100)
    parser.add_argument("--limit", type=int, default=2000, help="test images to measure on")
    parser.add_argument("--threads", type=int, help="CPU threads of the training")
    options = parser.parse_args()
    index = options.out / INDEX
    for name in options.only:
        entry = make(name, options.runs, options.out, options.importance_samples, options.limit, options.threads)
        stored = json.loads(index.read_text()) if index.exists() else {}
        write_atomically(index, to_json({**stored, name: entry}) + "\n")
        print(f"{name}: {entry['numbers']}", file=sys.stderr)


if __name__ == "__main__":
    main()
