"""What belongs to weights but is no weight: made from training images for the very weights that are kept.

An optimal Gaussian's variance, and a batch normalization's running statistics, are averages over the steps before; averaged
weights never took these steps. So before weights are validated or kept, both are made anew: the statistics by batches, as
for weight averaging by Izmailov et al. 2018 (arXiv:1803.05407), the variance as the mean squared error in evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from vaekit.data.batches import Data
from vaekit.data.images import Images
from vaekit.models.table import Model
from vaekit.networks.normalization import BatchNorm
from vaekit.noise import Noise, seed_key
from vaekit.settings import Training
from vaekit.training.averaging import Average
from vaekit.training.processes import Processes
from vaekit.training.validation import at_once

# training images, a tenth of all between these: as many as validation takes, and its own error is larger than theirs
_LEAST, _MOST = 2000, 5000


class Settling:
    """The weights that would be kept now, with the statistics that belong to them. Training goes on as if never asked.

    Args:
        model: that is trained.
        average: its averaged weights, where they are kept in place of the last ones; normalization is made anew for them.
        data: makes batches.
        train: n training images; a tenth, but 2,000 to 5,000 where there are, always the same, are used.
        training: batch size and seed.
        processes: each takes its share.
        device: where to compute.
    """

    def __init__(
        self,
        model: Model,
        average: Average | None,
        data: Data,
        train: Images,
        training: Training,
        processes: Processes,
        device: torch.device,
    ):
        self.model, self.average, self.data, self.processes = model, average, data, processes
        self.size = training.batch_size
        self.norms = [module for module in model.modules() if average and isinstance(module, BatchNorm)]
        self.head = getattr(model, "likelihood", None)
        self.head = self.head if hasattr(self.head, "freeze") else None
        self.buffers = dict(model.named_buffers())
        self.settled: dict[str, Tensor] = {}
        if self.norms or self.head is not None:
            key = seed_key(training.seed, "settle")
            generator = torch.Generator().manual_seed(key & ((1 << 63) - 1))
            count = max(self.size, min(_MOST, max(_LEAST, len(train) // 10)))
            rows = torch.randperm(len(train), generator=generator)[:count]
            self.images, self.rows = train.copied(rows).to(device), rows.to(device)
            self.key = torch.tensor(key, device=device)

    @torch.no_grad()
    def renew(self) -> None:
        """Make the statistics for the present weights, or their average; on all processes together."""
        if not self.norms and self.head is None:
            return
        before = {name: buffer.clone() for name, buffer in self.buffers.items()}
        training = self.model.training
        with self.average.applied() if self.average else nullcontext():
            if self.norms:
                self._normalize()
            if self.head is not None:
                self._measure()
        self.model.train(training)
        self.settled = {name: buffer.clone() for name, buffer in self.buffers.items()}
        self._set(before)

    def _draw(self, part: Tensor) -> object:
        noise = Noise(self.key, self.rows[part])
        return self.model.draw(self.data.batch(self.images, part, noise), (), noise)

    def _normalize(self) -> None:
        """The mean, over full batches, of each batch's statistics, as in training."""
        self.model.train()
        usual = [norm.momentum for norm in self.norms]
        batches = torch.arange(len(self.rows), device=self.rows.device).split(self.size)
        for place, part in enumerate(part for part in batches if len(part) == self.size):
            for norm in self.norms:
                norm.momentum = 1.0 / (place + 1)
            self._draw(self.processes.share(part))
        for norm, momentum in zip(self.norms, usual, strict=True):
            norm.momentum = momentum

    def _measure(self) -> None:
        """The squared error of all the images, in evaluation."""
        assert self.head is not None
        self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.rows.device)
        mine = torch.arange(len(self.rows), device=self.rows.device).tensor_split(self.processes.count)
        for part in mine[self.processes.rank].split(at_once(self.images)):
            if len(part):
                sums += torch.stack([values.double().sum() for values in self.head.measured(self._draw(part))])
        self.head.freeze(*self.processes.sum(sums))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the weights that would be kept, with the statistics made last for them."""
        before = {name: self.buffers[name].clone() for name in self.settled}
        with self.average.applied() if self.average else nullcontext():
            self._set(self.settled)
            try:
                yield
            finally:
                self._set(before)

    @torch.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.buffers[name].copy_(value)

    def state(self) -> dict[str, Tensor]:
        """The model's state with the weights to keep and the statistics made last for them, not copied."""
        state = self.average.state() if self.average else self.model.state_dict()
        return {name: self.settled.get(name, value) for name, value in state.items()}
