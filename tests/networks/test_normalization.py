"""Normalization of feature maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vaekit.networks import normalization
from vaekit.networks.normalization import BatchNorm, normalized


def test_batch_statistics_are_those_of_the_batch_and_then_the_running_ones() -> None:
    (layer,) = normalized("batch", 3)
    maps = 2.0 + 3.0 * torch.randn(16, 3, 4, 5)
    mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), unbiased=False)
    expected = (maps - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    torch.testing.assert_close(layer(maps), expected)
    torch.testing.assert_close(layer.running_mean, 0.1 * mean)
    layer.eval()
    torch.testing.assert_close(layer(maps[:1]), layer(maps)[:1])


@pytest.mark.parametrize("channels", [1, 5, 16, 34, 64])
def test_groups_of_an_image_have_mean_0_and_variance_1(channels: int) -> None:
    (layer,) = normalized("group", channels)
    maps = 2.0 + 3.0 * torch.randn(4, channels, 6, 5)
    found = layer(maps).view(4, layer.num_groups, -1)
    assert channels // layer.num_groups >= min(16, channels)
    torch.testing.assert_close(found.mean(-1), torch.zeros(found.shape[:2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.var(-1, unbiased=False), torch.ones(found.shape[:2]), atol=1e-4, rtol=0)
    torch.testing.assert_close(layer(maps[2:3]), layer(maps)[2:3])


def test_none_is_no_layer() -> None:
    assert normalized("none", 4) == []


def test_one_value_a_channel_trains_by_running_statistics() -> None:
    layer = BatchNorm(3)
    one = torch.randn(1, 3, 1, 1, requires_grad=True)
    torch.testing.assert_close(layer(one), one / (1 + 1e-5) ** 0.5)
    assert not layer.running_mean.any()
    layer(one).sum().backward()
    assert one.grad is not None


class Together:
    """Stands for a process that is one of two, of which the other has `other` to add: (values) -> values, in turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, other: Any):
        monkeypatch.setattr(normalization.dist, "is_initialized", lambda: True)
        monkeypatch.setattr(normalization.dist, "get_world_size", lambda: 2)
        monkeypatch.setattr(normalization.dist, "all_reduce", lambda values: values.add_(next(other)))


def test_two_processes_have_the_statistics_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process' sums are worked out here from the other half; gradients are tested in a real group."""
    whole = 2.0 + 3.0 * torch.randn(8, 3, 4, 5)
    alone, shared = BatchNorm(3), BatchNorm(3)
    expected = alone(whole)
    mean = whole.mean((0, 2, 3))
    half = whole[4:]
    Together(monkeypatch, iter([half.mean((0, 2, 3)), (half - mean[:, None, None]).square().mean((0, 2, 3))]))
    torch.testing.assert_close(shared(whole[:4]), expected[:4])
    torch.testing.assert_close(shared.running_mean, alone.running_mean)
    torch.testing.assert_close(shared.running_var, alone.running_var)
    assert shared.num_batches_tracked == 1
