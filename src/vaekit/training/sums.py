"""What is added up over the steps of an epoch without waiting for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vaekit.training.checkpoints import Progress


class Sums:
    """Sums of logged means and of tallies since the last record, and the first step whose numbers were not finite.

    Args:
        device: where the steps run.
        shape: () of one training; (members,) of several that take their steps together.
    """

    def __init__(self, device: torch.device, shape: tuple[int, ...] = ()):
        self.names: list[str] = []
        self.total: Tensor | None = None
        self.tallies: dict[str, Tensor] = {}
        self.first_bad = torch.full(shape, -1, device=device)

    @classmethod
    def joined(cls, parts: Sequence[Sums]) -> Sums:
        """Those of trainings that stand at the same step, as one; see `hand_out`."""
        whole = cls(parts[0].first_bad.device, (len(parts),))
        whole.names = parts[0].names
        whole.first_bad = torch.stack([part.first_bad for part in parts])
        totals = [part.total for part in parts if part.total is not None]
        if len(totals) == len(parts):
            whole.total = torch.stack(totals)
            whole.tallies = {name: torch.stack([part.tallies[name] for part in parts]) for name in parts[0].tallies}
        return whole

    def hand_out(self, parts: Sequence[Sums]) -> None:
        """Make each part a row of these sums, in the same memory."""
        for row, part in enumerate(parts):
            part.names, part.first_bad = self.names, self.first_bad[row]
            part.total = None if self.total is None else self.total[row]
            part.tallies = {name: counts[row] for name, counts in self.tallies.items()}

    def stacked(self, logged: Mapping[str, Tensor]) -> Tensor:
        """The logged means of a step as one float32 tensor (*shape, names)."""
        self.names = self.names or list(logged)
        return torch.stack([logged[name].float() for name in self.names], -1)

    def add(self, logged: Tensor, tallies: Mapping[str, Tensor], step: Tensor) -> None:
        """Take in a step: means as `stacked` has them, counts (*shape, n) by name, and its number without axes."""
        values = logged.double()
        self.total = values if self.total is None else self.total.add_(values)
        for name, counts in tallies.items():
            if name in self.tallies:
                self.tallies[name].add_(counts)
            else:
                self.tallies[name] = counts.double()
        bad = (self.first_bad < 0) & ~torch.isfinite(values).all(-1)
        self.first_bad.copy_(torch.where(bad, step, self.first_bad))

    def means(self, count: int) -> dict[str, float]:
        """Means over `count` steps by name, of one training; waits for the device."""
        assert self.total is not None
        return dict(zip(self.names, (self.total / count).tolist(), strict=True))

    def clear(self) -> None:
        """Begin anew, in the same memory."""
        if self.total is not None:
            self.total.zero_()
        for counts in self.tallies.values():
            counts.zero_()

    def restore(self, progress: Progress) -> None:
        """Go on from the sums of a checkpoint."""
        if progress.sums:
            self.names = list(progress.sums)
            self.total = torch.stack([progress.sums[name] for name in self.names])
        self.tallies = dict(progress.tallies)

    def keep(self, progress: Progress) -> None:
        """Copy the sums into what a checkpoint holds."""
        known = self.total is not None and progress.summed
        progress.sums = (
            dict(zip(self.names, self.total.clone(), strict=True)) if known and self.total is not None else {}
        )
        progress.tallies = {name: counts.clone() for name, counts in self.tallies.items()}
