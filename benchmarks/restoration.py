"""Denoising VAEs against classical filters on test images: the table of docs/restoration.md.

    python benchmarks/restoration.py --out runs/restoration [--limit 2000] [--data mnist fashion-mnist]

Trains the `denoising` preset for each data set and corruption (finished runs are used again), with 5,000 training images
held out: on 500 of these the one parameter of each filter is chosen. Prints PSNR in dB and SSIM, means over test images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import vaekit
from vaekit.evaluation.restoration_table import restoration_table
from vaekit.runs import Run

CORRUPTIONS = ("blur", "gaussian-noise", "salt-and-pepper", "mask-blocks")


def trained(folder: Path, data: str, corruption: str, latents: int, threads: int | None) -> Path:
    """The folder of a finished run, trained now if need be."""
    path = folder / f"{data}-{corruption}-{latents}"
    if (path / "model.safetensors").exists():
        return path
    if (path / "config.json").exists():
        return vaekit.resume(path).path
    settings = {"data": data, "corruption": corruption, "latent_dim": latents, "validation": 5000, "threads": threads}
    return vaekit.train(path, "denoising", **settings).path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/restoration"))
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion-mnist"])
    parser.add_argument("--corruptions", nargs="+", default=CORRUPTIONS)
    parser.add_argument("--latents", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--limit", type=int, default=2000, help="test images")
    parser.add_argument("--threads", type=int, help="CPU threads of the training")
    options = parser.parse_args()
    print(
        "| data | corruption | input | best classical | VAE, "
        + " latents | VAE, ".join(map(str, options.latents))
        + " latents |"
    )
    print("| --- " * (4 + len(options.latents)) + "|")
    for data in options.data:
        for corruption in options.corruptions:
            cells: list[str] = []
            for latents in options.latents:
                path = trained(options.out, data, corruption, latents, options.threads)
                record = restoration_table(path, limit=options.limit)
                row = next(row for row in record["rows"] if row["trained"])
                (path / "restoration.json").write_text(json.dumps(record, indent=2))
                both = {name: f"{row['psnr_db'][name]:.2f} / {row['ssim'][name]:.3f}" for name in row["psnr_db"]}
                names = list(both)
                if not cells:
                    classical = names[1:-1]
                    best = max(classical, key=lambda name: row["psnr_db"][name], default=None)
                    cells = [both[names[0]], "-" if best is None else f"{best} {both[best]}"]
                cells.append(both[names[-1]])
            strength = "" if row["strength"] is None else f" {row['strength']:g}"
            print(f"| {data} | {corruption}{strength} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nPSNR in dB / SSIM, means over {record['num_images']} test images; chosen on {record['chosen_on']}")
    print(f"vaekit {vaekit.__version__}, {Run(path).resolved}")


if __name__ == "__main__":
    main()
