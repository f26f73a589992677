"""Quantizers that learn no codes: finite scalar and lookup-free quantization, and the contract of all."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from vaekit.errors import InputError
from vaekit.quantizers.fsq import Fsq
from vaekit.quantizers.lfq import Lfq
from vaekit.quantizers.table import QUANTIZERS


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_codes_stand_for_the_vectors_that_forward_gave(name: str) -> None:
    entry = QUANTIZERS[name]()
    torch.manual_seed(0)
    made = entry.build()
    assert (made.code_dim, made.num_codes, made.num_books) == (entry.code_dim, entry.num_codes, entry.num_books)
    given = torch.randn(5, 4, made.code_dim)
    found = made(given)
    assert found.indices.shape == (5, 4, made.num_books)
    assert found.indices.dtype == torch.int64
    assert 0 <= found.indices.min() <= found.indices.max() < made.num_codes
    torch.testing.assert_close(made.lookup(found.indices), found.vectors, rtol=0, atol=1e-7)
    assert made.codebooks.shape == (made.num_books, made.num_codes, made.code_dim)


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_books_are_where_the_quantizer_is(name: str) -> None:
    assert QUANTIZERS[name]().build().to("meta").codebooks.device.type == "meta"


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_images_one_by_one_get_the_same_terms(name: str) -> None:
    torch.manual_seed(0)
    made = QUANTIZERS[name]().build().eval()
    given = torch.randn(5, 4, made.code_dim)
    found = made(given)
    for place in range(5):
        alone = made(given[place : place + 1])
        assert torch.equal(alone.indices, found.indices[place : place + 1])
        assert torch.equal(alone.vectors, found.vectors[place : place + 1])
        assert alone.penalties.keys() == found.penalties.keys()
        for term, value in found.penalties.items():
            torch.testing.assert_close(alone.penalties[term], value[place : place + 1])


@pytest.mark.parametrize("levels", [(3,), (8, 6, 5), (2, 2, 3)])
def test_scalar_levels_are_all_combinations(levels: tuple[int, ...]) -> None:
    made = Fsq(scalar_levels=levels).build()
    codes = made.codebooks[0]
    assert len(codes.unique(dim=0)) == made.num_codes == math.prod(levels)
    assert [len(column.unique()) for column in codes.T] == list(levels)
    far = made(torch.tensor([[[-9.0] * len(levels), [9.0] * len(levels)]])).vectors[0]
    assert torch.equal(far[0], codes.min(0).values)
    assert torch.equal(far[1], codes.max(0).values)


def test_too_many_combinations_are_refused() -> None:
    with pytest.raises(InputError, match=r"^--scalar-levels 256,257: make 65,792 codes, more than 65,536; "):
        Fsq(scalar_levels=(256, 257)).build()


def test_signs_are_the_codes() -> None:
    made = Lfq(bits=3).build()
    assert sorted(map(tuple, made.codebooks[0].tolist())) == sorted(itertools.product((-1.0, 1.0), repeat=3))
    given = torch.randn(2, 5, 3)
    assert torch.equal(made(given).vectors, torch.where(given > 0, 1.0, -1.0))


def test_the_entropy_is_that_of_its_definition() -> None:
    made = Lfq(bits=2, entropy_weight=0.3, entropy_temperature=0.7).build()
    given = torch.randn(3, 5, 2)
    codes = made.codebooks[0]
    rows = [
        [math.exp(-float((vector - code).square().sum()) / 0.7) for code in codes] for vector in given.flatten(0, 1)
    ]
    shares = torch.tensor([[value / sum(row) for value in row] for row in rows], dtype=torch.float64)
    sure = torch.special.entr(shares).sum(1).view(3, 5).sum(1)
    spread = torch.special.entr(shares.mean(0)).sum()
    expected = 0.3 * (sure - 5 * spread)
    torch.testing.assert_close(made.train()(given).penalties["entropy"].double(), expected, rtol=1e-5, atol=1e-6)
    assert "entropy" not in made.eval()(given).penalties
