"""How quickly the explorer answers: decode requests over HTTP, one client alone and many at once.

    python benchmarks/explorer.py runs/mnist                       # a run that is trained
    python benchmarks/explorer.py runs/mnist --record benchmarks/results/explorer.json

Starts `vaekit explore` as users do, in a process of its own, and asks for one image at a time, each client as soon as its
last answer came, as a moving pointer does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from vaekit.runs import write_atomically

LIMITS = {1: ("p50", 10.0), 16: ("p95", 50.0)}  # clients: milliseconds not to be exceeded


async def client(address: str, width: int, latents: int, seconds: float, seed: int) -> list[float]:
    """Milliseconds of each request of one client, whose HTTP is written by hand: a library costs as much as the server."""
    draw = np.random.default_rng(seed)
    host, port = address.removeprefix("http://").strip("/").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /api/decode HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {4 * width}\r\n\r\n".encode()
    found = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        row = np.zeros(width, "<f4")
        row[:latents] = draw.normal(size=latents)
        if width > latents:
            row[latents + draw.integers(width - latents)] = 1.0
        started = time.perf_counter()
        writer.write(head + row.tobytes())
        answer = await reader.readuntil(b"\r\n\r\n")
        lines = answer.lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
        await reader.readexactly(length)
        found.append(1e3 * (time.perf_counter() - started))
        if not lines[0].startswith(b"http/1.1 200"):
            raise RuntimeError(lines[0].decode())
    writer.close()
    return found[1:]  # the first opens the connection


async def measure(address: str, clients: int, seconds: float) -> dict[str, Any]:
    """Percentiles over all requests of clients that move at the same time."""
    about = httpx.get(f"{address}data/scene.json", timeout=60).json()
    latents = about["latent_dim"]
    width = latents + about["conditions"]
    each = await asyncio.gather(*(client(address, width, latents, seconds, seed) for seed in range(clients)))
    times = np.concatenate(each)
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    return {"clients": clients, "requests": len(times), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99,
            "requests_per_second": len(times) / seconds}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="+", help="run folders or model files")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each number of clients")
    parser.add_argument("--record", type=Path, help="file for the results")
    options = parser.parse_args()
    results = []
    fits = True
    for run in options.run:
        command = [sys.executable, "-m", "vaekit", "explore", run, "--port", "0", "--no-browser", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                text = ""
                while not text.rstrip().endswith("}"):
                    line = server.stdout.readline()
                    if not line:
                        return 1
                    text += line
                address = json.loads(text)["address"]
                asyncio.run(measure(address, 2, 1.0))  # warms up
                for clients, (which, limit) in LIMITS.items():
                    found = asyncio.run(measure(address, clients, options.seconds))
                    value = found[f"{which}_ms"]
                    fits &= value <= limit
                    word = "pass " if value <= limit else "SHORT"
                    print(f"{word} {Path(run).name}, {clients:2} clients: {which} {value:.1f} <= {limit:.0f} ms "
                          f"({found['requests_per_second']:.0f} requests/s)", flush=True)  # fmt: skip
                    results.append({"run": Path(run).name, "limit": {which: limit}, **found})
            finally:
                server.terminate()
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }
    if options.record:
        write_atomically(options.record, json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
