"""Progressive against direct training at equal training time, on generated images of shapes with fine texture.

    python benchmarks/progressive.py --out runs/progressive [--minutes 10] [--size 128] [--stages 3] [--seeds 0 1 2]

Each training is a process of its own and gets as many steps as take the given minutes, by some steps of each phase that are
timed beforehand, those of both in turn; on a CPU in CPU seconds over threads, so that other programs hardly count. Both have
the same network, batches, learning rates and seeds, no validation, and keep the last weights. Writes the record as
`progressive.json` and, of the first seed, test images and their reconstructions as `progressive.png`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import vaekit
from vaekit.data.splits import load_splits
from vaekit.runs import Run
from vaekit.settings import Config, configure
from vaekit.training.engine import prepare, resolve, runner
from vaekit.training.growing import phases
from vaekit.training.processes import Processes
from vaekit.training.reporting import Silent
from vaekit.training.train import seeded_model
from vaekit.training.trainer import Trainer

NETWORK = {"dense": 256, "latent_dim": 64, "likelihood": "optimal-gaussian", "initialization": "glorot"}
ARMS = ("direct", "progressive")
TIMED = 15  # steps of each phase, after four that are not timed
SHOWN = 8


def generated(count: int, size: int, seed: int) -> np.ndarray:
    """Images (count, size, size), uint8: one to three discs or squares with stripes on a shaded ground."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    images = np.empty((count, size, size), np.uint8)
    for image in images:
        angle = random.uniform(0, 2 * np.pi)
        shade = 0.5 + 0.5 * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle))
        picture = shade * random.uniform(0.3, 0.9)
        for _ in range(random.integers(1, 4)):
            across, down = random.uniform(0.2, 0.8, 2)
            reach = random.uniform(0.1, 0.28)
            far = (
                np.maximum(abs(x - across), abs(y - down)) if random.random() < 0.5 else np.hypot(x - across, y - down)
            )
            turn, period = random.uniform(0, np.pi), random.uniform(4, 10) / size
            stripes = 0.5 + 0.5 * np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period)
            first, second = random.uniform(0.0, 1.0, 2)
            inside = np.clip((reach - far) * size + 0.5, 0.0, 1.0)
            picture += inside * (first + stripes * (second - first) - picture)
        image[:] = np.round(255 * picture.clip(0, 1))
    return images


def data_file(options: argparse.Namespace) -> Path:
    path: Path = options.out / f"shapes-{options.size}-{options.images}.npz"
    return path


def settings(options: argparse.Namespace, arm: str, seed: int, epochs: float) -> Config:
    grown = {"progressive": options.stages, "fade": options.fade, "last_stage": options.last_stage}
    return configure(
        "folder",
        data=str(data_file(options)),
        image_size=None,
        validation=0,
        select_best=False,
        batch_size=options.batch_size,
        epochs=epochs,
        seed=seed,
        threads=options.threads,
        channels=options.channels,
        **NETWORK,
        **(grown if arm == "progressive" else {}),
    )


def clock(device: torch.device, threads: int) -> float:
    """Seconds of work done so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time() / threads


def trainer_of(config: Config, folder: Path) -> Trainer:
    splits = load_splits(config.data, None)
    model = seeded_model(config, splits.info)
    resolved = resolve(config.training, model)
    device = prepare(resolved)
    return Trainer(
        Run.create(folder, config, splits.info, resolved), splits, model, Processes(device), device, Silent()
    )


def seconds_by_phase(options: argparse.Namespace) -> dict[str, list[float]]:
    """Of a step in each phase of each arm: the median of some, between which those of the others are taken."""
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        jobs = [
            (arm, place, phase, trainer_of(settings(options, arm, 0, epochs=1000.0), Path(folder) / f"{arm}-{place}"))
            for arm in ARMS
            for place, phase in enumerate(phases(settings(options, arm, 0, epochs=1000.0).training, 10_000))
        ]
        times: dict[tuple[str, int], list[float]] = {(arm, place): [] for arm, place, _, _ in jobs}
        for turn in range(TIMED + 4):  # the first few are not counted: on a GPU a graph is captured in the fourth
            for arm, place, phase, trainer in jobs:
                step = round(phase.first / 10_000 * trainer.total_steps) + 1 + turn
                if trainer.growth and trainer.growth.begin(step):
                    trainer.run_step = runner(trainer._body, trainer.device)
                before = clock(trainer.device, trainer.run.resolved.threads)
                trainer.run_step(*trainer.arguments(step))
                times[arm, place].append(clock(trainer.device, trainer.run.resolved.threads) - before)
    return {arm: [statistics.median(times[key][4:]) for key in times if key[0] == arm] for arm in ARMS}


def planned(options: argparse.Namespace, arm: str, seconds: list[float]) -> int:
    """Steps that take the given minutes."""
    schedule = phases(settings(options, arm, 0, epochs=1000.0).training, 10_000)
    mean = sum(each * phase.steps / 10_000 for each, phase in zip(seconds, schedule, strict=True))
    return max(8 * options.stages, round(60 * options.minutes / mean))


def train(options: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """Train one arm in this process; returns what is reported of it."""
    path = options.out / f"{arm}-{seed}"
    config = settings(options, arm, seed, epochs=options.steps * options.batch_size / options.images)
    before = time.process_time()
    run = vaekit.train(path, config=config, observer=Silent())
    worked = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    last, test = run.metrics()[-1], vaekit.evaluate(run.path, "test", 10)
    return {
        "arm": arm,
        "seed": seed,
        "steps": last["step"],
        "training_seconds": last["seconds"],
        "cpu_seconds": round(worked, 1),
        "peak_memory_mib": round(peak),
        **{
            f"test_{name}": test[name]
            for name in ("elbo_nats", "distortion_nats", "rate_nats", "psnr_db")
            if name in test
        },
        "test_mean_squared_error": squared_error(run.path, options),
    }


@torch.no_grad()
def decoded(path: Path, images: np.ndarray) -> np.ndarray:
    """Reconstructions of images (n, height, width) as such, uint8."""
    model, _, _ = vaekit.load_model(path)
    given = torch.from_numpy(images)[:, None].float() / 255
    found = torch.cat([model.decode(model.encode(part).mean).mean for part in given.split(50)])
    return (255 * found.clamp(0, 1)).round().to(torch.uint8)[:, 0].numpy()


def squared_error(path: Path, options: argparse.Namespace) -> float:
    """Mean over test images and pixels, grey values from 0 to 1."""
    images = np.load(data_file(options))["x_test"]
    return float(np.mean((decoded(path, images).astype(np.float64) - images) ** 2) / 255**2)


def picture(options: argparse.Namespace) -> Path:
    """Rows: test images, direct, progressive."""
    images = np.load(data_file(options))["x_test"][:SHOWN]
    rows = [images, *(decoded(options.out / f"{arm}-{options.seeds[0]}", images) for arm in ARMS)]
    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    path: Path = options.out / "progressive.png"
    Image.fromarray(grid).save(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/progressive"))
    parser.add_argument("--minutes", type=float, default=10.0, help="of training steps, for each arm and seed")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--images", type=int, default=3000, help="training images")
    parser.add_argument("--test-images", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--channels", default="16,32,64,128,256")
    parser.add_argument("--stages", type=int, default=3)
    parser.add_argument("--fade", type=float, default=0.5)
    parser.add_argument("--last-stage", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.arm:
        print("RESULT " + json.dumps(train(options, options.arm, options.seeds[0])))
        return
    data = data_file(options)
    if not data.exists():
        np.savez(
            data,
            x_train=generated(options.images, options.size, 1),
            x_test=generated(options.test_images, options.size, 2),
        )
    seconds = seconds_by_phase(options)
    print({arm: [round(1000 * each, 1) for each in seconds[arm]] for arm in ARMS}, "ms a step, by phase", flush=True)
    results = []
    for seed in options.seeds:
        for arm in ARMS if seed % 2 == 0 else ARMS[::-1]:
            steps = str(planned(options, arm, seconds[arm]))
            command = [sys.executable, *sys.argv, "--arm", arm, "--seeds", str(seed), "--steps", steps]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
            results.append(json.loads(line.removeprefix("RESULT ")))
            print(json.dumps(results[-1]), flush=True)
    given = {name: value for name, value in vars(options).items() if name not in ("out", "arm", "steps")}
    record = {
        "vaekit": vaekit.__version__,
        "settings": given,
        "resolved": dataclasses.asdict(Run(options.out / f"direct-{options.seeds[0]}").resolved),
        "seconds_of_a_step_by_phase": seconds,
        "results": results,
    }
    (options.out / "progressive.json").write_text(json.dumps(record, indent=2))
    print(picture(options))


if __name__ == "__main__":
    main()
