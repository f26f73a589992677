"""Where a layer may take a faster path than torch's own operators: in plain eager training, and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch.autograd import forward_ad

_again: ContextVar[bool] = ContextVar("again", default=False)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Within it, layers compute as torch's own, so that a gradient through them can be differentiated again."""
    token = _again.set(True)
    try:
        yield
    finally:
        _again.reset(token)


def plain() -> bool:
    """Whether nobody compiles, traces, transforms or differentiates twice what is computed now."""
    return not (
        torch.compiler.is_compiling()
        or _again.get()
        or torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack() > 0  # fake tensors, counters of operations, tracers
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )
