"""How labels and attributes become codes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import cases
from vaekit.data.batches import Data
from vaekit.data.images import DataInfo, Images
from vaekit.errors import InputError
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.networks.conditioning import CONDITIONINGS, Attributes, Embedding, OneHot, Unconditional, hide
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.objectives.elbo import Elbo
from vaekit.training.step import TrainingStep

SHAPE = (1, 4, 4)
LABELS = torch.tensor([2, 0, 1, 2])
NAN = float("nan")


def of_classes(number: int) -> DataInfo:
    return DataInfo("own", SHAPE, tuple(map(str, range(number))))


@pytest.mark.parametrize("name", list(CONDITIONINGS))
@pytest.mark.parametrize("number", [1, 3, 300])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_codes_have_the_size_they_say(name: str, number: int, dropout: float) -> None:
    info = of_classes(number)
    if name == "attributes":
        info = DataInfo("own", SHAPE, (), attribute_names=("a",), attribute_means=(5.0,), attribute_scales=(2.0,))
    entry = CONDITIONINGS[name](**({} if name == "none" else {"label_dropout": dropout}))
    assert entry.lacks(info) is None
    module = entry.build(info)
    if module is None:
        assert entry.size(info) == 0
        return
    given = torch.arange(number) if name != "attributes" else torch.arange(float(number))[:, None]
    codes = module(given)
    assert codes.shape == (number, entry.size(info))
    assert codes.dtype == torch.float32
    assert len(codes.unique(dim=0)) == number  # every label its own code
    assert torch.equal(module(given.flip(0)), codes.flip(0))


def test_what_the_data_must_have() -> None:
    plain, labelled, described = (
        cases.info(SHAPE, labels=False),
        cases.info(SHAPE),
        cases.info(SHAPE, attributes=True),
    )
    both = DataInfo("own", SHAPE, ("a", "b"), attribute_names=("x",), attribute_means=(0.0,), attribute_scales=(1.0,))
    for entry in (OneHot(), Embedding()):
        assert [entry.lacks(info) for info in (plain, labelled, described, both)] == ["labels", None, "labels", None]
    assert [Attributes().lacks(info) for info in (plain, labelled, described)] == ["attributes", "attributes", None]
    with pytest.raises(InputError) as error:
        VAEConfig(conditioning=Attributes()).build(both)
    assert str(error.value) == (
        "--conditioning attributes: 'own' has labels too, and these come first; leave the labels out"
    )


def test_one_hot() -> None:
    module = OneHot().build(of_classes(3))
    assert torch.equal(module(LABELS), torch.nn.functional.one_hot(LABELS, 3).float())
    assert not module(torch.tensor([-1])).any()
    assert list(module.parameters()) == []
    assert list(module.state_dict()) == []


def test_embedding_learns_the_labels_it_sees() -> None:
    module = Embedding(embedding_dim=5).build(of_classes(4))
    module(LABELS).sum().backward()
    assert module.weight.grad.sum(1).tolist() == [5, 5, 10, 0]
    assert module.weight.abs().max() <= 0.05
    assert module.weight.std() > 0.01
    assert [name for name, _ in module.named_parameters()] == ["weight"]


def test_a_vector_is_learned_for_the_unknown_label() -> None:
    module = Embedding(embedding_dim=5, label_dropout=0.1).build(of_classes(4))
    labels = torch.tensor([2, -1, 0, -1])
    codes = module(labels)
    assert torch.equal(codes[[0, 2]], module.weight[[2, 0]])
    assert torch.equal(codes[[1, 3]], module.unknown.expand(2, 5))
    codes.sum().backward()
    assert module.unknown.grad.tolist() == [[2.0] * 5]
    assert module.weight.grad.sum(1).tolist() == [5, 0, 5, 0]


def test_a_frozen_embedding_is_no_parameter_and_its_unknown_vector_is() -> None:
    torch.manual_seed(0)
    free = Embedding().build(of_classes(4))
    torch.manual_seed(0)
    frozen = Embedding(freeze_embedding=True, label_dropout=0.1).build(of_classes(4))
    assert torch.equal(free.weight, frozen.weight)
    assert [name for name, _ in frozen.named_parameters()] == ["unknown"]
    assert list(frozen.state_dict()) == ["unknown", "weight"]
    assert torch.equal(frozen(LABELS), free(LABELS))


def test_attributes_are_standardized_and_unknown_ones_are_at_their_mean() -> None:
    info = cases.info(SHAPE, attributes=True)  # means 0.5 and -20, scales 0.5 and 3
    module = Attributes().build(info)
    found = module(torch.tensor([[1.0, -20.0], [0.0, -14.0], [NAN, -23.0], [NAN, NAN]]))
    assert found.tolist() == [[1, 0], [-1, 2], [0, -1], [0, 0]]
    assert list(module.parameters()) == []
    assert set(module.state_dict()) == {"means", "scales"}
    assert module.num_attributes == 2


def test_unconditional() -> None:
    assert Unconditional().build(of_classes(3)) is None


# ---- label dropout


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_conditions_are_hidden_as_often_as_asked_for(probability: float) -> None:
    count = 20_000
    noise = Noise.from_seed(0, count)
    labels = torch.arange(count) % 7
    hidden = hide(labels, probability, noise)
    gone = hidden == -1
    error = math.sqrt(probability * (1 - probability) / count)
    assert abs(gone.float().mean().item() - probability) < 4 * error
    assert torch.equal(hidden[~gone], labels[~gone])
    assert labels.min() == 0  # the batch itself is left alone
    attributes = torch.randn(count, 3)
    rows = hide(attributes, probability, noise)
    assert torch.equal(rows.isnan().all(1), gone)  # one draw an image, whatever its condition is
    assert torch.equal(rows[~gone], attributes[~gone])
    again = hide(labels, probability, Noise(torch.tensor(9), noise.index))
    assert not torch.equal(again, hidden)
    part = torch.arange(count).flip(0)[:50]
    assert torch.equal(hide(labels[part], probability, Noise(noise.key, part)), hidden[part])


@pytest.mark.parametrize("labelled", [0.05, 0.6])
def test_the_same_images_are_labelled_in_every_step(labelled: float) -> None:
    count = 20_000
    labels = torch.arange(count) % 7
    first, again = (hide(labels, 0.0, Noise.from_seed(seed, count), labelled) for seed in (0, 1))
    assert torch.equal(first, again)
    known = first >= 0
    assert abs(known.float().mean().item() - labelled) < 4 * math.sqrt(labelled * (1 - labelled) / count)
    assert torch.equal(first[known], labels[known])
    both = hide(labels, 0.5, Noise.from_seed(2, count), labelled) >= 0
    assert (both & ~known).sum() == 0  # dropout hides more, and tells of nothing that is not labelled
    assert abs(both.float().sum().item() / known.sum().item() - 0.5) < 0.1


def conditional(conditioning: Any) -> VAEModel:
    torch.manual_seed(0)
    info = cases.info(SHAPE, attributes=isinstance(conditioning, Attributes))
    return VAEConfig(latent_dim=2, network=MLP(hidden=(9,)), conditioning=conditioning).build(info)


def codes_of(model: VAEModel, count: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes that a draw hands to encoder and decoder, and those of what it was given."""
    seen: list[torch.Tensor] = []
    for part in (model.encoder, model.decoder):
        part.register_forward_pre_hook(lambda module, given: seen.append(given[1]))
    attributes = model.num_attributes is not None
    images = cases.random_images(SHAPE, count, attributes=attributes)
    condition = images.condition(torch.arange(count))
    batch = cases.plain_batch(images.unit())._replace(condition=condition)
    with torch.no_grad():
        model.draw(batch, (), Noise.from_seed(0, count))
        assert torch.equal(seen[0], seen[1])  # encoder and decoder agree on what is hidden
        return seen[0], model.code(condition)


@pytest.mark.parametrize("entry", [OneHot, Embedding, Attributes])
def test_training_hides_conditions_and_evaluation_does_not(entry: Any) -> None:
    model = conditional(entry(label_dropout=0.4))
    assert model.accepts_unknown
    seen, given = codes_of(model)
    changed = (seen != given).any(1).float().mean().item()
    assert abs(changed - (0.4 if entry is not Attributes else 0.4 * 0.8)) < 0.1
    assert torch.equal(*codes_of(model.eval()))


@pytest.mark.parametrize("entry", [OneHot, Embedding, Attributes])
def test_without_dropout_nothing_is_hidden(entry: Any) -> None:
    model = conditional(entry())
    assert not model.accepts_unknown
    assert torch.equal(*codes_of(model))


@pytest.mark.parametrize("entry", [OneHot, Embedding, Attributes])
def test_hiding_conditions_reads_no_value(entry: Any) -> None:
    """A step with label dropout on tensors that have no values, where reading one is an error."""
    with FakeTensorMode():
        step = TrainingStep(conditional(entry(label_dropout=0.4)), Elbo(), {}, Data(), 100)
        pixels = torch.empty(12, *SHAPE[1:], SHAPE[0], dtype=torch.uint8)
        told = (None, torch.empty(12, 2)) if entry is Attributes else (torch.empty(12, dtype=torch.int64), None)
        key, index = torch.empty((), dtype=torch.int64), torch.empty(6, dtype=torch.int64)
        step(Images(pixels, *told), index, key, key, {"beta": torch.empty(())}).losses["model"].backward()
        assert all(parameter.grad is not None for parameter in step.parameters())
