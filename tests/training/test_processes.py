"""Many processes train to the numbers of one: two processes over gloo on this machine."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import vaekit
import walls
from helpers_run import command, environment, timeless
from vaekit.data.batches import Data, Order
from vaekit.data.splits import load_splits
from vaekit.runs import Run
from vaekit.storage import read_tensors
from vaekit.training.processes import Processes
from vaekit.training.reporting import Silent

FLAGS = {
    "preset": "mlp",
    "data": "digits",
    "train-limit": 200,
    "validation": 51,  # odd: the processes' parts differ in size
    "batch-size": 32,
    "epochs": 2,
    "hidden": "16",
    "latent-dim": 3,
    "device": "cpu",
    "threads": 1,
    "precision": "float32",
}
STEPS = 12


def flags(more: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**FLAGS, **more}.items() if value is not None}


def words(out: Path, **more: Any) -> list[str]:
    return [
        "train",
        *(word for name, value in flags(more).items() for word in (f"--{name}", str(value))),
        "--out",
        str(out),
    ]


def start(arguments: list[str], rank: int, port: int, **about: Any) -> subprocess.Popen[str]:
    of_torchrun = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    return subprocess.Popen(
        command([*arguments, "--no-report"], **about),
        env=environment(**{name: str(value) for name, value in of_torchrun.items()}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(arguments: list[str], about: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    """Run two processes of one group to their end: return code, standard output and standard error of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(arguments, rank, port, **about[rank]) for rank in range(2)]
    try:
        ends = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *end) for process, end in zip(processes, ends, strict=True)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[list[list[int]]], list[str]]:
    """A run of two processes, the images that each took in each step, and what each wrote to standard error.

    The second process would be killed by its first write of a file.
    """
    folder = tmp_path_factory.mktemp("pair")
    shares = [str(folder / f"share{rank}") for rank in range(2)]
    dies_if_it_writes = {"at": "os.replace", "call": 1, "signal": "KILL"}
    about = [{"shares": shares[0]}, {"shares": shares[1], "fault": dies_if_it_writes}]
    ends = together(words(folder / "run"), about)
    assert [code for code, _, _ in ends] == [0, 0], ends
    taken = [[json.loads(line) for line in Path(share).read_text().splitlines()] for share in shares]
    return Run(folder / "run"), taken, [error for _, _, error in ends]


def single(out: Path, **more: Any) -> Run:
    given = {name.replace("-", "_"): value for name, value in flags(more).items()}
    return vaekit.train(out, given.pop("preset"), observer=Silent(), **given)


def assert_close_runs(found: Run, expected: Run) -> None:
    """Records and weights up to the order of floating-point sums.

    A sum of 32 terms taken in two halves differs by a few parts in 10^7; twelve steps of Adam carry that on. A rate near 0
    is what is left of terms near 1, which are rounded by 6e-8 each.
    """
    for ours, theirs in zip(timeless(found.metrics()), timeless(expected.metrics()), strict=True):
        for split in ("train", "val"):
            mine, other = ours.pop(split), theirs.pop(split)
            absent = {name for name, value in other.items() if value is None}
            assert {name for name, value in mine.items() if value is None} == absent
            for name in mine.keys() - absent:
                assert mine[name] == pytest.approx(other[name], rel=2e-6, abs=2e-7), name
        assert ours == theirs
    ours, _ = read_tensors(found.model, "model")
    for name, tensor in read_tensors(expected.model, "model")[0].items():
        torch.testing.assert_close(
            ours[name], tensor, rtol=1e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_two_processes_train_to_the_numbers_of_one(pair: Any, tmp_path: Path) -> None:
    run, _, _ = pair
    assert run.resolved.processes == 2
    assert_close_runs(run, single(tmp_path / "one"))


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", ["ema", "lfq"])
def test_codes_of_two_processes_are_those_of_one(quantizer: str, tmp_path: Path) -> None:
    """Codebooks move by the vectors of both; the entropy of signs, too, is that of the whole batch."""
    small = {
        "preset": "vq",
        "hidden": None,
        "latent-dim": None,
        "channels": "4,6",
        "width": 8,
        "layers": 1,
        "epochs": 1,
    }
    small |= {"quantizer": quantizer, **({"num-codes": 8, "code-dim": 3} if quantizer == "ema" else {"bits": 3})}
    ends = together(words(tmp_path / "two", **small), [{}, {}])
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert_close_runs(Run(tmp_path / "two"), single(tmp_path / "one", **small))


def test_processes_share_each_step_of_one_order(pair: Any) -> None:
    _, taken, _ = pair
    order = Order(200, 32, seed=0)
    assert [len(mine) for mine in taken] == [STEPS, STEPS]
    for step in range(STEPS):
        first, second = taken[0][step], taken[1][step]
        assert len(first) == len(second) == 16
        assert first + second == order.batch(step).tolist()


def test_only_the_first_process_writes_and_speaks(pair: Any) -> None:
    run, _, errors = pair
    assert "epoch   2/2" in errors[0]
    assert "epoch" not in errors[1]
    assert [record["epoch"] for record in run.metrics()] == [1, 2]


def test_a_run_of_two_processes_is_evaluated_by_one(pair: Any) -> None:
    run, _, _ = pair
    found = vaekit.evaluate(run.path, "val", num_importance_samples=1)
    assert found["num_images"] == 51
    # another sample of the same 51 images: the bound differs by less than the images do from each other
    assert found["elbo_nats"] == pytest.approx(run.metrics()[-1]["val"]["elbo_nats"], abs=1.0)


WALLS = {
    "batch-objective": {"objective": "wall-mmd", "mmd-weight": 50.0},
    "two-players": {"objective": "wall-factor"},
    "free-bits": {"objective": "free-bits", "free-bits": 0.5, "ema-decay": 0.9},
    "capacity": {"objective": "capacity", "capacity-epochs": 2},
    "balanced-levels": {
        "model": "hierarchical",
        "widths": "4,6",
        "objective": "balanced",
        "even-epochs": 1,
        "hidden": None,
    },
    "batch-normalization": {"network": "residual", "widths": "4,8", "normalization": "batch", "hidden": None},
    "settled": {
        "network": "residual",
        "widths": "4,8",
        "normalization": "batch",
        "hidden": None,
        "ema-decay": 0.9,
        "likelihood": "optimal-gaussian",
        "learning-rate": 1e-3,
    },
    "optimal-variance": {"likelihood": "optimal-gaussian", "select-best": "false", "binarization": "dequantize"},
    "label-dropout": {"conditioning": "embedding", "label-dropout": 0.3},
    "moving-codebook": {"model": "wall-quantized", "objective": "wall-reconstruction", "hidden": None},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WALLS)
def test_what_joins_the_images_of_a_batch_sees_those_of_all_processes(name: str, tmp_path: Path) -> None:
    ends = together(words(tmp_path / "two", **WALLS[name]), [{"walls": True}] * 2)
    assert [code for code, _, _ in ends] == [0, 0], ends
    with walls.registered():
        assert_close_runs(Run(tmp_path / "two"), single(tmp_path / "one", **WALLS[name]))


@pytest.mark.slow
def test_two_stopped_processes_resume_to_the_same_bits(pair: Any, tmp_path: Path) -> None:
    """Also the record of the epoch that was cut: each process had seen only its share of those images."""
    stop = {"fault": {"at": "vaekit.training.optimization.Optimizers.step", "call": 9, "signal": "TERM"}}
    ends = together(words(tmp_path / "run"), [stop, stop])
    assert [code for code, _, _ in ends] == [1, 1], ends
    message = f"vaekit: stopped at step 9; continue: vaekit resume {tmp_path / 'run'}"
    assert ends[0][2].splitlines()[-1] == message
    ends = together(["resume", str(tmp_path / "run")], [{}, {}])
    assert [code for code, _, _ in ends] == [0, 0], ends
    run, expected = Run(tmp_path / "run"), pair[0]
    assert run.model.read_bytes() == expected.model.read_bytes()
    assert timeless(run.metrics()) == timeless(expected.metrics())


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused_in_one_sentence(tmp_path: Path) -> None:
    ends = together(words(tmp_path / "run", **{"batch-size": 33}), [{}, {}])
    for code, output, error in ends:
        assert code == 2
        assert output == ""
        assert error == "vaekit: --batch-size: 33 cannot be shared by 2 processes; use a multiple\n"
    assert not (tmp_path / "run").exists()


def test_one_process_needs_no_group() -> None:
    alone = Processes(torch.device("cpu"))
    values = torch.arange(6.0)
    assert (alone.rank, alone.count, alone.first) == (0, 1, True)
    assert alone.share(values) is alone.sum(values) is alone.gather(values) is values
    layer = nn.Linear(2, 2)
    alone.average([layer.weight, layer.bias.grad, None])
    alone.wait()
    assert not torch.distributed.is_initialized()


def test_validation_images_are_those_of_the_split(pair: Any) -> None:
    """The bound over the processes' parts weighs every image once, though one has 26 of the 51 and the other 25."""
    run, _, _ = pair
    assert len(load_splits(Data(data="digits", validation=51, train_limit=200), None).val) == 51
    first, last = run.metrics()
    assert first["val"]["elbo_nats"] == pytest.approx(-(first["val"]["distortion_nats"] + first["val"]["rate_nats"]))
    assert last["val"]["loss"] == pytest.approx(-last["val"]["elbo_nats"], rel=1e-6)
