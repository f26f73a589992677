"""Training throughput of vaekit and its peers, side by side on one machine.

Every system trains the same network on the same images in a process of its own, timed from outside, once for
few epochs and once for more. Throughput is the extra images over the extra seconds: start-up, imports and the
final evaluation cancel. Systems alternate over rounds; ratios are taken round by round. See README.md.

    python benchmarks/throughput.py --data-dir DIR
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from comparison import BASE, FLOAT32, BenchmarkError, Timing, check_parameters, summarize, table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SCRIPTS = {
    BASE: "vaekit_train.py",
    "keras": "keras_fit.py",
    "pythae": "pythae_trainer.py",
    "torch": "torch_loop.py",
}
RESULT = "RESULT "
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def order(systems: Sequence[str], round_number: int) -> list[str]:
    """The order of the systems in a round: forwards, then backwards, so that a slow drift favours none."""
    return list(systems) if round_number % 2 == 0 else list(reversed(systems))


def slug(name: str) -> str:
    """A name for a file.

    >>> slug("AMD EPYC 9B14 (2 cores)")
    'amd-epyc-9b14-2-cores'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def parse_result(output: str) -> dict[str, Any]:
    """The record that a system's script printed on its last line.

    Raises:
        BenchmarkError: when there is none.
    """
    lines = [line for line in output.splitlines() if line.startswith(RESULT)]
    if not lines:
        raise BenchmarkError("the process printed no result")
    return json.loads(lines[-1].removeprefix(RESULT))


def run_process(command: Sequence[str], environment: Mapping[str, str]) -> tuple[Timing, dict[str, Any]]:
    """Run one process to its end, and measure it.

    Its output goes to files, not to pipes: a reader here would take time from it.

    Raises:
        BenchmarkError: when it fails, with the end of what it said.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=log, env=dict(environment))
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        log.seek(0)
        if process.returncode != 0:
            name, end = Path(command[1]).name, log.read()[-2000:]
            raise BenchmarkError(f"{name} failed with {process.returncode}:\n{end}")
        result = parse_result(out.read())
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes there, KiB on Linux
    cpu_seconds = usage.ru_utime + usage.ru_stime
    memory = usage.ru_maxrss / unit
    return Timing(seconds, cpu_seconds, result["images_trained"], memory, result["test_loss_nats"]), result


def child_environment(system: str) -> dict[str, str]:
    """Variables of a system's process: each chooses its own threads; only vaekit sees vaekit's source."""
    environment = {k: v for k, v in os.environ.items() if k not in (*_THREAD_VARIABLES, "PYTHONPATH")}
    if system == BASE:
        environment["PYTHONPATH"] = str(ROOT / "src")
    return environment


def find_python(name: str, given: str | None) -> str:
    """The interpreter given, else that of .venv-peers/<name>, made now from the peer's pinned requirements.

    Raises:
        BenchmarkError: when the environment cannot be made.
    """
    if given:
        return given
    folder, pins = ROOT / ".venv-peers" / name, HERE / "peers" / f"{name}.txt"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = pins.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    say(f"making the environment of {name} (once)")
    folder.parent.mkdir(exist_ok=True)
    (folder.parent / ".gitignore").write_text("*\n")
    install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(pins)]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], install):
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            raise BenchmarkError(f"{name}: its environment could not be made; give --python-{name} PATH")
    stamp.write_text(wanted)
    return str(python)


def machine(device: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.M)):
        cpu = found[1].strip()
    facts: dict[str, Any] = {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": platform.platform(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        facts["gpu"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    return facts


def commit() -> str | None:
    """The commit measured, marked where the tree differs from it; None outside a checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    return described.stdout.strip() or None


def measure(system: str, python: str, epochs: int, seed: int, options: argparse.Namespace) -> Any:
    """One process of a system; returns its timing and its own record."""
    name = BASE if system == FLOAT32 else system
    command = [python, str(HERE / "peers" / SCRIPTS[name]), "--epochs", str(epochs), "--seed", str(seed)]
    command += ["--data-dir", options.data_dir, "--device", options.device]
    if options.images:
        command += ["--images", str(options.images)]
    if system == FLOAT32:
        command += ["--precision", "float32"]
    timing, result = run_process(command, child_environment(name))
    say(
        f"  {system:<15} {epochs} epochs  {timing.seconds:7.1f} s  {timing.peak_memory_mib:6.0f} MiB"
        f"  test loss {timing.test_loss_nats:.2f}"
    )
    return timing, result


def run_rounds(pythons: Mapping[str, str], options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """All rounds: {system: [{"low", "high"}, ...]} and {system: facts}. The seed of a round is its number.

    Raises:
        BenchmarkError: when a process fails, or the systems' parameter counts differ.
    """
    low_epochs, high_epochs = options.epochs
    rounds: dict[str, list[dict[str, Timing]]] = {system: [] for system in pythons}
    facts: dict[str, Any] = {}
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds}")
        for system in order(list(pythons), number):
            pair = {}
            for key, epochs in (("low", low_epochs), ("high", high_epochs)):
                if key == "low" and system == FLOAT32:
                    continue  # measured for its test loss, not for its speed
                pair[key], result = measure(system, pythons[system], epochs, number, options)
                facts[system] = {k: v for k, v in result.items() if k not in ("images_trained", "test_loss_nats")}
                check_parameters(facts)
            rounds[system].append(pair)
    return rounds, facts


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="Training throughput of vaekit and its peers, in one run.")
    parser.add_argument("--data-dir", default=os.environ.get("VAEKIT_DATA"), help="holds mnist/ (default: VAEKIT_DATA)")
    parser.add_argument("--systems", nargs="+", choices=SCRIPTS, help="default: all that run on the device")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, nargs=2, default=(2, 6), metavar=("LOW", "HIGH"))
    parser.add_argument("--images", type=int, help="train on the first so many images, for smoke tests")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--check-precision", action="store_true", help="also run vaekit in float32, for its test loss")
    parser.add_argument("--out", type=Path, help="JSON (default: benchmarks/results/, and none with --images)")
    parser.add_argument("--python-vaekit", default=sys.executable, metavar="PATH", help="default: this interpreter")
    for peer in SCRIPTS:
        if peer != BASE:
            parser.add_argument(f"--python-{peer}", metavar="PATH", help=f"default: .venv-peers/{peer}, made on demand")
    options = parser.parse_args(arguments)
    if not options.data_dir:
        parser.error("--data-dir or VAEKIT_DATA: give the folder that holds mnist/ in its four IDX files")
    if not 0 < options.epochs[0] < options.epochs[1]:
        parser.error(f"--epochs: LOW {options.epochs[0]} and HIGH {options.epochs[1]} must be 0 < LOW < HIGH")
    if options.rounds < 1:
        parser.error(f"--rounds: {options.rounds} is out of range; it must be at least 1")
    options.systems = options.systems or [s for s in SCRIPTS if not (s == "keras" and options.device == "cuda")]
    if options.device == "cuda" and "keras" in options.systems:
        parser.error("--systems keras: its pinned environment is CPU-only; leave it out with --device cuda")
    if options.check_precision and BASE not in options.systems:
        parser.error(f"--check-precision: needs {BASE} among the --systems")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        pythons = {system: find_python(system, getattr(options, f"python_{system}")) for system in options.systems}
        if options.check_precision:
            pythons[FLOAT32] = options.python_vaekit
        about = machine(options.device)
        if about["load_average_before"] > 0.5:
            say(f"warning: the machine is busy (load {about['load_average_before']}); timings mean little")
        rounds, facts = run_rounds(pythons, options)
    except BenchmarkError as error:
        say(f"error: {error}")
        return 1
    found = summarize(rounds, facts)
    today = datetime.date.today().isoformat()
    record = {
        "benchmark": "throughput",
        "date": today,
        "commit": commit(),
        "machine": about,
        "settings": {
            "data": "mnist",
            "preset": "conv-seed",
            "batch_size": 128,
            "epochs": list(options.epochs),
            "images": options.images or 60_000,
            "rounds": options.rounds,
            "device": options.device,
        },
        **found,
    }
    print(table(found))
    name = about.get("gpu") or f"{about['cpu']} {about['cores']} cores"
    default = None if options.images else HERE / "results" / f"throughput-{slug(name)}-{today}.json"
    if path := options.out or default:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2) + "\n")
        say(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
