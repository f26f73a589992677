"""Corruptions one after another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vaekit
from corruption_cases import noise, smooth
from vaekit.corruptions.blurs import Downsample, GaussianBlur
from vaekit.corruptions.chain import Chain, parse_chain, with_strength
from vaekit.corruptions.jpeg import Jpeg
from vaekit.corruptions.noises import GaussianNoise
from vaekit.corruptions.table import CORRUPTIONS, Clean
from vaekit.errors import InputError


def test_parts_follow_in_their_order() -> None:
    images = smooth((1, 20, 20), 3)
    found = Chain("gaussian-blur:2, downsample:2,jpeg:30")(images, noise(3))
    expected = GaussianBlur(2.0)(images, noise(3))
    expected = Jpeg(30)(Downsample(2.0)(expected, noise(3)), noise(3))
    assert torch.equal(found, expected)
    assert not torch.equal(found, Chain("jpeg:30,gaussian-blur:2,downsample:2")(images, noise(3)))
    assert Chain("downsample:2,downsample:2").shape((1, 20, 16)) == (1, 5, 4)


def test_a_part_alone_is_the_corruption_itself() -> None:
    images = smooth((3, 12, 12), 3)
    for name in CORRUPTIONS:
        if name != "chain":
            assert torch.equal(Chain(name)(images, noise(3)), CORRUPTIONS[name]()(images, noise(3)))


def test_two_noises_are_independent() -> None:
    images = torch.full((20, 1, 32, 32), 0.5)
    both = Chain("gaussian-noise:0.05,gaussian-noise:0.05")(images, noise(20)) - 0.5
    assert both.std().item() == pytest.approx(0.05 * np.sqrt(2), rel=0.03)
    first = GaussianNoise(0.05)(images, noise(20)) - 0.5
    assert np.corrcoef(first.flatten(), (both - first).flatten())[0, 1] == pytest.approx(0, abs=0.03)


def test_a_number_is_the_first_of_the_entry() -> None:
    assert parse_chain("gaussian-noise:0.3,jpeg:7,none") == (GaussianNoise(0.3), Jpeg(7), Clean())
    assert parse_chain("gaussian-noise") == (GaussianNoise(),)
    assert with_strength("gaussian-noise", 0.3) == GaussianNoise(0.3)


WRONG = {
    "gausian-noise:0.1": "--corruptions: 'gausian-noise' is unknown; did you mean 'gaussian-noise'?",
    "jpeg:many": "--corruptions jpeg: 'many' is not a whole number; give a whole number that is at least 1 and at most 100",
    "jpeg:0": "--corruptions jpeg: 0 is out of range; it must be at least 1 and at most 100",
    "jpeg:": "--corruptions jpeg: '' is not a whole number; give a whole number that is at least 1 and at most 100",
    "jpeg:3:4": "--corruptions jpeg: '3:4' is not a whole number; give a whole number that is at least 1 and at most 100",
    "none:1": "--corruptions: 'none' takes no number, but got '1'; write none alone",
    "jpeg,,blur": "--corruptions: 'jpeg,,blur' lacks a name; write it as gaussian-blur:1.5,gaussian-noise:0.1",
    "": "--corruptions: '' lacks a name; write it as gaussian-blur:1.5,gaussian-noise:0.1",
    "chain": "--corruptions: 'chain' cannot be part of a chain; write out its parts instead",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_texts_are_refused_before_training(text: str) -> None:
    with pytest.raises(InputError) as error:
        vaekit.configure("mlp", corruption="chain", corruptions=text)
    assert str(error.value) == WRONG[text]
