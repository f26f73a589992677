"""Packing a folder of small photographs: time and images/s, the second start, and peak memory.

    python benchmarks/packing.py FOLDER [--images 100000] [--out record.json]

Makes 64x64 JPEG files under FOLDER/images, unless they are there (100,000 take about 500 MB and a few minutes), then packs
them into an empty cache under FOLDER, and opens them again, each in a process of its own. Packing reads files that the
system has in memory, since they were just written. Prints one JSON record.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_IN_FOLDER = 1000  # files in each sub-folder, so that there are classes


def make_images(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` smooth random 64x64 JPEG files, the same ones for the same seed; those that are there are kept."""
    for first in range(0, count, _IN_FOLDER):
        shelf = folder / f"{first // _IN_FOLDER:03}"
        size = min(_IN_FOLDER, count - first)
        if shelf.is_dir() and len(os.listdir(shelf)) == size:
            continue
        shelf.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng((seed, first)).integers(0, 256, (size, 9, 9, 3), dtype=np.uint8)
        for number in range(size):
            image = Image.fromarray(coarse[number]).resize((64, 64), Image.Resampling.BICUBIC)
            image.save(shelf / f"{first + number:06}.jpg", "JPEG", quality=90)


def open_folder(folder: str) -> dict[str, Any]:
    """Open a folder in this process, with what it took."""
    from pathlib import Path

    from vaekit.data.folders import load_folder
    from vaekit.data.sizing import Opening

    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    loaded = load_folder(Path(folder), Opening())
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "images": len(loaded.train),
        "shape": loaded.train.shape,
        "mapped": loaded.train.rows is not None,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 3),
        "images_per_second": round(len(loaded.train) / seconds),
        "peak_memory_mb": round(after.ru_maxrss / 1024),
        "peak_memory_before_mb": round(before.ru_maxrss / 1024),
    }


def in_child(folder: Path, cache: Path) -> dict[str, Any]:
    """`open_folder` in a process of its own, timed from outside too."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, str(folder), "--child"],
        env={**os.environ, "VAEKIT_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**record, "seconds_with_imports": round(time.perf_counter() - started, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where images and the cache may be written")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--out", help="a file for the record")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(open_folder(options.folder)))
        return
    folder = Path(options.folder)
    images, cache = folder / "images", folder / "cache"
    started = time.perf_counter()
    make_images(images, options.images)
    print(f"{options.images:,} images made in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    shutil.rmtree(cache, ignore_errors=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    record = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": cores,
            "load": os.getloadavg()[0],
        },
        "bytes": sum(file.stat().st_size for file in images.rglob("*.jpg")),
        "packing": in_child(images, cache),
        "second_start": in_child(images, cache),
    }
    text = json.dumps(record, indent=2)
    print(text)
    if options.out:
        Path(options.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
