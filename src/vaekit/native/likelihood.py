"""Log-probability of Bernoulli pixels on logits, and its gradient, by the kernels: each in one pass over the logits.

benchmarks/kernels.py times it against torch's binary cross-entropy.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from vaekit.native import library
from vaekit.native.eager import plain

__all__ = ["bernoulli_log_prob"]

_NUMBERS = 2**13  # below, the call takes longer than what it saves


class _Bernoulli(ctypes.Structure):
    """As in bernoulli.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("logits", "target", "upstream", "log_prob", "gradient")),
        *((name, ctypes.c_int64) for name in ("rows", "images", "pixels")),
        ("parts", ctypes.c_int),
        ("next", ctypes.c_int),
    )


def bernoulli_log_prob(logits: Tensor, target: Tensor) -> Tensor | None:
    """Nats (*samples, images) of pixels given their logits, or None where the kernel does not serve.

    To rounding, the sum over an image of target * logit - log(1 + exp(logit)).

    Args:
        logits: (*samples, images, channels, height, width), float32, contiguous, with a gradient.
        target: (images, channels, height, width), float32 from 0 to 1.
    """
    if library.in_use() is None or not logits.requires_grad or logits.numel() < _NUMBERS:
        return None
    fits = all(type(x) is Tensor and x.dtype == torch.float32 and x.device.type == "cpu" for x in (logits, target))
    if not fits or target.requires_grad or not logits.is_contiguous():
        return None
    if target.dim() != 4 or logits.dim() < 4 or logits.shape[-4:] != target.shape:
        return None
    return _LogProb.apply(logits, target.contiguous())


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(logits, target)
        log_prob = torch.empty(logits.shape[:-3], dtype=torch.float32, device="cpu")
        _call(logits, target, log_prob=log_prob)
        return log_prob

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        logits, target = ctx.saved_tensors
        again = torch.is_grad_enabled()  # it will be differentiated once more
        if again or not plain() or torch._C._functorch.is_legacy_batchedtensor(upstream):
            return upstream[..., None, None, None] * (target - logits.sigmoid()), None
        gradient = torch.empty_like(logits)
        _call(logits, target, upstream=upstream.contiguous(), gradient=gradient)
        return gradient, None


def _call(logits: Tensor, target: Tensor, **more: Tensor) -> None:
    what = _Bernoulli(logits=logits.data_ptr(), target=target.data_ptr())
    for name, tensor in more.items():
        setattr(what, name, tensor.data_ptr())
    what.images, what.pixels = target.shape[0], target[0].numel()
    what.rows = logits.numel() // what.pixels
    what.parts = min(torch.get_num_threads(), max(1, logits.numel() // 2**14))
    library.load().bernoulli(ctypes.byref(what), library.parallel())
