"""Objectives, posteriors and priors on MNIST under one short recipe: the table of docs/families.md.

    python benchmarks/families.py --out runs/families --threads 1 --part 1/2 &      # may be stopped and started again
    python benchmarks/families.py --out runs/families --threads 1 --part 2/2
    python benchmarks/families.py --out runs/families --table

784-400-16 dense layers, 20,000 training images, batches of 128, 6 epochs, Adam with warm-up and a cosine from 2e-3, binary
images drawn anew, 5,000 images held out, three seeds. Measured on 2,000 validation images, so that none of it is chosen on
test images; NLL by 200 importance samples. Adversarial and perceptual objectives take no other settings than their defaults.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

import vaekit
from vaekit.errors import DivergedError, InputError
from vaekit.families import FAMILIES, Family
from vaekit.runs import Run, write_atomically

RECIPE: dict[str, Any] = {
    "data": "mnist",
    "binarization": "dynamic",
    "network": "mlp",
    "hidden": "400",
    "latent_dim": 16,
    "train_limit": 20_000,
    "epochs": 6,
    "learning_rate": 2e-3,
    "device": "cpu",
}
CROSSED = ("VAE", "beta-VAE", "IWAE-DReG")  # with every prior
PRIORS = ("conditional", "mixture", "vamp", "flow")
LEFT_OUT = ("denoising VAE", "conditional VAE", "VAE with a prior for each label")  # another task: log p(x | ...)
SEEDS = (0, 1, 2)


def rows() -> dict[str, Family]:
    """Every family of vaekit.families under the standard prior, and some of them under every prior."""
    found = {name: family for name, family in FAMILIES.items() if name not in LEFT_OUT}
    for name in CROSSED:
        for prior in PRIORS:
            settings = {**FAMILIES[name].settings, "prior": prior}
            if not any(settings == family.settings for family in found.values()):
                found[f"{name}, prior {prior}"] = Family(settings, FAMILIES[name].source)
    return found


def slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def settings_of(family: Family, seed: int, threads: int | None, **given: Any) -> dict[str, Any]:
    choices = {name: family.settings[name] for name in ("model",) if name in family.settings}
    return {**choices, **RECIPE, **family.settings, "seed": seed, "threads": threads, **given}


def one(path: Path, settings: dict[str, Any], samples: int, limit: int) -> dict[str, Any]:
    """Numbers of one run, trained and measured now if need be."""
    kept = path / "families.json"
    if kept.exists():
        return json.loads(kept.read_text())
    started = time.perf_counter()
    run = vaekit.resume(path) if (path / "config.json").exists() else vaekit.train(path, "mlp", **settings)
    seconds = run.metrics()[-1]["seconds"]
    found = vaekit.evaluate(path, "val", samples, limit=limit, device="cpu")
    print(f"{path.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    record = {"seconds": seconds, "train": run.metrics()[-1]["train"], **found}
    write_atomically(kept, json.dumps(record))
    (Run(path).path / "checkpoint").unlink(missing_ok=True)
    return record


def whole(file: Path) -> dict[str, Any]:
    """The numbers of a run, and its choices by name."""
    config = json.loads((file.parent / "config.json").read_text())["config"]
    model = config["model"]
    choices = {"objective": config["objective"]["name"], "model": model["name"], "prior": model["prior"]["name"]}
    posterior = {"posterior": model["posterior"]["name"]} if "posterior" in model else {}
    return {"settings": {**choices, **posterior, "seed": config["training"]["seed"]}, **json.loads(file.read_text())}


def table(out: Path) -> str:
    """Markdown: means over seeds, and of the NLL the standard deviation over seeds."""
    lines = ["| family | -ELBO | NLL | rate | distortion | active units | seconds |", "| --- " * 7 + "|"]
    for name in rows():
        records = [json.loads(file.read_text()) for file in sorted(out.glob(f"{slug(name)}-seed*/families.json"))]
        if not records:
            continue

        def mean(key: str, sign: float = 1.0, digits: int = 1, records: list[Any] = records) -> str:
            values = [record[key] for record in records]
            return "-" if None in values else f"{sign * statistics.mean(values):.{digits}f}"

        nll = mean("nll_nats")
        if nll != "-" and len(records) > 1:
            nll += f" ± {statistics.stdev(record['nll_nats'] for record in records):.1f}"
        cells = [mean("elbo_nats", -1.0), nll, mean("rate_nats"), mean("distortion_nats"), mean("active_units")]
        missing = "" if len(records) == len(SEEDS) else f" ({len(records)} seed{'s' * (len(records) > 1)})"
        lines.append(f"| {name}{missing} | " + " | ".join(cells) + f" | {mean('seconds', digits=0)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/families"))
    parser.add_argument("--only", nargs="+", metavar="FAMILY", help="these families alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--part", default="1/1", help="i/n: every n-th run from the i-th on, to share work")
    parser.add_argument("--samples", type=int, default=200, help="importance samples")
    parser.add_argument("--limit", type=int, default=2000, help="validation images")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--epochs", type=float, default=RECIPE["epochs"])
    parser.add_argument("--table", action="store_true", help="print and record what is there")
    parser.add_argument("--record", type=Path, help="file for the record [OUT/record.json]")
    options = parser.parse_args()
    if not options.table:
        part, parts = map(int, options.part.split("/"))
        todo = [(seed, name) for seed in options.seeds for name in rows() if not options.only or name in options.only]
        for seed, name in todo[part - 1 :: parts]:
            settings = settings_of(rows()[name], seed, options.threads, epochs=options.epochs)
            try:
                one(options.out / f"{slug(name)}-seed{seed}", settings, options.samples, options.limit)
            except (InputError, DivergedError) as problem:
                print(f"{name}, seed {seed}: {problem}", file=sys.stderr, flush=True)
        return
    print(table(options.out))
    runs = {file.parent.name: whole(file) for file in sorted(options.out.glob("*/families.json"))}
    record = {
        "recipe": RECIPE,
        "machine": f"{platform.machine()}, CPU",
        "versions": {"vaekit": vaekit.__version__, "torch": torch.__version__},
        "runs": runs,
    }
    write_atomically(options.record or options.out / "record.json", json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
