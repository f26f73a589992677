"""Levels of latents against one at equal time of training: on dynamically binarized MNIST, and on CIFAR-10.

    python benchmarks/hierarchical.py --minutes 60 --out benchmarks/results/hierarchical-DATE.json
    python benchmarks/hierarchical.py --minutes 60 --rows cifar-one cifar-six --out ...     # needs CIFAR-10

Each model first takes some steps by which its cost is known, in processor time, which other work on the machine does not
change; then it trains for as many epochs as fit into the minutes, under the preset's schedule. The NLL is by importance
sampling on test images. Rows that are trained are kept in --runs, so the command may be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import vaekit
from vaekit.runs import Run, write_atomically
from vaekit.training.reporting import Silent

_MNIST: dict[str, Any] = {"data": "mnist", "binarization": "dynamic"}
_CIFAR: dict[str, Any] = {"data": "cifar-10", "likelihood": "logistic-mixture"}
ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "conv": ("one level: preset conv", "conv", {**_MNIST, "latent_dim": 32}),
    "one": ("one level: the hierarchy's networks", "hierarchical", {**_MNIST, "levels": "0,0"}),
    "two": ("two levels: a vector, 7x7", "hierarchical", {**_MNIST, "levels": "0,1"}),
    "three": ("three levels: a vector, 7x7, 14x14", "hierarchical", {**_MNIST, "levels": "1,1"}),
    "five": ("five levels: a vector, 2 of 7x7, 2 of 14x14", "hierarchical", {**_MNIST, "levels": "2,2"}),
    "five-plain": (
        "the same, by the ELBO from the first step",
        "hierarchical",
        {**_MNIST, "levels": "2,2", "objective": "elbo"},
    ),
    "cifar-one": ("one level: preset cifar", "cifar", _CIFAR),
    "cifar-six": (
        "six levels: a vector, 2 of 4x4, 2 of 8x8, 1 of 16x16",
        "hierarchical",
        {**_CIFAR, "widths": "32,64,96", "levels": "1,2,2", "latent_channels": "4,8,8", "latent_dim": 64},
    ),
}
MNIST = [name for name in ROWS if not name.startswith("cifar")]
COMMON: dict[str, Any] = {"device": "cpu", "observer": Silent()}
_TRIED = 40 * 128  # images


def seconds_an_image(preset: str, settings: dict[str, Any], threads: int) -> float:
    """Processor time of a training step for each image, without what a run costs once."""
    taken = []
    for epochs in (1, 3):
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            vaekit.train(
                f"{folder}/run", preset, train_limit=_TRIED, validation=0, epochs=epochs, threads=threads, seed=0,
                **COMMON, **settings,
            )  # fmt: skip
            taken.append(time.process_time() - started)
    return (taken[1] - taken[0]) / (2 * _TRIED)


def measured(path: Path, samples: int, limit: int | None) -> dict[str, Any]:
    """`evaluate` on test images, kept beside the run so that they are read once."""
    kept = path / f"test-{samples}-{limit or 'all'}.json"
    if not kept.exists():
        found = vaekit.evaluate(path, "test", samples, limit=limit, decodes_at_once=500)
        write_atomically(kept, json.dumps(found).encode())
    record: dict[str, Any] = json.loads(kept.read_text())
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/hierarchical"), help="folder of the runs")
    parser.add_argument("--out", type=Path, help="file for the results")
    parser.add_argument("--rows", nargs="+", default=MNIST, choices=list(ROWS))
    parser.add_argument("--minutes", type=float, default=60.0, help="of processor time for the training of each row")
    parser.add_argument("--samples", type=int, default=500, help="importance samples of the NLL")
    parser.add_argument("--limit", type=int, help="measure only so many test images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--cifar",
        choices=("cifar-10", "cifar-10-jpeg"),
        default="cifar-10",
        help="data of the rows of CIFAR-10; numbers of the copy in JPEG compare with no published ones",
    )
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(
        "| model | epochs | NLL, nats | standard error | -ELBO | bits/dim | rate by level |\n" + "| --- " * 7 + "|",
        flush=True,
    )
    for name in options.rows:
        label, preset, settings = ROWS[name]
        if name not in MNIST:
            settings = {**settings, "data": options.cifar}
        path = options.runs / name
        if not (path / "model.safetensors").exists():
            cost = seconds_an_image(preset, settings, options.threads)
            epochs = round(60 * options.minutes / (cost * (55_000 if name in MNIST else 45_000)), 1)
            vaekit.train(path, preset, epochs=epochs, threads=options.threads, seed=0, **COMMON, **settings)
        run = Run(path)
        found = measured(path, options.samples, options.limit)
        epochs, levels = run.config.training.epochs, found.get("rate_by_level_nats", [found["rate_nats"]])
        rows.append({
            "row": name, "label": label, "settings": settings, "epochs": epochs,
            "seconds": run.metrics()[-1]["seconds"], **found, "rate_by_level_nats": levels,
        })  # fmt: skip
        print(
            f"| {label} | {epochs:g} | {found['nll_nats']:.2f} | {found['standard_error_nats']:.2f} | "
            f"{-found['elbo_nats']:.2f} | {found['bits_per_dim']:.3f} | {', '.join(f'{rate:.2f}' for rate in levels)} |",
            flush=True,
        )
        record = {
            "protocol": {
                "minutes": options.minutes, "importance_samples": options.samples, "test_images": options.limit or "all",
            },
            "machine": f"{platform.machine()}, {options.threads} threads",
            "versions": {"vaekit": vaekit.__version__, "torch": torch.__version__},
            "rows": rows,
        }  # fmt: skip
        if options.out is not None:
            write_atomically(options.out, json.dumps(record, indent=1).encode())


if __name__ == "__main__":
    main()
