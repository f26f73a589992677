"""How a step meets the machine."""

from __future__ import annotations

import os

import pytest
import torch

from vaekit.errors import InputError
from vaekit.models.table import Model
from vaekit.runs import Resolved
from vaekit.settings import Training
from vaekit.training import engine
from vaekit.training.engine import EagerStep, prepare, resolve, runner


class Model16(Model):
    low_precision = True


def test_given_choices_are_kept() -> None:
    found = resolve(Training(device="cpu", precision="float32", threads=3, kernels="torch"), Model16())
    assert found == Resolved("cpu", "float32", 3, 1, "torch")


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("model", [Model(), Model16()], ids=["exact", "low"])
def test_bfloat16_is_chosen_where_it_is_safe_and_fast(
    fast: bool, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_fast_bfloat16", lambda device: fast)
    found = resolve(Training(device="cpu"), model).precision
    assert found == ("bfloat16" if fast and model.low_precision else "float32")
    assert resolve(Training(device="cpu", precision="bfloat16"), model).precision == "bfloat16"


def test_automatic_choices_are_resolved_to_something_definite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    found = resolve(Training(), Model())
    assert found.device in ("cpu", "cuda")
    assert found.precision == "float32"
    assert found.threads == len(os.sched_getaffinity(0))
    assert found.processes == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^--device cuda: this machine has no usable CUDA device"):
        resolve(Training(device="cuda"), Model())
    with pytest.raises(InputError, match="begun on a GPU and this machine has none"):
        prepare(Resolved("cuda", "float32", 1, 1))


def test_preparing_sets_the_threads_of_the_run() -> None:
    before = torch.get_num_threads()
    try:
        assert prepare(Resolved("cpu", "float32", 2, 1)) == torch.device("cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_eager_step_hands_on_tensors() -> None:
    seen: list[tuple] = []
    step = runner(lambda *arguments: seen.append(arguments), torch.device("cpu"))
    assert isinstance(step, EagerStep)
    index = torch.arange(3)
    step(index, -(2**63), 2**40, {"beta": 0.1})
    given, key, now, hyper = seen[0]
    assert given is index
    assert key.item() == -(2**63)
    assert now.item() == 2**40
    assert key.dtype == now.dtype == torch.int64
    assert key.shape == now.shape == ()
    assert hyper["beta"].dtype == torch.float32
    assert hyper["beta"].item() == pytest.approx(0.1)
