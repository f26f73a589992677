"""Paths between vectors, against what geometry says."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaekit.paths import lerp, slerp

T = torch.linspace(0, 1, 9)


def pairs(seed, size=7, count=20):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, size, generator=generator, dtype=torch.float64).unbind()


def test_arcs_between_unit_vectors_turn_evenly_on_the_sphere():
    start, end = (torch.nn.functional.normalize(side, dim=-1) for side in pairs(0))
    arc = slerp(start, end, T.double())
    assert torch.allclose(arc.norm(dim=-1), torch.ones(20, 9, dtype=torch.float64), atol=1e-12)
    turned = torch.arccos((arc[:, 1:] * arc[:, :-1]).sum(-1))  # the angle of each step
    whole = torch.arccos((start * end).sum(-1))
    assert torch.allclose(turned, (whole / 8)[:, None].expand(-1, 8), atol=1e-7)
    normal = start - (start * end).sum(-1, keepdim=True) * end  # the arc stays in the plane of its ends
    basis = torch.stack([end, torch.nn.functional.normalize(normal, dim=-1)], 1)
    inside = torch.einsum("nsd,nkd,nke->nse", arc, basis, basis)
    assert torch.allclose(inside, arc, atol=1e-12)


@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_an_arcs_length_goes_evenly_from_one_end_to_the_other(seed, factor):
    start, end = pairs(seed, size=5, count=4)
    end = end * factor
    lengths = slerp(start, end, T.double()).norm(dim=-1)
    wanted = lerp(start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True), T.double())[..., 0]
    assert torch.allclose(lengths, wanted, rtol=1e-6)


@pytest.mark.parametrize("path", [lerp, slerp])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_ends_are_exact(path, kind):
    start, end = (side.to(kind) for side in pairs(3))
    line = path(start, end, T.to(kind))
    assert torch.equal(line[:, 0], start)
    assert torch.equal(line[:, -1], end)


def test_where_no_arc_is_defined_the_line_is_straight_and_finite():
    vector = torch.tensor([1.0, 2.0, -2.0])
    tiny = torch.tensor([1e-6, 0.0, 0.0])
    ends = [(vector, vector), (vector, 3 * vector), (vector, -vector), (vector, 0 * vector), (0 * vector, vector)]
    ends += [(0 * vector, 0 * vector), (vector, vector + tiny)]
    start, end = (torch.stack(side) for side in zip(*ends, strict=True))
    assert torch.allclose(slerp(start, end, T), lerp(start, end, T), atol=1e-6)


def test_near_the_switch_the_arc_and_the_line_agree():
    for angle in (0.9e-4, 1.1e-4):
        end = torch.tensor([[math.cos(angle), math.sin(angle)]])
        start = torch.tensor([[1.0, 0.0]])
        assert torch.allclose(slerp(start, end, T), lerp(start, end, T), atol=1e-6)


def test_codes_of_many_latents_keep_their_length_on_an_arc_only():
    start, end = pairs(5, size=400, count=30)
    half = torch.tensor([0.5], dtype=torch.float64)
    assert abs(slerp(start, end, half).norm(dim=-1).mean() / 20 - 1) < 0.02
    assert abs(lerp(start, end, half).norm(dim=-1).mean() / 20 - math.sqrt(0.5)) < 0.02
