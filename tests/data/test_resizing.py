"""Arrays and named sets brought to a size or a number of channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers_files import noise
from vaekit.data.batches import Data
from vaekit.data.images import pack
from vaekit.data.loaded import Loaded
from vaekit.data.resizing import resized
from vaekit.data.sizing import Opening, Sizing
from vaekit.data.sources import load
from vaekit.data.splits import load_splits
from vaekit.errors import InputError

COLOURED = np.stack([noise(20, 30, seed=n) for n in range(5)])
LABELS = np.array([2, 0, 1, 1, 0])


def loaded(array: np.ndarray = COLOURED) -> Loaded:
    return Loaded(
        pack(array, LABELS, "x"), pack(array[:2], LABELS[:2], "x"), ("a", "b", "c"), fingerprint=7, binary=False
    )


def test_nothing_asked_or_nothing_to_do_changes_nothing() -> None:
    one = loaded()
    assert resized(one, Sizing()) is one
    assert resized(one, Sizing(colour="rgb")) is one
    assert resized(loaded(COLOURED[:, :, :20]), Sizing(image_size=20)).fingerprint == 7


def test_sizes_are_those_that_pillow_makes() -> None:
    found = resized(loaded(), Sizing(image_size=12))
    boxes = {"crop": (5, 0, 25, 20), "stretch": (0, 0, 30, 20)}
    for resize, box in boxes.items():
        found = resized(loaded(), Sizing(image_size=12, resize=resize))  # type: ignore[arg-type]
        expected = [Image.fromarray(image).resize((12, 12), Image.Resampling.LANCZOS, box=box) for image in COLOURED]
        assert np.array_equal(found.train.pixels, np.stack(expected)), resize
        assert np.array_equal(found.test.pixels, np.stack(expected[:2]))
    assert found.train.labels.tolist() == LABELS.tolist()
    assert found.class_names == ("a", "b", "c")
    padded = resized(loaded(), Sizing(image_size=30, resize="pad")).train.pixels
    assert np.array_equal(padded[:, 5:25], COLOURED)
    assert not padded[:, :5].any()


def test_floats_stay_floats_between_0_and_1() -> None:
    tame = 64 + COLOURED // 2  # of extreme values whole numbers are cut between the two passes
    found = resized(loaded(tame.astype(np.float32) / 255), Sizing(image_size=12)).train.pixels
    whole = resized(loaded(tame), Sizing(image_size=12)).train.pixels
    extreme = resized(loaded(COLOURED.astype(np.float32) / 255), Sizing(image_size=12)).train.pixels
    assert found.dtype == extreme.dtype == torch.float32
    assert 0 <= float(extreme.min()) <= float(extreme.max()) <= 1
    assert float((found * 255 - whole).abs().max()) < 2.0  # whole numbers are rounded twice


def test_colours() -> None:
    luma = COLOURED @ np.array([0.299, 0.587, 0.114])
    grey = resized(loaded(), Sizing(colour="grey")).train.pixels
    assert np.abs(grey[..., 0].numpy() - luma).max() <= 0.51
    back = resized(loaded(grey.numpy()), Sizing(colour="rgb")).train.pixels
    assert torch.equal(back, grey.expand(-1, -1, -1, 3))
    floats = resized(loaded(COLOURED.astype(np.float32) / 255), Sizing(colour="grey")).train.pixels
    assert np.abs(floats[..., 0].numpy() - luma / 255).max() < 1e-6
    two = np.repeat(COLOURED[..., :1], 2, axis=3)
    with pytest.raises(InputError, match="images of 2 channels have no colours; leave it out"):
        resized(loaded(two), Sizing(colour="rgb"))
    assert resized(loaded(two), Sizing(image_size=8)).train.shape == (2, 8, 8)


def test_what_stands_for_the_pixels_changes_with_them() -> None:
    prints = {resized(loaded(), Sizing(image_size=size)).fingerprint for size in (8, 9)}
    assert len(prints | {7}) == 3
    black = Loaded(pack(np.where(COLOURED > 99, 255, 0).astype(np.uint8), None, "x"), None, binary=True)
    assert resized(black, Sizing(image_size=9)).binary is None  # no longer known
    assert resized(loaded(), Sizing(image_size=9)).binary is False


def test_named_sets_and_arrays_are_resized_on_loading(tmp_path: Path) -> None:
    splits = load_splits(Data(data="digits", sizing=Sizing(image_size=16, colour="rgb")), None)
    assert splits.info.shape == (3, 16, 16)
    np.save(tmp_path / "x.npy", COLOURED)
    assert load(str(tmp_path / "x.npy"), None, Opening(Sizing(image_size=10))).train.shape == (3, 10, 10)
