"""Does augmentation by a VAE help a classifier that has few labels? MNIST, several seeds, told whichever way it comes out.

    nice python benchmarks/augmentation.py --out benchmarks/results/augmentation-DATE.json

For each seed so many images of a class are drawn from the training images; nothing else is labelled. A small
convolutional network is trained on them for a fixed number of steps, and its accuracy is measured once, on the 10,000 test
images. All settings were fixed beforehand, none was chosen by these numbers. What the batches hold:

    none        the few images
    shift       each moved by up to 2 pixels across and down
    few-vae     half of each batch from `vaekit.augment` by a conditional VAE that was trained on the few images alone
    all-vae     the same by a VAE that was trained on all training images, without their labels
    shift+...   both; new images are moved too
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vaekit
from vaekit.applied.augment import Augmenter, New
from vaekit.data.download import data_folder
from vaekit.data.images import Images
from vaekit.data.splits import load_splits
from vaekit.runs import write_atomically
from vaekit.trained import Trained
from vaekit.training.reporting import Silent

ARMS = ("none", "shift", "few-vae", "shift+few-vae", "all-vae", "shift+all-vae")
PAIRS = (
    ("few-vae", "none"),
    ("all-vae", "none"),
    ("shift", "none"),
    ("shift+few-vae", "shift"),
    ("shift+all-vae", "shift"),
)
BATCH, SHIFT, NEW_PER_IMAGE = 64, 2, 10


def few(train: Images, per_class: int, seed: int) -> Images:
    """So many images of each class, drawn at random."""
    assert train.labels is not None
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    labels = train.labels[order]
    return train.select(torch.cat([order[labels == label][:per_class] for label in range(10)]))


def few_vae(images: Images, folder: Path, seed: int, steps: int) -> Trained:
    """A conditional VAE of these images alone."""
    assert images.labels is not None
    pixels, labels = images.pixels.numpy(), images.labels.numpy()
    # the test images of the file are its training images: nothing reads them
    np.savez(folder / "few.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    run = vaekit.train(
        folder / "run", "mlp", data=str(folder / "few.npz"), validation=0, select_best=False, conditioning="onehot",
        hidden=(256,), latent_dim=8, batch_size=50, epochs=steps * 50 / len(pixels), learning_rate=1e-3, seed=seed,
        threads=1, device="cpu", observer=Silent(),
    )  # fmt: skip
    return vaekit.load(run.path)


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image (n, 1, height, width) moved by up to `SHIFT` pixels each way, black coming in."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (SHIFT,) * 4)
    by = torch.randint(0, 2 * SHIFT + 1, (len(images), 2), generator=generator)
    rows, columns = by[:, :1] + torch.arange(height), by[:, 1:] + torch.arange(width)
    return padded[torch.arange(len(images))[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def batches(
    real: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor] | None, shift: bool, steps: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        parts = [(real, BATCH)] if new is None else [(real, BATCH // 2), (new, BATCH // 2)]
        chosen = [(pair, torch.randint(len(pair[0]), (count,), generator=generator)) for pair, count in parts]
        images = torch.cat([pair[0][index] for pair, index in chosen])
        labels = torch.cat([pair[1][index] for pair, index in chosen])
        yield (moved(images, generator) if shift else images), labels


def accuracy(stream: Iterator[tuple[Tensor, Tensor]], test: tuple[Tensor, Tensor], seed: int) -> float:
    """Percent of test images right, of a network trained on a stream of batches."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for images, labels in stream:
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        right = [
            (net(part).argmax(1) == truth).float() for part, truth in zip(*(t.split(1000) for t in test), strict=True)
        ]
    return 100.0 * float(torch.cat(right).mean())


def unit(images: Images) -> tuple[Tensor, Tensor]:
    assert images.labels is not None
    return images.unit().contiguous(), images.labels


def one_seed(options: Any, splits: Any, every: Trained, per_class: int, seed: int) -> dict[str, Any]:
    """Accuracies in percent by arm, and how many new images the guards dropped."""
    images = few(splits.train, per_class, seed)
    found: dict[str, Any] = {}
    new: dict[str, tuple[Tensor, Tensor]] = {}
    with tempfile.TemporaryDirectory() as folder:
        vaes = {"few-vae": few_vae(images, Path(folder), seed, options.vae_steps), "all-vae": every}
    for name, trained in vaes.items():
        maker = Augmenter(trained, images, "near", seed=seed)
        made = New.joined(list(maker.make(NEW_PER_IMAGE * len(images))))
        new[name] = unit(Images(made.pixels, made.labels))
        found[f"{name} dropped"] = maker.dropped_by_pixels + maker.dropped_by_codes
    test = unit(splits.test)
    for arm in ARMS:
        stream = batches(
            unit(images), new.get(arm.removeprefix("shift+")), arm.startswith("shift"), options.steps, seed
        )
        found[arm] = accuracy(stream, test, seed)
    return found


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and standard deviations of arms, and paired differences with their standard errors, in percent."""
    arms = {arm: [each[arm] for each in seeds] for arm in ARMS}
    record: dict[str, Any] = {
        "accuracy_percent": {arm: {"mean": statistics.mean(v), "std": statistics.stdev(v)} for arm, v in arms.items()}
    }
    gains = {}
    for arm, base in PAIRS:
        differences = [one - other for one, other in zip(arms[arm], arms[base], strict=True)]
        error = statistics.stdev(differences) / len(differences) ** 0.5
        gains[f"{arm} - {base}"] = {"mean": statistics.mean(differences), "standard_error": error}
    return {**record, "gain_percent": gains, "seeds": seeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON record to write")
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 50], help="images of each class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400, help="of each classifier, batches of 64")
    parser.add_argument("--vae-steps", type=int, default=1500, help="of each VAE of few images, batches of 50")
    parser.add_argument("--vae-epochs", type=float, default=3.0, help="of the VAE of all images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    splits = load_splits("mnist", data_folder(None))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = vaekit.train(
            folder + "/run", "mlp", data="mnist", latent_dim=8, epochs=options.vae_epochs, threads=1, device="cpu",
            observer=Silent(),
        )  # fmt: skip
        every = vaekit.load(run.path)
    settings = {name: value for name, value in vars(options).items() if name != "out"}
    record: dict[str, Any] = {"settings": settings, "torch": torch.__version__, "results": {}}
    for per_class in options.labels:
        seeds = []
        for seed in range(options.seeds):
            seeds.append(one_seed(options, splits, every, per_class, seed))
            print(per_class, seed, {name: round(value, 2) for name, value in seeds[-1].items()}, flush=True)
        record["results"][f"{per_class} images of each class"] = summary(seeds)
        record["seconds"] = time.monotonic() - began
        write_atomically(options.out, json.dumps(record, indent=2) + "\n")
    print(
        json.dumps(
            {name: {k: v for k, v in found.items() if k != "seeds"} for name, found in record["results"].items()},
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
