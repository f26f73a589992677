"""Generated dSprites against the authors' own animation, and against the definition of its factors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from vaekit.data import dsprites
from vaekit.data.dsprites import NUM_IMAGES, SIZES, factors, render, sprites

ANIMATION = Path(os.environ.get("VAEKIT_DATA", "")) / "dsprites" / "dsprites.gif"


def test_numbers_follow_the_published_order() -> None:
    strides = (245760, 40960, 1024, 32, 1)
    index = np.array([0, 1, 32, 1024, 40960, 245760, NUM_IMAGES - 1, 400_123])
    found = factors(index)
    np.testing.assert_array_equal(found @ np.array(strides), index)
    assert tuple(found[-2] + 1) == SIZES


@pytest.mark.parametrize("shape", range(3))
def test_areas_are_those_of_the_shapes(shape: int) -> None:
    polygon = dsprites._heart()
    t = np.arange(128) * (2 * np.pi / 128)
    x = 9.6 * np.sin(t) ** 3
    y = 19.2 / 29 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) + 1.44
    heart = 0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    area = (19.2**2, np.pi * 12.77 * 7.21, heart)[shape]
    for scale, size in ((0, 0.5), (5, 1.0)):
        white = (sprites(shape, scale, 7) > 0).sum((2, 3))
        assert white.mean() == pytest.approx(area * size**2, rel=0.02)
    assert (np.diff(polygon.angles) > 0).all()


def test_a_heart_is_its_polygon() -> None:
    from matplotlib.path import Path as Polygon

    t = np.linspace(0, 2 * np.pi, 129)
    y = -(19.2 / 29 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) + 1.44)
    points = np.random.default_rng(0).uniform(-12, 12, (20_000, 2))
    expected = Polygon(np.stack([9.6 * np.sin(t) ** 3, y], 1)).contains_points(points)
    np.testing.assert_array_equal(dsprites._heart().holds(*points.T), expected)


def test_a_position_moves_and_a_full_turn_returns() -> None:
    images = sprites(2, 3, 5)
    rows, columns = np.nonzero(images[4, 20])
    assert np.array([columns.mean(), rows.mean()]) == pytest.approx(
        [16 + 32 * 4 / 31 - 0.5, 16 + 32 * 20 / 31 - 0.5], abs=1.5
    )
    np.testing.assert_array_equal(sprites(1, 2, 0), sprites(1, 2, 39))
    chosen = np.array([[2, 3, 5, 4, 20], [0, 0, 0, 0, 0], [2, 3, 5, 31, 0]])
    np.testing.assert_array_equal(render(chosen)[[0, 2]], images[[4, 31], [20, 0]])


def test_the_set_is_drawn_once_and_mapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With one orientation in place of forty, and three positions."""
    import vaekit

    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(dsprites, "POSITIONS", dsprites.POSITIONS[[0, 15, 31]])
    monkeypatch.setattr(dsprites, "ORIENTATIONS", dsprites.ORIENTATIONS[:2])
    sizes = (3, 6, 2, 3, 3)
    for name, value in (("SIZES", sizes), ("NUM_IMAGES", 324), ("_TOGETHER", 9)):
        monkeypatch.setattr(dsprites, name, value)
    found = vaekit.inspect("dsprites")
    assert found is not None
    from vaekit.data.batches import Data
    from vaekit.data.splits import load_splits

    splits = load_splits(Data(data="dsprites", train_limit=100), None)
    drawn = (tmp_path / "dsprites" / "images-1.u8").stat().st_mtime_ns
    assert splits.info.binary
    assert splits.info.shape == (1, 64, 64)
    assert splits.info.class_names == ("square", "ellipse", "heart")
    assert splits.info.attribute_names == ("scale", "orientation", "x", "y")
    assert len(splits.train) == 100
    assert splits.train.labels is not None
    assert set(splits.train.labels.tolist()) == {0, 1, 2}  # any of them, not the first
    expected = render(factors(splits.train.rows.numpy()))  # type: ignore[union-attr]
    np.testing.assert_array_equal(splits.train.copied().pixels[..., 0].numpy(), expected)
    load_splits("dsprites", None)
    assert (tmp_path / "dsprites" / "images-1.u8").stat().st_mtime_ns == drawn


@pytest.mark.slow
@pytest.mark.skipif(not ANIMATION.is_file(), reason="the animation is not here")
def test_the_authors_frames_come_out() -> None:
    with Image.open(ANIMATION) as film:
        frames = [np.asarray(frame.convert("L")) > 127 for frame in ImageSequence.Iterator(film)]
    wanted = {frame.tobytes() for frame in frames}
    assert len(frames) == 320
    groups = np.ndindex(*SIZES[:3])
    made: set[bytes] = set()
    for group in groups:
        images = sprites(*group).reshape(-1, 64, 64) > 0
        made |= {image.tobytes() for image in images} & wanted
    exact = sum(frame.tobytes() in made for frame in frames)
    assert exact >= 300
