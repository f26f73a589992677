"""Learned codebooks: the moving averages by hand, dead codes, and the definition of the commitment."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaekit.quantizers.codebooks import DEAD, Codebooks, Ema, ResidualEma, nearest
from vaekit.quantizers.table import Quantized

CODES, DIM, DECAY = 5, 3, 0.9


def vectors(batch: int = 4, positions: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(batch, positions, DIM, generator=torch.Generator().manual_seed(seed))


def book(reset: bool = False, books: int = 1) -> Codebooks:
    """Codes at given places, after the steps in which books begin."""
    torch.manual_seed(0)
    made = Codebooks(DIM, CODES, books, DECAY, 0.25, reset)
    made.steps.fill_(10)
    for number in range(books):
        place(made, torch.randn(CODES, DIM) / (number + 1), number)
    return made


def place(made: Codebooks, codes: Tensor, number: int = 0) -> None:
    averages = made.books[number]._codebook
    averages.embed.copy_(codes[None])
    averages.embed_avg.copy_(codes[None] * 4.0)
    averages.cluster_size.fill_(4.0)


def step(made: Codebooks, given: Tensor) -> Quantized:
    found = made(given)
    made.after_step(found, lambda tensor: tensor)
    return found


def test_the_nearest_code_is_that_of_a_search_over_all() -> None:
    made, given = book(), vectors()
    distances = (given[:, :, None] - made.codebooks[0]).square().sum(-1)
    assert torch.equal(nearest(given, made.codebooks[0]), distances.argmin(-1))


def test_codes_move_as_the_moving_averages_say() -> None:
    """van den Oord et al. 2017, appendix A.1, vector by vector."""
    made, given = book(), vectors()
    before, sizes = made.codebooks[0].clone(), torch.full((CODES,), 4.0)
    indices = step(made, given).indices.flatten()
    counts, sums = torch.zeros(CODES), torch.zeros(CODES, DIM)
    for index, vector in zip(indices.tolist(), given.flatten(0, 1), strict=True):
        counts[index] += 1
        sums[index] += vector
    sizes = DECAY * sizes + (1 - DECAY) * counts
    moments = DECAY * 4.0 * before + (1 - DECAY) * sums
    smoothed = (sizes + 1e-5) / (sizes.sum() + CODES * 1e-5) * sizes.sum()
    torch.testing.assert_close(made.codebooks[0], moments / smoothed[:, None])
    assert int(made.steps) == 11


def test_the_commitment_is_that_of_its_equation() -> None:
    made, given = book(), vectors().requires_grad_()
    found = made(given)
    expected = torch.zeros(len(given))
    for image in range(len(given)):
        for position in range(given.shape[1]):
            code = made.codebooks[0][found.indices[image, position, 0]]
            expected[image] += 0.25 * (given[image, position] - code).square().sum()
    torch.testing.assert_close(found.penalties["commitment"], expected)
    (gradient,) = torch.autograd.grad(found.penalties["commitment"].sum(), given)
    torch.testing.assert_close(gradient, 0.5 * (given - made.lookup(found.indices)))  # nothing flows through the code


def test_gradients_pass_straight_through() -> None:
    given = vectors().requires_grad_()
    weights = torch.randn_like(given)
    found = book(books=2)(given)
    (gradient,) = torch.autograd.grad((found.vectors * weights).sum(), given)
    assert torch.equal(gradient, weights)


@pytest.mark.parametrize("books", [1, 3])
def test_forward_changes_nothing_and_values_are_those_of_the_codes(books: int) -> None:
    made, given = book(books=books), vectors()
    made.train()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    state = torch.get_rng_state()
    found = made(given)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert torch.equal(made.lookup(found.indices), found.vectors)
    by_sum = sum(made.codebooks[number][found.indices[..., number]] for number in range(books))
    torch.testing.assert_close(found.vectors, by_sum)


def test_each_book_quantizes_what_is_left_over() -> None:
    made, given = book(books=3), vectors()
    found, rest = made(given), given
    for number in range(3):
        assert torch.equal(found.indices[..., number], nearest(rest, made.codebooks[number]))
        rest = rest - made.codebooks[number][found.indices[..., number]]
    torch.testing.assert_close(given - found.vectors, rest)


@pytest.mark.parametrize("reset", [True, False])
def test_dead_codes_come_back_with_the_reset_alone(reset: bool) -> None:
    made = book(reset)
    codes = made.codebooks[0].clone()
    codes[2:] = 100.0  # where no vector comes
    place(made, codes)
    for number in range(60):
        step(made, vectors(seed=number))
    used = made(vectors(batch=200, seed=99)).indices.unique()
    assert len(used) == (CODES if reset else 2)


def test_a_code_dies_below_its_share_and_begins_as_a_vector_of_the_batch() -> None:
    made, given = book(True), vectors()
    sizes = made.books[0]._codebook.cluster_size
    share = given.shape[0] * given.shape[1] / CODES
    codes = made.codebooks[0].clone()
    codes[0], codes[1] = 100.0, 101.0
    place(made, codes)
    sizes[0, 0], sizes[0, 1] = DEAD * share / DECAY * 0.99, DEAD * share / DECAY * 1.01
    step(made, given)
    assert (given.flatten(0, 1) == made.codebooks[0][0]).all(1).any()
    assert sizes[0, 0] == pytest.approx(share)
    torch.testing.assert_close(made.books[0]._codebook.embed_avg[0, 0], made.codebooks[0][0] * share)
    assert made.codebooks[0][1].min() > 90


def test_books_begin_as_vectors_of_the_first_batches_no_two_the_same() -> None:
    torch.manual_seed(0)
    made = Codebooks(DIM, CODES, 2)
    for number in range(2):
        found = step(made, vectors(seed=number))
        rows = found.inputs[..., number, :].flatten(0, 1)
        assert all((rows == code).all(1).any() for code in made.codebooks[number])
        assert len(made.codebooks[number].unique(dim=0)) == CODES


def test_any_number_of_processes_moves_codes_alike() -> None:
    """Two halves of a batch, joined by `gather`, are the whole: to the bit."""
    whole, half = book(True), book(True)
    given = vectors()
    for _ in range(3):
        step(whole, given)
        parts = [half(part) for part in given.chunk(2)]
        joined = {
            id(parts[0].inputs): torch.cat([part.inputs for part in parts]),
            id(parts[0].indices): torch.cat([part.indices for part in parts]),
        }
        half.after_step(parts[0], lambda tensor, joined=joined: joined[id(tensor)])
    for name, value in whole.state_dict().items():
        assert torch.equal(half.state_dict()[name], value), name


@pytest.mark.parametrize("entry", [Ema(num_codes=7, code_dim=2), ResidualEma(num_codes=7, code_dim=2, num_codebooks=3)])
def test_entries_size_what_they_build(entry: Ema | ResidualEma) -> None:
    made = entry.build()
    assert made.codebooks.shape == (entry.num_books, 7, 2)
    assert (made.num_books, made.num_codes, made.code_dim) == (entry.num_books, entry.num_codes, entry.code_dim)
