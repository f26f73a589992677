"""How much of an image's class its code tells: PCA and VAEs under one logistic regression, by cross-validation.

    python benchmarks/representation.py [--epochs 30] [--folds 3] [--latents 2 8]

On the 1,797 embedded digits. Both representations are fitted on the training folds alone, inside a `Pipeline` that
standardizes the codes; the accuracy is that of the folds held out. Writes a line for each to standard output.
"""

from __future__ import annotations

import argparse
import time

from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vaekit import VAE


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="PCA and VAE codes of the embedded digits under logistic regression.")
    parser.add_argument("--epochs", type=float, default=30.0)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--latents", type=int, nargs="+", default=[2, 8])
    options = parser.parse_args()
    digits = load_digits()
    pixels, labels = digits.data / 16, digits.target
    folds = StratifiedKFold(options.folds, shuffle=True, random_state=0)

    def measure(name: str, coder: object | None) -> None:
        started = time.perf_counter()
        steps = [StandardScaler(), LogisticRegression(max_iter=5000)]
        found = cross_val_score(make_pipeline(*([] if coder is None else [coder]), *steps), pixels, labels, cv=folds)
        seconds = time.perf_counter() - started
        print(f"{name:<28} {found.mean():.3f} +- {found.std():.3f}   {seconds:6.1f} s", flush=True)

    measure("all 64 pixels", None)
    for count in options.latents:
        measure(f"PCA {count}", PCA(count, random_state=0))
        for likelihood in ("bernoulli", "optimal-gaussian"):
            vae = VAE(
                preset="mlp",
                latent_dim=count,
                likelihood=likelihood,
                epochs=options.epochs,
                batch_size=32,
                learning_rate=2e-3,
                image_shape=(8, 8),
                importance_samples=1,
            )
            measure(f"VAE {count} {likelihood}", vae)


if __name__ == "__main__":
    main()
