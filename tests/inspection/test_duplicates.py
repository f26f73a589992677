"""Near-duplicates: planted ones are found, chance ones are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from helpers_files import as_jpeg, photographs
from vaekit.inspection import duplicates
from vaekit.inspection.duplicates import (
    LEAST_DETAIL,
    describe,
    detail_correlation,
    intrinsic_dimension,
    near_duplicates,
)


def through_half_size(image: Tensor) -> Tensor:
    small = torch.nn.functional.avg_pool2d(image[None], 2)
    return torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")[0]


CHANGES = {
    "JPEG": lambda image: as_jpeg(image, 60),
    "darker": lambda image: 0.7 * image,
    "less contrast": lambda image: 0.3 + 0.5 * image,
    "without colour": lambda image: image.mean(0, keepdim=True).expand(3, -1, -1),
    "noise": lambda image: (image + 0.03 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clip(
        0, 1
    ),
    "through half the size": through_half_size,
    "a mark": lambda image: torch.cat([image[:, :-3], torch.cat([image[:, -3:, :-4], torch.ones(3, 3, 4)], 2)], 1),
}


@pytest.mark.parametrize("side", [8, 16, 28, 64])
def test_description_is_the_low_part_of_the_cosine_transform(side: int) -> None:
    images = photographs(5, side)
    grey = images.mean(1).double()
    if side % 16 == 0:  # the thumbnail is a mean of whole blocks, written without the library's pooling
        thumbs = grey.reshape(5, 16, side // 16, 16, side // 16).mean((2, 4)).numpy()
    else:
        edges = [(math.floor(i * side / 16), math.ceil((i + 1) * side / 16)) for i in range(16)]
        thumbs = np.array([[[g[a:b, c:d].mean().item() for c, d in edges] for a, b in edges] for g in grey])
    low = dctn(thumbs, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(5, 64)[:, 1:]
    expected = low / np.linalg.norm(low, axis=1, keepdims=True)
    np.testing.assert_allclose(describe(images).numpy(), expected, atol=1e-5)


def test_description_does_not_know_brightness_and_contrast() -> None:
    images = photographs(20)
    torch.testing.assert_close(describe(0.2 + 0.5 * images), describe(images), atol=1e-5, rtol=0)


def test_even_images_are_left_out() -> None:
    even = torch.full((40, 1, 20, 20), 0.4) + torch.linspace(0, 0.002, 20)
    assert describe(even).count_nonzero() == 0
    features = describe(torch.cat([even, photographs(100, 20).mean(1, keepdim=True)]))
    assert len(near_duplicates(features).pairs) == 0


def test_planted_copies_are_found_and_nothing_else() -> None:
    images = photographs(1500)
    copies = torch.stack([change(images[row]) for row, change in enumerate(CHANGES.values())])
    found = near_duplicates(describe(torch.cat([images, copies])))
    assert sorted(found.pairs.tolist()) == [[row, 1500 + row] for row in range(len(CHANGES))]
    assert found.distances.tolist() == sorted(found.distances.tolist())
    assert (found.ratios <= found.threshold).all()
    everything = torch.cat([images, copies])
    detail = detail_correlation(everything[found.pairs[:, 0]], everything[found.pairs[:, 1]])
    assert (detail >= LEAST_DETAIL).all()


def test_a_set_where_every_image_has_a_copy() -> None:
    images = photographs(100)
    copies = torch.stack([as_jpeg(image, 80) for image in images])
    found = near_duplicates(describe(torch.cat([images, copies])))
    assert sorted(found.pairs.tolist()) == [[row, 100 + row] for row in range(100)]


def test_detail_tells_other_images_apart() -> None:
    images = photographs(200)
    assert detail_correlation(images, images).min() > 0.999
    assert detail_correlation(images[:100], images[100:]).abs().max() < LEAST_DETAIL


@pytest.mark.parametrize("dimension", [3, 8, 20])
def test_chance_makes_about_one_pair_at_most(dimension: int) -> None:
    """Points of a Gaussian in so many dimensions: what is expected of each set is at most one pair."""
    total = 0
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        flat = torch.randn(3000, dimension, generator=generator)
        basis = torch.linalg.qr(torch.randn(63, dimension + 1, generator=generator)).Q
        points = torch.cat([0.3 * flat / dimension**0.5, torch.ones(3000, 1)], 1) @ basis.T
        features = points / points.norm(dim=1, keepdim=True)
        assert intrinsic_dimension(features) == pytest.approx(dimension, rel=0.3)
        total += len(near_duplicates(features).pairs)
    assert total <= 11  # a Poisson count of mean 5 exceeds it in one of 200 cases


def test_neighbours_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_ROWS", 7)
    monkeypatch.setattr(duplicates, "_COLUMNS", 11)
    features = describe(photographs(60))
    nearest, cosines = duplicates._nearest(features, lambda fraction: None)
    all_of_them = features.double().numpy() @ features.double().numpy().T
    np.fill_diagonal(all_of_them, -2)
    assert nearest.tolist() == all_of_them.argmax(1).tolist()
    np.testing.assert_allclose(cosines.numpy(), all_of_them.max(1), atol=1e-5)


def test_large_sets_are_divided_and_copies_still_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photographs(2000)
    copies = torch.stack([as_jpeg(image, 70) for image in images[:40]])
    features = describe(torch.cat([images, copies]))
    monkeypatch.setattr(duplicates, "BUCKET", 500)
    done: list[float] = []
    found = near_duplicates(features, done.append).pairs.tolist()
    assert all(second == first + 2000 for first, second in found)
    assert len(found) >= 36  # a few may fall to both sides of a border
    assert done == sorted(done)
    assert done[-1] <= 1.0


def test_too_few_images_have_no_near_duplicates() -> None:
    for count in (1, 2, 10, 11):
        assert len(near_duplicates(describe(photographs(count))).pairs) == 0
    assert len(near_duplicates(torch.zeros(0, 63)).pairs) == 0


def test_all_the_same_is_no_error() -> None:
    found = near_duplicates(describe(photographs(1).expand(50, -1, -1, -1)))
    assert math.isfinite(found.threshold)
