"""A sweep's members trained together against the same ones in turn, in one process on this machine.

Both ways do the whole of it: order and noise of each step, optimizer, validation, records, checkpoints. Rounds alternate
which comes first; the ratio is taken within rounds. The time of the steps alone is what the runs' own records say.

    VAEKIT_DATA=DIR python benchmarks/sweep.py
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import vaekit
from throughput import commit, machine, order, slug
from vaekit.data.download import data_folder
from vaekit.data.splits import load_splits
from vaekit.runs import Run
from vaekit.sweeps import sweep as sweeping
from vaekit.training.reporting import Silent

TASKS: dict[str, dict[str, Any]] = {
    "mnist, preset mlp (400)": {"data": "mnist"},
    "mnist, hidden 64": {"data": "mnist", "hidden": (64,)},
    "digits, preset mlp (400)": {"data": "digits"},
    "digits, hidden 64": {"data": "digits", "hidden": (64,)},
    "mnist, preset conv": {"data": "mnist", "preset": "conv"},  # streams of a GPU; in turn on a CPU
}
RESULTS = Path(__file__).resolve().parent / "results"


def seconds(together: bool, members: int, given: dict[str, Any], folder: Path) -> tuple[float, float, int]:
    """Seconds of a whole sweep over seeds, those of its steps alone, and the images that all members took."""
    grid, given = {"seed": list(range(members))}, dict(given)
    preset = given.pop("preset", "mlp")
    at_once = sweeping._AT_ONCE
    sweeping._AT_ONCE = members if together else 1
    try:
        started = time.perf_counter()
        record = vaekit.sweep(folder, preset, grid, observer=Silent(), note=lambda sentence: None, **given)
        whole = time.perf_counter() - started
    finally:
        sweeping._AT_ONCE = at_once
    runs = [Run(each["path"]) for each in record["members"]]
    last = [run.metrics()[-1] for run in runs]
    images = sum(each["step"] * run.config.training.batch_size for each, run in zip(last, runs, strict=True))
    return whole, sum(each["seconds"] for each in last), images


def measure(given: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Images/s of both ways by round, and the median of the ratios within rounds."""
    ways: dict[str, list[tuple[float, float]]] = {"together": [], "in turn": []}
    for number in range(options.rounds):
        for way in order(list(ways), number):
            with tempfile.TemporaryDirectory() as name:
                whole, steps, images = seconds(way == "together", options.members, given, Path(name) / "sweep")
            ways[way].append((images / whole, images / steps))
    pairs = list(zip(ways["together"], ways["in turn"], strict=True))
    return {
        "images_per_second": {way: [round(whole) for whole, _ in found] for way, found in ways.items()},
        "images_per_second_of_steps": {way: [round(steps) for _, steps in found] for way, found in ways.items()},
        "ratio": round(statistics.median(a[0] / b[0] for a, b in pairs), 3),
        "ratio_of_steps": round(statistics.median(a[1] / b[1] for a, b in pairs), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=5120, help="training images, where there are so many")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="[all that the device trains together]")
    parser.add_argument("--record", action="store_true", help="write a JSON file into benchmarks/results/")
    options = parser.parse_args()
    common = {"epochs": 2, "validation": 500, "device": options.device, "threads": options.threads}
    found = {}
    before = machine(options.device)
    stacked = [name for name, given in TASKS.items() if "preset" not in given]
    for name in options.tasks or (stacked if options.device == "cpu" else TASKS):
        given = {**common, **TASKS[name]}
        if given["data"] != "digits":
            given["train_limit"] = options.images
        else:
            given |= {"validation": 100, "epochs": 6}
        load_splits(given["data"], data_folder(None))  # read from disk before the first round, and imported
        seconds(True, 2, {**given, "epochs": 0.2}, Path(tempfile.mkdtemp()) / "warm-up")
        found[name] = measure(given, options)
        print(f"{name:<26} {json.dumps(found[name])}", flush=True)
    if options.record:
        day = datetime.date.today().isoformat()
        path = RESULTS / f"sweep-{options.members}-members-{slug(before['cpu'])}-{day}.json"
        record = {"members": options.members, "threads": options.threads, "machine": before, "commit": commit()}
        record |= {"torch": torch.__version__, "tasks": found}
        path.write_text(json.dumps(record, indent=2) + "\n")
        print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
