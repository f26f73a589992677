"""Priors over codes: probabilities that add up, and samples that follow them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from vaekit.code_priors.table import CODE_PRIORS, CodePrior, Grid
from vaekit.code_priors.transformer import Transformer, TransformerPrior, choose
from vaekit.code_priors.uniform import Uniform
from vaekit.errors import InputError

TINY = Grid(positions=2, books=2, num_codes=3)


def prior(name: str, grid: Grid = TINY, condition: int = 0, seed: int = 0) -> CodePrior:
    """Far from uniform, where it has weights."""
    torch.manual_seed(seed)
    entry = TransformerPrior(width=8, layers=2, heads=2) if name == "transformer" else CODE_PRIORS[name]()
    made = entry.build(grid, condition)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
    return made.eval()


def every_grid(grid: Grid = TINY) -> Tensor:
    length = grid.positions * grid.books
    codes = torch.tensor(list(itertools.product(range(grid.num_codes), repeat=length)))
    return codes.view(-1, grid.positions, grid.books)


@pytest.mark.parametrize("name", list(CODE_PRIORS))
@pytest.mark.parametrize("condition", [0, 2])
def test_probabilities_of_all_grids_add_up_to_one(name: str, condition: int) -> None:
    made, grids = prior(name, condition=condition), every_grid()
    code = torch.randn(condition).expand(len(grids), condition) if condition else None
    log_p = made.log_prob(grids, code).double()
    assert log_p.shape == (81,)
    assert log_p.logsumexp(0).item() == pytest.approx(0.0, abs=1e-5)
    assert (log_p.std() > 0.1) == (name != "uniform")


def test_the_uniform_prior_costs_the_logarithm_of_the_book_at_each_place() -> None:
    found = Uniform().build(Grid(49, 3, 256), 0).log_prob(torch.zeros(2, 49, 3, dtype=torch.int64), None)
    assert found.tolist() == pytest.approx([-49 * 3 * math.log(256)] * 2)


@pytest.mark.parametrize("name", list(CODE_PRIORS))
def test_samples_occur_as_often_as_log_prob_says(name: str) -> None:
    made, grids = prior(name), every_grid()
    count = 20_000
    uniform = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = made.sample(uniform, None).flatten(1)
    number = (drawn * torch.tensor([27, 9, 3, 1])).sum(1)
    shares = torch.bincount(number, minlength=81) / count
    p = made.log_prob(grids, None).exp().detach()
    assert (shares - p).abs().max() < 5 * 0.5 / math.sqrt(count)  # five standard deviations of the most uncertain share
    assert 0.5 * (shares - p).abs().sum() < 0.03


@torch.no_grad()
def test_logits_with_kept_keys_and_values_are_those_of_the_whole() -> None:
    made = prior("transformer", Grid(4, 2, 5), condition=3)
    assert isinstance(made, Transformer)
    grids = torch.randint(5, (6, 4, 2), generator=torch.Generator().manual_seed(0))
    code = torch.randn(6, 3)
    whole, flat, past = made.logits(grids, code).flatten(1, 2), grids.flatten(1), made._empty(6)
    for place in range(8):
        before = made._embedded(flat[:, place - 1 : place], place - 1) if place else made.start.expand(6, 1, -1)
        found = made._next(made._told(before + made.places[place], code), past, place)
        torch.testing.assert_close(found, whole[:, place])


def test_a_code_is_told_of_those_before_it_alone() -> None:
    made, grids = prior("transformer", Grid(3, 2, 5)), torch.zeros(1, 3, 2, dtype=torch.int64)
    plain = made.logits(grids, None).flatten(1, 2)
    for place in range(6):
        other = grids.clone().flatten(1)
        other[0, place] = 4
        differs = (made.logits(other.view(1, 3, 2), None).flatten(1, 2) != plain).any(-1)[0]
        assert differs.tolist() == [later > place for later in range(6)]


def test_the_first_samples_of_any_number_are_the_same() -> None:
    made = prior("transformer", Grid(4, 2, 5), condition=3)
    uniform = torch.rand(130, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    code = torch.randn(130, 3)
    many = made.sample(uniform, code, 0.9)
    for count in (1, 5, 64, 65):
        assert torch.equal(made.sample(uniform[:count], code[:count], 0.9), many[:count])


def test_temperature_makes_codes_more_typical() -> None:
    made = prior("transformer")
    uniform = torch.rand(500, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    usual, cool, cold = (made.log_prob(made.sample(uniform, None, t), None).mean() for t in (1.0, 0.5, 0.0))
    assert usual < cool < cold
    assert len(made.sample(uniform, None, 0.0).unique(dim=0)) == 1


def test_guidance_moves_logits_from_those_of_no_condition() -> None:
    made = prior("transformer", Grid(1, 1, 4), condition=2)
    code, free = torch.tensor([[1.0, 0.0]]).expand(20_000, 2), torch.zeros(20_000, 2)
    uniform = torch.rand(20_000, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nothing = torch.zeros(1, 1, 1, dtype=torch.int64)
    given, without = (made.logits(nothing, each[:1])[0, 0, 0].detach() for each in (code, free))
    drawn = made.sample(uniform, code, 1.0, free, 3.0)
    expected = (without + 3.0 * (given - without)).softmax(0)
    torch.testing.assert_close(torch.bincount(drawn.flatten(), minlength=4) / 20_000, expected, rtol=0, atol=0.02)


def test_choices_follow_the_distribution_function() -> None:
    logits = torch.tensor([[0.5, 0.0, 0.25, 0.25]]).log().expand(6, 4)
    at = torch.tensor([0.0, 0.49, 0.51, 0.74, 0.76, 1 - 2**-32], dtype=torch.float64)
    assert choose(logits, at, 1.0).tolist() == [0, 0, 2, 2, 3, 3]


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"^--heads: 3 does not divide --width 8; "):
        TransformerPrior(width=8, heads=3).build(TINY, 0)
