"""An epoch from a mapped file against the same epoch from memory, in turn, in one process.

    python benchmarks/streaming.py FOLDER [--rounds 5] [--preset folder] [--limit 20000] [--setting channels=8,16]

FOLDER holds images (`benchmarks/packing.py` makes some). Both epochs see the same batches in the same order; what differs
is where a batch is read. Prints the seconds of each, and their ratio by round.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path

import torch

from vaekit.data.images import Images, Splits
from vaekit.data.splits import load_splits
from vaekit.runs import Run
from vaekit.settings import Config, configure
from vaekit.training.engine import prepare, resolve
from vaekit.training.processes import Processes
from vaekit.training.reporting import Silent
from vaekit.training.train import seeded_model
from vaekit.training.trainer import Trainer


def seconds(config: Config, splits: Splits, folder: Path) -> float:
    """Time spent in the steps of one epoch, waits for images included."""
    model = seeded_model(config, splits.info)
    resolved = resolve(config.training, model)
    device = prepare(resolved)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        run = Run.create(Path(name) / "run", config, splits.info, resolved)
        trainer = Trainer(run, splits, model, Processes(device), device, Silent())
        trainer.fit()
        return trainer.progress.seconds


def as_mapped(images: Images, folder: Path) -> Images:
    """The images with their pixels in a file that is mapped, as a large packed set has them."""
    if images.rows is not None:
        return images
    file = folder / "pixels"
    images.pixels.numpy().tofile(file)
    pixels = torch.from_file(str(file), shared=False, size=images.pixels.numel(), dtype=torch.uint8)
    return dataclasses.replace(images, pixels=pixels.view(images.pixels.shape), rows=torch.arange(len(images)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--preset", default="folder")
    parser.add_argument("--limit", type=int, default=20000, help="training images of an epoch")
    parser.add_argument(
        "--setting", action="append", default=[], metavar="NAME=VALUE", help="a setting of vaekit train"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    given = dict(setting.split("=", 1) for setting in options.setting)
    config = configure(options.preset, data=options.folder, epochs=1, train_limit=options.limit, validation=0, **given)
    splits = load_splits(config.data, None)
    with tempfile.TemporaryDirectory() as name:
        sources = {"memory": splits.train.copied(), "mapped": as_mapped(splits.train, Path(name))}
        times: dict[str, list[float]] = {kind: [] for kind in sources}
        for number in range(options.rounds):
            for kind in list(sources) if number % 2 == 0 else list(sources)[::-1]:
                times[kind].append(seconds(config, dataclasses.replace(splits, train=sources[kind]), Path(name)))
            ratio = times["mapped"][-1] / times["memory"][-1]
            print(
                f"round {number + 1}: memory {times['memory'][-1]:.2f} s, mapped {times['mapped'][-1]:.2f} s, {ratio:.3f}"
            )
    ratios = [mapped / memory for mapped, memory in zip(times["mapped"], times["memory"], strict=True)]
    print(f"mapped / memory, median of {options.rounds} rounds: {statistics.median(ratios):.3f}")
    if options.json:
        print(json.dumps({"images": len(splits.train), "seconds": times, "ratios": ratios}))


if __name__ == "__main__":
    main()
