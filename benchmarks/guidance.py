"""What guidance buys and costs: do samples show the class that was asked for, and how far are they from real images?

    python benchmarks/guidance.py --out benchmarks/results/guidance-DATE.json

For each data set three conditional models are trained with label dropout: on all labels, on a share of the labels and all
images (`--labelled`), and on the images of that share alone. From each the same number of samples a class is drawn at every
guidance strength. Reported, against validation images:

    accuracy    share of samples that the pinned feature network gives the class that was asked for
    frechet     Frechet distance of its 96 features between samples and validation images (Heusel et al. 2017, section 2);
                comparable only with numbers taken in the same network
    spread      mean squared distance of samples to the mean of their class, over that of validation images: below 1 they
                are more alike

The first line of each set says what real images score: training images in the place of samples.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

import vaekit
from vaekit.data.download import data_folder
from vaekit.data.splits import load_splits
from vaekit.features.network import FeatureNetwork
from vaekit.runs import Run, write_atomically
from vaekit.training.reporting import Silent

FIRST_CLASS = {"mnist": 0, "fashion-mnist": 10}  # among the 30 of the feature network
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
SHARE = 0.01
COMMON: dict[str, Any] = {
    "conditioning": "onehot", "label_dropout": 0.2, "latent_dim": 16, "learning_rate": 4e-3, "observer": Silent(),
}  # fmt: skip


def frechet(first: Tensor, second: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two sets of vectors (n, k) and their means m and covariances C."""
    means, covariances = [], []
    for vectors in (first, second):
        values = vectors.double().numpy()
        means.append(values.mean(0))
        covariances.append(np.cov(values, rowvar=False))
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root))


def spread(images: Tensor, labels: Tensor) -> float:
    """Mean squared distance of images (n, ...) to the mean of their class."""
    classes = labels.unique()
    total = sum((images[labels == one] - images[labels == one].mean(0)).square().sum() for one in classes)
    return float(total) / len(images)


class Judge:
    """Scores images against the validation images of a set."""

    def __init__(self, name: str, images: Tensor, labels: Tensor):
        self.network, self.first = FeatureNetwork().eval(), FIRST_CLASS[name]
        self.features, self.spread = self._features(images), spread(images, labels)

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        return torch.cat([self.network.embed(part) for part in images.split(500)])

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        logits = torch.cat([self.network.classify(part) for part in images.split(500)])[:, self.first : self.first + 10]
        return {
            "accuracy": float((logits.argmax(1) == labels).double().mean()),
            "frechet": frechet(self._features(images), self.features),
            "spread": spread(images, labels) / self.spread,
        }


def trained(path: Path, **settings: Any) -> Run:
    """The run in a folder, trained if it is not there yet."""
    if (path / "model.safetensors").exists():
        return Run(path)
    return vaekit.train(path, "conv", **COMMON, **settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/guidance"), help="folder of the runs")
    parser.add_argument("--out", type=Path, help="file for the results")
    parser.add_argument("--data", nargs="+", default=list(FIRST_CLASS), choices=list(FIRST_CLASS))
    parser.add_argument("--epochs", type=float, default=10.0)
    parser.add_argument("--per-class", type=int, default=500, help="samples of each class")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.data:
        splits = load_splits(name, data_folder(None))
        assert splits.val is not None
        assert splits.val.labels is not None
        assert splits.train.labels is not None
        judge = Judge(name, splits.val.unit(), splits.val.labels)
        some = splits.train.spread(len(splits.val))
        assert some.labels is not None
        rows.append({"data": name, "model": "training images", "guidance": None, **judge(some.unit(), some.labels)})
        few = round(SHARE * len(splits.train))
        plan: dict[str, dict[str, Any]] = {
            "all labels": {"epochs": options.epochs},
            f"{SHARE:.0%} of the labels, all images": {"epochs": options.epochs, "labelled": SHARE},
            f"{SHARE:.0%} of the images": {"epochs": options.epochs / SHARE / 4, "train_limit": few},
        }
        labels = torch.arange(10).repeat_interleave(options.per_class)
        for model_name, settings in plan.items():
            folder = options.runs / f"{name}-{model_name.replace(' ', '-').replace(',', '').replace('%', '')}"
            run = trained(folder, data=name, threads=options.threads, **settings)
            model = vaekit.load_model(run.path)[0]
            for strength in STRENGTHS:
                images = vaekit.sample(model, len(labels), labels, guidance=strength)
                rows.append({"data": name, "model": model_name, "guidance": strength, **judge(images, labels)})
        for row in rows:
            if row["data"] == name:
                numbers = " | ".join(f"{row[key]:.3f}" for key in ("accuracy", "frechet", "spread"))
                print(f"| {name} | {row['model']} | {row['guidance']} | {numbers} |", flush=True)
    record = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"vaekit": vaekit.__version__, "torch": torch.__version__},
        "epochs": options.epochs, "per_class": options.per_class, "share": SHARE, "rows": rows,
    }  # fmt: skip
    if options.out is not None:
        write_atomically(options.out, json.dumps(record, indent=1).encode())


if __name__ == "__main__":
    main()
