"""Texts that people read, kept as files: a change of wording shows in review.

Write them anew with ``VAEKIT_GOLDEN=write pytest tests/test_golden.py``, and read the ``git diff``.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from commands import good, refused
from vaekit.cli import VERBS
from vaekit.commands.console import evaluation_text
from vaekit.runs import Run

Capture = pytest.CaptureFixture[str]
FOLDER = Path(__file__).parent / "golden"
COMMANDS = {"help": "--help", "list": "list", **{f"{verb}-help": f"{verb} --help" for verb in VERBS}}
ERRORS = """
trian
Train
--jsn
--vresion
list netwroks
list network extra
train
train --out x mnist
train --epohcs 3
train --out
train --out x -epochs 3
train --out x --zzz 3
train --out x --json=3
train --out x --epoch 3
train --out x --epochs
train --out x --epochs -3
train --out x --epochs many
train --out x --latent-dim 2.5
train --out x --seed -1
train --out x --warmup 2
train --out x --channels 32 64
train --out x --channels 32;64
train --out x --select-best maybe
train --out x --no-select-best 3
train --out x --no-epochs
train --out x --hidden 200
train --out x --objective iwae --beta 2
train --out x --objective iwae --beta-schedule linear --data digits
train --out x --network cnvo
train --out x --device gpu
train --out x --lr 0.1
train --out x --gradient-clip off
train --out x --preset cvae-onehto
train --out x --data mnits
train --out x --data photos/
train --out x --data digits --data-dir nowhere
train --out x --data digits --batch-size 5000
train --out x --data digits --validation 5000
train --out x --data own.npy --preset cvae-onehot
train --out x --data large.npy --network mlp
train --out x --data holes.npy
train --out run --data digits
resume nowhere
resume run --epochs 30
evaluate
evaluate nowhere
evaluate run another
evaluate run --split tset
evaluate run --split
evaluate run --split 3
evaluate run --limit 0
evaluate run --limit many
evaluate run --importance-samples 0
evaluate own.npy
sample
sample run
sample run --ouput x.png
sample run --out x.png --temperature nan
sample run --out x.png --seed -1
sample run x.png
sample run --out x.gif
sample run --out nowhere/x.png
sample run --out x.png --label 7
reconstruct run --out x.png --images large.npy
denoise run --out x.png
"""


def compare(name: str, text: str) -> None:
    """Compare with the kept text, or keep this one."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("VAEKIT_GOLDEN") == "write":
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path.name} is missing; write it with VAEKIT_GOLDEN=write"
    assert text == path.read_text(), "if the change is meant, write it with VAEKIT_GOLDEN=write"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("VAEKIT_DATA", raising=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str, capsys: Capture) -> None:
    compare(name, good(capsys, *COMMANDS[name].split()).out)


def test_help_of_another_network(capsys: Capture) -> None:
    compare("train-mlp-help", good(capsys, "train", "--preset", "mlp", "--help").out)


def test_errors(capsys: Capture, trained_run: Run) -> None:
    os.symlink(trained_run.path, "run")
    np.save("own.npy", np.zeros((30, 8, 8), np.uint8))
    np.save("large.npy", np.full((30, 9, 9), 255.0))
    np.save("holes.npy", np.full((30, 8, 8), np.nan))
    lines = []
    for command in ERRORS.strip().splitlines():
        lines += [f"$ vaekit {command}", refused(capsys, *command.split()), ""]
    assert not Path("x").exists()
    compare("errors", "\n".join(lines))


def test_evaluation() -> None:
    record = {
        "split": "test",
        "num_images": 10000,
        "likelihood": "bernoulli",
        "measure": "discrete",
        "elbo_nats": -95.123456,
        "rate_nats": 24.5,
        "distortion_nats": 70.623456,
        "nll_nats": 90.2,
        "num_importance_samples": 100,
        "effective_sample_size": 3.21,
        "standard_error_nats": 0.25,
        "active_units": 15,
        "latent_dim": 16,
        "bits_per_dim": 0.166,
        "psnr_db": 17.25,
        "input_psnr_db": 15.5,
    }
    density = {
        **record,
        "measure": "density",
        "likelihood": "gaussian",
        "elbo_nats": 512.75,
        "bits_per_dim": None,
    }
    surrogate = dict.fromkeys(record) | {
        key: record[key] for key in ("split", "num_images", "likelihood", "latent_dim", "distortion_nats")
    }
    surrogate["measure"] = "surrogate"
    texts = [evaluation_text("runs/mnist", found) for found in (record, density, surrogate)]
    compare("evaluation", "\n\n".join(texts) + "\n")
