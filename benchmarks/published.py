"""Published likelihoods of MNIST, made again: VAE, IWAE and their relatives with one stochastic layer.

    python benchmarks/published.py --epochs 3280                        # as published: 9.8 million steps a row
    python benchmarks/published.py --epochs 364 --stages 6              # the published schedule cut after i = 5
    python benchmarks/published.py --epochs 24 --rows vae-1 iwae-50     # the same stages in 24 epochs
    python benchmarks/published.py --epochs 20 --decay cosine           # another schedule, for a CPU

May be stopped at any time and started again: rows go on from their checkpoints, and finished ones are kept. Prints a table
and writes it with every number and the machine to ``--record``.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import vaekit
from vaekit.runs import Run, write_atomically


@dataclass(frozen=True)
class Row:
    """A line of the published table: its settings, NLL in nats and active units; None where none was published."""

    label: str
    settings: dict[str, Any]
    nll: float
    active_units: int | None
    source: str


_BURDA = "Burda, Grosse and Salakhutdinov 2016, table 1"
_RAINFORTH = "Rainforth et al. 2018"
_PYTHAE = "Pythae, reproducibility table (another network and schedule, fixed binary images)"


def _vae(samples: int) -> dict[str, Any]:
    return {"objective": "elbo", "num_samples": samples}


def _iwae(samples: int) -> dict[str, Any]:
    return {"objective": "iwae", "num_samples": samples}


ROWS = {
    "vae-1": Row("VAE, k = 1", _vae(1), 86.76, 19, _BURDA),
    "vae-5": Row("VAE, k = 5", _vae(5), 86.47, 20, _BURDA),
    "vae-50": Row("VAE, k = 50", _vae(50), 86.35, 20, _BURDA),
    "iwae-1": Row("IWAE, k = 1", _iwae(1), 86.76, 19, _BURDA),
    "iwae-5": Row("IWAE, k = 5", _iwae(5), 85.54, 22, _BURDA),
    "iwae-50": Row("IWAE, k = 50", _iwae(50), 84.78, 25, _BURDA),
    "miwae-8-8": Row(
        "MIWAE (8, 8)", {"objective": "miwae", "num_bounds": 8, "num_samples": 8}, 84.97, None, _RAINFORTH
    ),
    "piwae-8-8": Row(
        "PIWAE (8, 8)", {"objective": "piwae", "num_bounds": 8, "num_samples": 8}, 84.46, None, _RAINFORTH
    ),
    "ciwae-05": Row(
        "CIWAE, beta .05", {"objective": "ciwae", "elbo_share": 0.05, "num_samples": 64}, 84.57, None, _RAINFORTH
    ),
    "vamp-500": Row("VAMP, 500 inputs", {"prior": "vamp", "pseudo_inputs": 500}, 85.79, None, _PYTHAE),
    "hvae": Row("HVAE", {"model": "hamiltonian"}, 86.21, None, _PYTHAE),
}
MAIN = ("vae-1", "vae-5", "vae-50", "iwae-1", "iwae-5", "iwae-50")


def settings_of(
    row: Row,
    epochs: float,
    decay: str,
    stages: int,
    rate: float,
    seed: int,
    threads: int | None,
    device: str,
    precision: str,
) -> dict[str, Any]:
    """Network 784-200-200-50-200-200-784 tanh, Adam with epsilon 1e-4, batches of 20, binary images drawn anew."""
    return {
        "data": "mnist",
        "validation": 0,
        "select_best": False,
        "binarization": "dynamic",
        **row.settings,  # a model is chosen before its parts
        "network": "mlp",
        "hidden": "200,200",
        "activation": "tanh",
        "latent_dim": 50,
        "epochs": epochs,
        "batch_size": 20,
        "learning_rate": rate,
        "warmup": 0.0,
        "decay": decay,
        **({"decay_stages": stages} if decay == "stages" else {}),
        "adam_epsilon": 1e-4,
        "output_bias": "mean",  # as in the authors' code
        "seed": seed,
        "threads": threads,
        "device": device,
        "precision": precision,
    }


def trained(path: Path, settings: dict[str, Any]) -> Run:
    """The run, trained, or trained on from its checkpoint; one that is finished stays as it is."""
    if not (path / "config.json").exists():
        return vaekit.train(path, "mlp", **settings)
    run = Run(path)
    if run.config != vaekit.configure("mlp", **settings):
        sys.exit(f"{path}: was begun with other settings; give another --out, or delete it")
    return run if run.model.exists() else vaekit.resume(path)


def measured(path: Path, samples: int, limit: int | None, device: str) -> dict[str, Any]:
    """`evaluate` on test images, kept beside the run so that they are read once."""
    kept = path / f"published-{samples}-{limit or 'all'}.json"
    if not kept.exists():
        record = vaekit.evaluate(path, "test", samples, limit=limit, device=device, decodes_at_once=5000)
        write_atomically(kept, json.dumps(record).encode())
    return json.loads(kept.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/published"), help="folder of the runs")
    parser.add_argument("--record", type=Path, help="file for the results [OUT/record.json]")
    parser.add_argument(
        "--rows", nargs="+", default=list(MAIN), choices=list(ROWS), metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument("--epochs", type=float, default=3280.0)
    parser.add_argument("--decay", default="stages", choices=["stages", "cosine"], help="of the learning rate")
    parser.add_argument("--stages", type=int, default=8, help="learning rates 1e-3 * 10^(-i/7), i = 0 to stages - 1")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate at the start; published: 1e-3")
    parser.add_argument("--samples", type=int, default=5000, help="importance samples of the NLL")
    parser.add_argument("--limit", type=int, help="measure only so many test images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16; the NLL is always in float32")
    options = parser.parse_args()
    record: dict[str, Any] = {
        "protocol": {
            "epochs": options.epochs,
            "decay": options.decay,
            "stages": options.stages if options.decay == "stages" else None,
            "learning_rate": options.rate,
            "precision": options.precision,
            "importance_samples": options.samples,
            "test_images": options.limit or "all",
        },
        "machine": f"{platform.machine()}, {torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'}",
        "versions": {"vaekit": vaekit.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "rows": [],
    }
    print("| row | seed | NLL | standard error | active units | -ELBO | minutes | published |\n" + "| --- " * 8 + "|")
    for seed in options.seeds:
        for name in options.rows:
            row = ROWS[name]
            settings = settings_of(
                row,
                options.epochs,
                options.decay,
                options.stages,
                options.rate,
                seed,
                options.threads,
                options.device,
                options.precision,
            )
            run = trained(options.out / f"{name}-seed{seed}", settings)
            found = measured(run.path, options.samples, options.limit, options.device)
            minutes = run.metrics()[-1]["seconds"] / 60
            published = {"nll_nats": row.nll, "active_units": row.active_units, "source": row.source}
            record["rows"].append({"row": name, "seed": seed, "minutes": minutes, **found, "published": published})
            units = "" if row.active_units is None else f" ({row.active_units})"
            print(
                f"| {row.label} | {seed} | {found['nll_nats']:.2f} | {found['standard_error_nats']:.2f} | "
                f"{found['active_units']} | {-found['elbo_nats']:.2f} | {minutes:.1f} | {row.nll}{units} |",
                flush=True,
            )
            options.out.mkdir(parents=True, exist_ok=True)
            write_atomically(options.record or options.out / "record.json", json.dumps(record, indent=1).encode())


if __name__ == "__main__":
    main()
