"""Paths through latent space, against what geometry and single calls say."""

import math

import numpy as np
import pytest
import torch

from vaekit.data.batches import Data
from vaekit.data.images import DataInfo, Images
from vaekit.errors import InputError
from vaekit.evaluation.likelihood import estimate
from vaekit.generation import (
    corners,
    decode,
    encode,
    interpolate,
    manifold,
    prior_spread,
    reconstruct,
    sample,
    transfer_style,
    traverse,
)
from vaekit.models.table import Model
from vaekit.models.vae import VAEConfig
from vaekit.networks.conditioning import OneHot, Unconditional
from vaekit.networks.mlp import MLP
from vaekit.paths import lerp, slerp
from vaekit.settings import configure, preset

INFO = DataInfo("own", (1, 8, 8), class_names=("a", "b", "c"))


def build(labels=False, latent_dim=3):
    torch.manual_seed(0)
    conditioning = OneHot() if labels else Unconditional()
    config = VAEConfig(latent_dim=latent_dim, network=MLP(hidden=(16,)), conditioning=conditioning)
    return config.build(INFO).eval()


@pytest.fixture(scope="module", params=[False, True])
def model(request):
    return build(labels=request.param)


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


LABELS = torch.tensor([0, 1, 1, 2])


def test_interpolations_are_decoded_paths(model, images):
    labels = LABELS if model.conditional else None
    first, last = (None, None) if labels is None else (labels[:2], labels[2:])
    ends = encode(model, images[:2], first), encode(model, images[2:], last)
    for how, path in (("linear", lerp), ("spherical", slerp)):
        found = interpolate(model, images[:2], images[2:], 5, first, last, how)
        rebuilt = reconstruct(model, images, labels)
        torch.testing.assert_close(found[:, 0], rebuilt[:2])
        torch.testing.assert_close(found[:, -1], rebuilt[2:])
        if labels is None:
            wanted = decode(model, path(*ends, torch.linspace(0, 1, 5))[1])
            torch.testing.assert_close(found[1], wanted)


def test_corners_of_a_square_are_reconstructions_and_its_middle_is_the_mean(model, images):
    labels = LABELS if model.conditional else None
    square = corners(model, images, 3, labels)
    rebuilt = reconstruct(model, images, labels)
    for place, (row, column) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        torch.testing.assert_close(square[row, column], rebuilt[place])
    code = model.code(labels)
    mean = encode(model, images, labels).mean(0, keepdim=True)
    middle = decode(model, mean, code=None if code is None else code.mean(0, keepdim=True))
    torch.testing.assert_close(square[1, 1], middle[0])
    edge = interpolate(
        model, images[:1], images[1:2], 3, *((None, None) if labels is None else (labels[:1], labels[1:2]))
    )
    torch.testing.assert_close(square[0], edge[0])


def test_a_traversal_changes_one_latent_and_leaves_the_others(model, images):
    labels = LABELS if model.conditional else None
    latents = encode(model, images, labels)
    before = latents.clone()
    values = torch.tensor([[-1.0, 0.5], [7.0, 8.0]])
    found = traverse(model, latents, torch.tensor([2, 0]), values, labels)
    assert torch.equal(latents, before)
    assert found.shape == (4, 2, 2, 1, 8, 8)
    for image in range(4):
        for row, number in enumerate((2, 0)):
            for column in range(2):
                moved = latents[image : image + 1].clone()
                moved[0, number] = values[row, column]
                wanted = decode(model, moved, None if labels is None else labels[image : image + 1])
                torch.testing.assert_close(found[image, row, column], wanted[0])
    shared = traverse(model, latents, torch.tensor([2, 0]), values[0], labels)
    torch.testing.assert_close(shared[:, 0], found[:, 0])


def test_style_transfer_decodes_one_code_under_every_label(images):
    model = build(labels=True)
    found = transfer_style(model, images, LABELS)
    assert found.shape == (4, 3, 1, 8, 8)
    rebuilt = reconstruct(model, images, LABELS)
    for image, label in enumerate(LABELS.tolist()):
        torch.testing.assert_close(found[image, label], rebuilt[image])
        other = decode(model, encode(model, images, LABELS)[image : image + 1], torch.tensor([2 - label]))
        torch.testing.assert_close(found[image, 2 - label], other[0])
    with pytest.raises(InputError, match="reads no labels"):
        transfer_style(build(), images, LABELS)


def test_the_spread_of_a_prior():
    centre, scale = prior_spread(build())
    assert centre.tolist() == [0.0] * 3
    assert scale.tolist() == [1.0] * 3

    class Shifted(Model):
        provides = frozenset({"vectors"})

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def sample_prior(self, count, condition, noise):
            return torch.tensor([5.0, -1.0]) + torch.tensor([0.1, 3.0]) * noise.normal("prior", (2,))

    centre, scale = prior_spread(Shifted())
    error = 5 / math.sqrt(4096)  # five standard errors
    np.testing.assert_allclose(centre, [5.0, -1.0], atol=3 * error)
    np.testing.assert_allclose(scale, [0.1, 3.0], rtol=error)
    with pytest.raises(InputError, match="no prior"):
        prior_spread(type("Bare", (Shifted,), {"sample_prior": Model.sample_prior})())


def test_a_manifold_runs_left_to_right_and_bottom_to_top(images):
    for label in (None, 2):
        model = build(label is not None, latent_dim=2)
        found = manifold(model, 3, label)
        low, high = (float(torch.special.ndtri(torch.tensor(share))) for share in (0.02, 0.98))
        labels = None if label is None else torch.tensor([label])
        for place, point in ((0, (low, high)), (2, (high, high)), (6, (low, low)), (5, (high, 0.0))):
            wanted = decode(model, torch.tensor([point]), labels)[0]
            torch.testing.assert_close(found[place], wanted, atol=1e-5, rtol=1e-4)
        if label is not None:
            torch.testing.assert_close(manifold(model, 3, torch.tensor(2)), found)


def test_temperatures_are_one_for_all_levels_or_one_for_each() -> None:
    model = preset("mlp").model.build(DataInfo("own", (1, 8, 8)))
    assert torch.equal(sample(model, 3, temperature=[0.5]), sample(model, 3, temperature=0.5))
    with pytest.raises(
        InputError, match=r"^--temperature 1,0\.5: 2 temperatures for a model of 1 level of latents; give a"
    ):
        sample(model, 3, temperature=[1, 0.5])


def test_a_model_whose_draws_do_not_differ_is_measured_with_one() -> None:
    model = configure("mlp", posterior="deterministic", objective="autoencoder").model.build(DataInfo("own", (1, 8, 8)))
    images = Images(torch.randint(0, 256, (5, 8, 8, 1), generator=torch.Generator().manual_seed(0)).to(torch.uint8))
    many, one = (estimate(model.eval(), Data(), images, count) for count in (50, 1))
    assert many.num_samples == 1
    assert torch.equal(many.distortion, one.distortion)
