"""What the native kernels are worth: each part of a step, and a whole step, against torch's own operators.

    python benchmarks/kernels.py                       # a table of the parts and of steps of conv-seed, in one process
    python benchmarks/kernels.py --record FILE.json

Both ways take turns within one process, call by call, so a machine whose speed drifts slows both alike; medians are shown.
Steps are those of two trainings of the same run settings, one with kernels and one without.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import vaekit
from vaekit.data.download import data_folder
from vaekit.data.splits import load_splits
from vaekit.memory import keep_pages
from vaekit.native import library
from vaekit.networks.convolution import Conv2d, ConvTranspose2d
from vaekit.probability.likelihoods import BernoulliImage
from vaekit.runs import Run
from vaekit.training.engine import prepare
from vaekit.training.processes import Processes
from vaekit.training.reporting import Silent
from vaekit.training.train import anchored, planned, trainer_of

BATCH = 128
# (name, layer, channels and side of what it reads)
LAYERS: list[tuple[str, Callable[[], torch.nn.Module], int, int]] = [
    ("convolution 1 to 32, 28x28 to 14x14", lambda: Conv2d(1, 32, 3, 2, 1, relu=True), 1, 28),
    ("convolution 32 to 64, 14x14 to 7x7", lambda: Conv2d(32, 64, 3, 2, 1, relu=True), 32, 14),
    ("transposed 64 to 64, 7x7 to 14x14", lambda: ConvTranspose2d(64, 64, 3, 2, 1, 1, relu=True), 64, 7),
    ("transposed 64 to 32, 14x14 to 28x28", lambda: ConvTranspose2d(64, 32, 3, 2, 1, 1, relu=True), 64, 14),
    ("transposed 32 to 1, 28x28, stride 1", lambda: ConvTranspose2d(32, 1, 3, 1, 1), 32, 28),
    ("convolution 64 to 64, 32x32, stride 1", lambda: Conv2d(64, 64, 3, 1, 1, relu=True), 64, 32),
]


def in_turn(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median milliseconds of both, called one after the other `rounds` times."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 3):
        for call, into in ((first, found[0]), (second, found[1])):
            started = time.perf_counter()
            call()
            if number >= 3:
                into.append(1e3 * (time.perf_counter() - started))
    return statistics.median(found[0]), statistics.median(found[1])


def with_kernels(call: Callable[[], object], wanted: bool) -> Callable[[], object]:
    def inner() -> object:
        with library.using(wanted):
            return call()

    return inner


def layer_pass(make: Callable[[], torch.nn.Module], channels: int, side: int) -> Callable[[], object]:
    """Forward and all gradients of a layer in bfloat16, its input's only where it reads no image."""
    layer = make().to(memory_format=torch.channels_last)
    x = torch.randn(BATCH, channels, side, side).to(torch.bfloat16, memory_format=torch.channels_last)
    x.requires_grad_(channels > 3)
    with torch.autocast("cpu", torch.bfloat16):
        gradient = torch.randn_like(layer(x))

    def call() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        return torch.autograd.grad(y, [*([x] if x.requires_grad else []), *layer.parameters()], gradient)

    return call


def likelihood_pass() -> Callable[[], object]:
    logits, target = torch.randn(50, 20, 1, 28, 28, requires_grad=True), torch.rand(20, 1, 28, 28)

    def call() -> Tensor:
        return torch.autograd.grad(BernoulliImage(logits).log_prob(target).sum(), logits)[0]

    return call


def steps(folder: Path, rounds: int) -> tuple[float, float]:
    """Median milliseconds of a step of conv-seed on MNIST with kernels and without, ten steps at a time."""
    trainers = []
    for kernels in ("native", "torch"):
        config = vaekit.configure("conv-seed", data="mnist", epochs=10, kernels=kernels)
        splits = load_splits(config.data, data_folder(None))
        resolved, _ = planned(config, splits)
        processes = Processes(prepare(resolved))
        run = Run.create(folder / kernels, *anchored(config, splits.info), resolved)
        trainers.append(trainer_of(run, splits, processes, Silent()))

    def ten(trainer: object) -> Callable[[], None]:
        def call() -> None:
            for _ in range(10):
                trainer.take_step()
                trainer.progress.step += 1

        return call

    native, plain = in_turn(ten(trainers[0]), ten(trainers[1]), rounds)
    return native / 10, plain / 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="turns of each pair of calls")
    parser.add_argument("--threads", type=int, help="CPU threads [all cores]")
    parser.add_argument("--record", type=Path, help="file for the results")
    options = parser.parse_args()
    if problem := library.problem():
        sys.exit(f"the kernels cannot be had on this machine: {problem}")
    keep_pages()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    passes = [(name, layer_pass(make, channels, side)) for name, make, channels, side in LAYERS]
    passes.append(("Bernoulli pixels, 1,000 x 784", likelihood_pass()))
    rows = []
    print("| forward and backward | torch, ms | kernels, ms | ratio |\n| --- | --- | --- | --- |")

    def tell(name: str, native: float, plain: float) -> None:
        rows.append({"part": name, "torch_ms": plain, "kernels_ms": native})
        print(f"| {name} | {plain:.2f} | {native:.2f} | {plain / native:.2f} |", flush=True)

    for name, call in passes:
        tell(name, *in_turn(with_kernels(call, True), with_kernels(call, False), options.rounds))
    with tempfile.TemporaryDirectory() as folder:
        tell("a whole step of conv-seed, MNIST", *steps(Path(folder), options.rounds))
    if options.record:
        machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
        options.record.write_text(json.dumps({**machine, "batch_size": BATCH, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
