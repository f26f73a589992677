"""The kernel's random words are those of the operators, to the bit."""

from __future__ import annotations

import pytest
import torch

from vaekit.native import library, words
from vaekit.noise import Noise, seed_key

pytestmark = pytest.mark.usefixtures("kernels_here")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("first", [0, 1000])
@pytest.mark.parametrize("samples", [(), (3,), (2, 4)], ids=str)
@pytest.mark.parametrize("event", [(1,), (7,), (3, 61, 53)], ids=str)
def test_the_same_noise(
    event: tuple[int, ...], samples: tuple[int, ...], first: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(threads)
    calls: list[int] = []
    call = words.random_words
    monkeypatch.setattr("vaekit.noise.random_words", lambda *args: calls.append(1) or call(*args))
    index = torch.tensor([5, 0, 2**40, -3, 7, 9, 11, 13])[::2]  # strides that are not 1
    for seed in (0, 2**62):
        noise = Noise(torch.tensor(seed_key(seed, "train", 8)), index, first)
        wanted = noise.normal("posterior", event, samples), noise.uniform("blur", event, samples)
        with library.using(True):
            found = noise.normal("posterior", event, samples), noise.uniform("blur", event, samples)
        for one, other in zip(found, wanted, strict=True):
            assert torch.equal(one, other)
    assert len(calls) == 8
    with library.using(True):
        assert call(noise.index, noise.key, 3, 0, samples, 4) is not None
    assert call(noise.index, noise.key, 3, 0, samples, 4) is None


def test_no_images_and_stacked_keys() -> None:
    keys, index = torch.tensor([1, 2]), torch.arange(3)
    with library.using(True):
        nothing = Noise(torch.tensor(1), torch.zeros(0, dtype=torch.int64))
        assert nothing.normal("posterior", (3,), (2,)).shape == (2, 0, 3)
        stacked = torch.func.vmap(lambda key: Noise(key, index).normal("posterior", (5,)))(keys)
    for key, one in zip(keys, stacked, strict=True):
        assert torch.equal(one, Noise(key, index).normal("posterior", (5,)))
