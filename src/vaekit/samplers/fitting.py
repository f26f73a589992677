"""Densities fitted by gradient steps, stopped where held-out codes become less likely."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vaekit.noise import Noise, seed_key

_SMALLEST_BATCH, _LARGEST_BATCH, _STEPS = 16, 256, 16  # codes a step, and steps a pass where there are few codes
_LEARNING_RATE = 1e-3

Loss = Callable[[Tensor, Noise], Tensor]  # codes (n, latent) and what is random to nats (n,)


EPOCHS_HELP = "most passes over the codes; fewer where held-out codes say so"
PATIENCE_HELP = "passes without a better density of held-out codes after which it stops"


def held_out(codes: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Nine tenths of the codes, and the others, at random by the seed."""
    generator = torch.Generator().manual_seed(seed_key(seed, "held-out codes") & ((1 << 63) - 1))
    order = torch.randperm(len(codes), generator=generator).to(codes.device)
    count = max(1, len(codes) // 10)
    return codes[order[count:]], codes[order[:count]]


def fit_by_gradient(module: nn.Module, loss: Loss, codes: Tensor, epochs: int, patience: int, seed: int) -> None:
    """Train `module`, which `loss` reads, with Adam, and leave it with the weights of the best pass.

    Args:
        module: on the device of the codes.
        loss: what is minimized, the mean over codes.
        codes: float32 (n, latent); a tenth decides when to stop.
        epochs: most passes over the others.
        patience: passes without a better loss of the held-out codes before it stops.
        seed: of the order and the noise.
    """
    kept, apart = held_out(codes, seed)
    optimizer = torch.optim.Adam(module.parameters(), _LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed_key(seed, "order of codes") & ((1 << 63) - 1))
    fixed = Noise.from_seed(seed, len(apart), "held-out noise", device=codes.device)
    best, best_state, since, step = float("inf"), _copy(module), 0, 0
    batch_size = min(max(len(kept) // _STEPS, _SMALLEST_BATCH), _LARGEST_BATCH)
    for _ in range(epochs):
        for index in torch.randperm(len(kept), generator=generator).to(codes.device).split(batch_size):
            noise = Noise(torch.tensor(seed_key(seed, "fit", step), device=codes.device), index)
            optimizer.zero_grad()
            loss(kept[index], noise).mean().backward()
            nn.utils.clip_grad_norm_(module.parameters(), 10.0)
            optimizer.step()
            step += 1
        with torch.no_grad():
            now = float(loss(apart, fixed).mean())
        since += 1
        if now < best:
            best, best_state, since = now, _copy(module), 0
        if since >= patience:
            break
    module.load_state_dict(best_state)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
