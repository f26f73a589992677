"""Which ReLU units are 0 for every image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vaekit.data.batches import Batch
from vaekit.noise import Noise, seed_key

_RELU = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)


@dataclass(frozen=True)
class Layer:
    """A ReLU layer.

    Attributes:
        name: the module that applied it.
        units: its channels, or dense units.
        dead: how many of them were 0 for every image, at every place.
    """

    name: str
    units: int
    dead: int

    @property
    def share(self) -> float:
        """Dead units of all."""
        return self.dead / self.units


class _Watch(TorchDispatchMode):
    """Sees every ReLU, however it was called: as a module, a function, or within a convolution of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = [""]
        self.layers: list[Layer] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in _RELU and isinstance(result, Tensor) and result.dim() > 1:
            others = [axis for axis in range(result.dim()) if axis != 1]
            dead = (result.detach() > 0).sum(others) == 0
            self.layers.append(Layer(self.inside[-1], len(dead), int(dead.sum())))
        return result


@contextmanager
def _names(model: nn.Module, inside: list[str]) -> Iterator[None]:
    """Within it, `inside` ends with the name of the module that is at work."""

    def enter(name: str) -> Callable[..., None]:
        return lambda module, given: inside.append(name)

    def leave(module: nn.Module, given: Any, result: Any) -> None:
        inside.pop()

    hooks = []
    for name, module in model.named_modules():
        hooks += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def watched(model: Any, batch: Batch) -> list[Layer]:
    """The ReLU layers that a draw of `batch` passes through, in order."""
    watch = _Watch()
    with _names(model, watch.inside), watch:
        model.draw(batch, (), Noise(torch.tensor(seed_key(1, "doctor")), batch.index))
    return watch.layers
