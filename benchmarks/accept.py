"""The measurable promises, on real MNIST: each line prints a value, its limit, and pass or short.

    make accept                                  # everything; trains 16 models, about 40 minutes on two cores
    .venv/bin/python benchmarks/accept.py --only quality

Needs the official MNIST files (``VAEKIT_DATA``, or a download). Recipes were chosen on validation images; each model here
sees the test images once, after its training. Finished runs under ``runs/accept`` are used again as long as the code that
trains and measures them is the same; ``--fresh`` trains anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "accept"
SEEDS = (0, 1, 2)
PUBLISHED_BETA = 1 / 128
SHOWS = ("figures", "report", "commands", "doctor", "inspection", "comparison", "cli.py", "demo.py", "__main__.py")


@dataclass(frozen=True)
class Line:
    """One measured promise; `limit` is the largest value allowed, or the smallest where `at_least`."""

    name: str
    value: float
    limit: float
    unit: str
    at_least: bool = False
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "pass " if self.passed else "SHORT"
        return f"{verdict}  {self.name:<58} {self.value:>9.3f} {sign} {self.limit:<8g} {self.unit:<8} {self.detail}"


def fingerprint() -> str:
    """A hash of the code that trains and measures."""
    digest = hashlib.sha256()
    package = ROOT / "src" / "vaekit"
    for file in sorted(path for path in package.rglob("*") if path.suffix in (".py", ".c", ".h")):
        if file.relative_to(package).parts[0] not in SHOWS:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def finished_run(name: str, seed: int, preset: str, fresh: bool, **settings: Any) -> Path:
    """The folder of a trained run, trained now if need be."""
    import vaekit
    from vaekit.runs import Run

    folder = RUNS / f"{name}-seed{seed}"
    stamp = folder / "code"
    wanted = json.dumps([fingerprint(), preset, settings])
    if folder.exists() and (fresh or not stamp.exists() or stamp.read_text() != wanted):
        shutil.rmtree(folder)
    if not folder.exists():
        folder.mkdir(parents=True)
        stamp.write_text(wanted)
        print(f"training {folder.relative_to(ROOT)}", file=sys.stderr)
        vaekit.train(folder, preset, seed=seed, **settings)
    elif not Run(folder).model.exists():
        vaekit.resume(folder)
    return folder


def measured(folder: Path, split: str) -> dict[str, Any]:
    """`evaluate` on a split with one latent sample an image, kept beside the run: test images are read once."""
    import vaekit

    kept = folder / f"accept-{split}.json"
    if not kept.exists():
        kept.write_text(json.dumps(vaekit.evaluate(folder, split, num_importance_samples=1)))
    return json.loads(kept.read_text())


def over_seeds(name: str, values: list[float], limit: float, unit: str, at_least: bool = False) -> Line:
    """A line for the mean over seeds that shows every seed."""
    detail = "seeds " + ", ".join(f"{value:.2f}" for value in values)
    return Line(name, statistics.mean(values), limit, unit, at_least, detail)


def quality(fresh: bool) -> Iterator[Line]:
    """The seed systems and two references (REFERENCE: Burda et al., PyTorch's and Keras' own examples)."""
    runs = [finished_run("cvae-onehot", seed, "cvae-onehot", fresh) for seed in SEEDS]
    values = [-measured(run, "test")["elbo_nats"] for run in runs]
    yield over_seeds("cvae-onehot, 10 epochs: mean test -ELBO", values, 130.3, "nats")
    yield Line("cvae-onehot, 10 epochs: worst seed", max(values), 131.0, "nats")

    runs = [finished_run("cvae-embedding", seed, "cvae-embedding", fresh) for seed in SEEDS]
    values = [weighted(measured(run, "train")) for run in runs]
    yield over_seeds("cvae-embedding, beta 1/128: train distortion + rate/128", values, 125.0, "nats")

    runs = [finished_run("cvae-embedding-beta1", seed, "cvae-embedding", fresh, beta=1.0) for seed in SEEDS]
    values = [-measured(run, "test")["elbo_nats"] for run in runs]
    yield over_seeds("cvae-embedding, beta 1: mean test -ELBO", values, 130.8, "nats")

    runs = [finished_run("denoising", seed, "denoising", fresh) for seed in SEEDS]
    records = [measured(run, "test") for run in runs]
    yield over_seeds("denoising, 5 epochs: test distortion + rate/128", [*map(weighted, records)], 68.4, "nats")
    decibel = [record["psnr_db"] for record in records]
    yield over_seeds("denoising, 5 epochs: restored PSNR", decibel, 21.5, "dB", at_least=True)
    blurred = [record["input_psnr_db"] for record in records]
    print(f"       (the blurred input itself: {statistics.mean(blurred):.2f} dB)")

    runs = [finished_run("mlp", seed, "mlp", fresh, validation=0, select_best=False) for seed in SEEDS]
    values = [-measured(run, "test")["elbo_nats"] for run in runs]
    yield over_seeds("MLP 784-400-20, 10 epochs: mean test -ELBO", values, 104.8, "nats")

    plan = {"latent_dim": 2, "dense": 16, "epochs": 30, "validation": 0, "select_best": False}
    runs = [finished_run("conv-z2", 0, "conv", fresh, **plan)]
    values = [-measured(run, "test")["elbo_nats"] for run in runs]
    yield over_seeds("conv, 2 latents, dense 16, 30 epochs: test -ELBO", values, 149.0, "nats")


def weighted(record: dict[str, Any]) -> float:
    """The published objective: distortion + rate/128."""
    return record["distortion_nats"] + PUBLISHED_BETA * record["rate_nats"]


def tests(fresh: bool) -> Iterator[Line]:
    """Oracles, identities, contracts and traps; exact resume; bad input."""
    rooms = {
        "oracles, identities, contracts, traps: failed tests": [
            "tests/test_traps.py", "tests/test_walls.py", "tests/probability", "tests/objectives", "tests/models",
            "tests/networks", "tests/evaluation", "tests/data", "tests/test_noise.py", "tests/training/test_step.py",
            "tests/training/test_checkpoints.py", "tests/training/test_optimization.py",
            "tests/training/test_processes.py",
        ],
        "families: failed tests": [
            "tests/latents", "tests/samplers", "tests/features", "tests/test_families.py", "tests/test_extending.py",
        ],
        "resume after kill -9: failed tests": ["tests/training/test_resume.py"],
        "bad input: failed tests": ["tests/test_bad_input.py", "tests/test_damaged_files.py", "tests/test_golden.py"],
    }  # fmt: skip
    for name, places in rooms.items():
        command = [sys.executable, "-m", "pytest", "--verbosity=0", "--no-header", *places]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no output"
        yield Line(name, float(done.returncode != 0), 0, "", detail=last)


def speed(fresh: bool) -> Iterator[Line]:
    """The records of benchmarks/throughput.py of its newest day, all rounds together, and how fast the command answers."""
    records = [json.loads(file.read_text()) for file in (ROOT / "benchmarks" / "results").glob("throughput-*.json")]
    for device, limits in (("cpu", {"keras": 1.15, "pythae": 2.5}), ("cuda", {"torch": 10.0, "pythae": 10.0})):
        fitting = [record for record in records if record["settings"]["device"] == device]
        if not fitting:
            print(f"       (no record of benchmarks/throughput.py on {device} yet: run make bench)")
            continue
        day = max(record["date"] for record in fitting)
        newest = [record for record in fitting if record["date"] == day]
        for peer, limit in limits.items():
            by_round = [
                ratio for record in newest for ratio in record["ratios"].get(peer, {"by_round": []})["by_round"]
            ]
            if by_round:
                detail = f"{day}, rounds {', '.join(f'{ratio:.2f}' for ratio in by_round)}"
                ratio = statistics.median(by_round)
                yield Line(f"{device}: throughput of conv-seed against {peer}", ratio, limit, "x", True, detail)
        checks = [record["precision_check"]["mean_nats"] for record in newest if "precision_check" in record]
        if checks:
            difference = max(map(abs, checks))
            yield Line(f"{device}: test loss, |default precision - float32|", difference, 0.3, "nats")
    for words in ("-m vaekit --help", "-c 'import vaekit'"):
        yield Line(f"python {words}: median of 5", answer_time(words), 0.5, "seconds")


def answer_time(words: str) -> float:
    """Median wall seconds of a Python command over five runs."""
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(f"{sys.executable} {words}", shell=True, cwd=ROOT, capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def families(fresh: bool) -> Iterator[Line]:
    """The longest schedule that benchmarks/published.py was run for, and the newest record of benchmarks/families.py."""
    for file in sorted(_records("schedule"), key=lambda file: json.loads(file.read_text())["protocol"]["epochs"])[-1:]:
        rows = json.loads(file.read_text())["rows"]
        seeds: dict[str, list[float]] = {}
        for row in rows:
            seeds.setdefault(row["row"], []).append(row["nll_nats"])
        nll = {name: statistics.mean(values) for name, values in seeds.items()}
        order = ("vae-1", "vae-5", "vae-50", "iwae-5", "iwae-50")  # worst first, as published
        for worse, better in pairwise(name for name in order if name in nll):
            yield Line(
                f"published order: NLL of {worse} over {better}", nll[worse] - nll[better], 0.0, "nats", True, file.name
            )
    for file in _newest("families"):
        runs = list(json.loads(file.read_text())["runs"].values())
        for part, least in (("objective", 10), ("prior", 4)):
            seeds_of: dict[str, set[int]] = {}
            for run in runs:
                seeds_of.setdefault(run["settings"][part], set()).add(run["settings"]["seed"])
            whole = sum(len(of) >= len(SEEDS) for of in seeds_of.values())
            yield Line(f"table of families: {part}s with three seeds", whole, least, "", True, file.name)


def hands(fresh: bool) -> Iterator[Line]:
    """The newest record of benchmarks/explorer.py."""
    for file in _newest("explorer"):
        for found in json.loads(file.read_text())["results"]:
            ((which, limit),) = found["limit"].items()
            what = f"explorer, {found['run']}, {found['clients']} clients: {which} of a decoded image"
            yield Line(what, found[f"{which}_ms"], limit, "ms", False, file.name)


def deep(fresh: bool) -> Iterator[Line]:
    """The newest records of benchmarks/hierarchical.py and guidance.py, and all of progressive.py, whose settings differ."""
    for file in _newest("hierarchical"):
        rows = {row["row"]: row for row in json.loads(file.read_text())["rows"]}
        for name in ("two", "three", "five"):
            gain = min(rows["conv"]["nll_nats"], rows["one"]["nll_nats"]) - rows[name]["nll_nats"]
            yield Line(f"{name} levels below one at equal time, NLL", gain, 0.0, "nats", True, file.name)
            least = min(rows[name]["rate_by_level_nats"])
            yield Line(f"{name} levels all in use: least rate of one", least, 0.5, "nats", True, file.name)
    for file in _records("progressive"):
        found = {row["arm"]: row["test_elbo_nats"] for row in json.loads(file.read_text())["results"]}
        gain = found["progressive"] - found["direct"]
        yield Line("progressive over direct at 128 pixels, test ELBO", gain, 0.0, "nats", True, file.name)
    for file in _newest("guidance"):
        rows = [row for row in json.loads(file.read_text())["rows"] if row["model"] == "all labels"]
        for data in sorted({row["data"] for row in rows}):
            accuracy = {row["guidance"]: row["accuracy"] for row in rows if row["data"] == data}
            gain = accuracy[2.0] - accuracy[1.0]
            yield Line(f"{data}: label accuracy of samples, guidance 2 over 1", gain, 0.0, "", True, file.name)


def _newest(name: str) -> list[Path]:
    """The newest record of that name, in a list; an empty one where there is none."""
    return _records(name)[-1:]


def _records(name: str) -> list[Path]:
    """All records of that name, the newest last; where there is none, a word says so."""
    found = sorted((ROOT / "benchmarks" / "results").glob(f"{name}-*.json"))
    if not found:
        print(f"       (no record of benchmarks/{name}.py yet)")
    return found


PARTS: dict[str, Callable[[bool], Iterator[Line]]] = {
    "quality": quality, "tests": tests, "speed": speed, "families": families,
    "hands": hands, "deep": deep,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="measure only this part (can be repeated)")
    parser.add_argument("--fresh", action="store_true", help="train anew")
    options = parser.parse_args()
    lines = []
    for name in options.only or PARTS:
        for line in PARTS[name](options.fresh):
            print(line, flush=True)
            lines.append(line)
    short = [line for line in lines if not line.passed]
    print(f"{len(lines) - len(short)} of {len(lines)} lines pass")
    if not options.only:
        record = [{**asdict(line), "passed": line.passed} for line in lines]
        results = ROOT / "benchmarks" / "results"
        results.mkdir(parents=True, exist_ok=True)
        (results / "accept.json").write_text(json.dumps(record, indent=2) + "\n")
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
