"""How a step meets the machine: device, precision, threads, eager steps on a CPU and captured graphs on a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from vaekit.errors import InputError
from vaekit.memory import keep_pages
from vaekit.models.table import Model
from vaekit.native import library as native
from vaekit.runs import Resolved
from vaekit.settings import Training
from vaekit.training.processes import Processes

_EAGER_STEPS = 3


def resolve(training: Training, model: Model) -> Resolved:
    """Make the automatic choices, once for the run's life.

    Raises:
        InputError: when a device or a precision is asked for that this machine does not have.
    """
    device = training.device
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine has no usable CUDA device; choose cpu or auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = training.precision
    if precision == "auto":
        precision = "bfloat16" if model.low_precision and _fast_bfloat16(device) else "float32"
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes that share this machine
    threads = training.threads or max(1, usable_cores() // beside)
    kernels = _kernels(training.kernels, device)
    return Resolved(device, precision, threads, int(os.environ.get("WORLD_SIZE", "1")), kernels)


def _kernels(asked: str, device: str) -> str:
    """What computes the parts of a step for which there are kernels of this package's own."""
    if asked == "native":
        if device != "cpu":
            raise InputError("--kernels native: they compute on a CPU; add --device cpu or choose auto")
        if problem := native.problem():
            raise InputError(f"--kernels native: {problem}; choose auto")
    return "native" if asked != "torch" and device == "cpu" and native.available() else "torch"


def usable_cores() -> int:
    """CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _fast_bfloat16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def prepare(resolved: Resolved) -> torch.device:
    """Set this process up as the run was resolved; returns its device."""
    torch.set_num_threads(resolved.threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    if resolved.device == "cuda":
        if not torch.cuda.is_available():
            raise InputError("the run was begun on a GPU and this machine has none; resume it where there is one")
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        return device
    keep_pages()
    return torch.device("cpu")


def with_kernels(resolved: Resolved, processes: Processes) -> bool:
    """Whether a run's steps use the kernels: all of its processes or none, and not where they can no longer be had."""
    if resolved.kernels != "native":
        return False
    mine = native.available()
    return mine if processes.count == 1 else bool(processes.sum(torch.tensor(float(mine))) == processes.count)


def lost_kernels(resolved: Resolved) -> str | None:
    """A sentence for a run that goes on without the kernels that it began with."""
    problem = native.problem() if resolved.kernels == "native" else None
    if problem is None:
        return None
    return f"the run began with native kernels ({problem}); it goes on with torch's operators, so the last bits differ"


Key = int | Sequence[int]
Hyper = Mapping[str, float] | Mapping[str, Sequence[float]]


class EagerStep:
    """Calls `body(index, key, step, hyper)` as it is, with its arguments as tensors.

    Several trainings that take a step together give a list of keys, and of each number.
    """

    def __init__(self, body: Callable[..., None], device: torch.device):
        self.body, self.device = body, device

    def __call__(self, index: Tensor, key: Key, step: int, hyper: Hyper) -> None:
        self.body(
            index,
            torch.tensor(key, device=self.device),
            torch.tensor(step, device=self.device),
            {name: torch.tensor(value, device=self.device) for name, value in hyper.items()},
        )


class CapturedStep:
    """Records `body` as one CUDA graph and replays it: small models are bound by launches, and a graph has one.

    The first steps run eagerly on a side stream, as capturing asks for; they are real steps of the training. Everything
    that differs between steps sits in tensors that are filled in before each replay, with no wait for the device. The side
    stream is this step's own, and so is the capture on it: graphs captured on one stream share the working memory of their
    matrix products, and must neither run at once nor outlive one another (pytorch issue 193402).
    """

    def __init__(self, body: Callable[..., None], device: torch.device):
        self.body, self.device = body, device
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream()
        self.inputs: tuple[Tensor, Tensor, Tensor, dict[str, Tensor]] | None = None

    def __call__(self, index: Tensor, key: Key, step: int, hyper: Hyper) -> None:
        if self.inputs is None:
            keys, number = (torch.tensor(value, device=self.device) for value in (key, step))
            scalars = {name: torch.tensor(value, device=self.device) for name, value in hyper.items()}
            self.inputs = (torch.empty_like(index), keys, number, scalars)
        self.inputs[0].copy_(index, non_blocking=True)
        _put(self.inputs[1], key)
        self.inputs[2].fill_(step)
        for name, value in hyper.items():
            _put(self.inputs[3][name], value)
        self.calls += 1
        if self.calls <= _EAGER_STEPS:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.body(*self.inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.body(*self.inputs)
        self.graph.replay()


def _put(there: Tensor, value: float | Sequence[float]) -> None:
    """Fill a tensor on the device with a number, or with a list of them, without waiting."""
    if isinstance(value, Sequence):
        there.copy_(torch.tensor(value, dtype=there.dtype), non_blocking=True)
    else:
        there.fill_(value)


def runner(body: Callable[..., None], device: torch.device) -> EagerStep | CapturedStep:
    """The way to run a step on `device`; a step whose shapes change needs another, and what ran before has ended by then."""
    if device.type != "cuda":
        return EagerStep(body, device)
    torch.cuda.synchronize(device)
    return CapturedStep(body, device)
