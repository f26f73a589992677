"""How labels become codes."""

from __future__ import annotations

import pytest
import torch

from vaekit.networks.conditioning import CONDITIONINGS, Embedding, OneHot, Unconditional

LABELS = torch.tensor([2, 0, 1, 2])


@pytest.mark.parametrize("name", list(CONDITIONINGS))
@pytest.mark.parametrize("num_classes", [1, 3, 300])
def test_codes_have_the_size_they_say(name: str, num_classes: int) -> None:
    entry = CONDITIONINGS[name]()
    module = entry.build(num_classes)
    if module is None:
        assert entry.size(num_classes) == 0
        return
    codes = module(torch.arange(num_classes))
    assert codes.shape == (num_classes, entry.size(num_classes))
    assert codes.dtype == torch.float32
    assert len(codes.unique(dim=0)) == num_classes  # every label its own code
    assert torch.equal(module(torch.arange(num_classes).flip(0)), codes.flip(0))


def test_one_hot() -> None:
    module = OneHot().build(3)
    assert torch.equal(module(LABELS), torch.nn.functional.one_hot(LABELS, 3).float())
    assert list(module.parameters()) == []
    assert list(module.state_dict()) == []


def test_embedding_learns_the_labels_it_sees() -> None:
    module = Embedding(embedding_dim=5).build(4)
    module(LABELS).sum().backward()
    assert module.weight.grad.sum(1).tolist() == [5, 5, 10, 0]
    assert module.weight.abs().max() <= 0.05
    assert module.weight.std() > 0.01


def test_unconditional() -> None:
    assert Unconditional().build(3) is None
