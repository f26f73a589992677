"""CelebA, from a tiny set of the same layout."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaekit.data import celeba
from vaekit.data.sizing import Opening, Sizing
from vaekit.data.sources import load
from vaekit.data.splits import load_splits
from vaekit.errors import InputError

NAMES = ("5_o_Clock_Shadow", "Bald", "Smiling")
PARTS = [0, 0, 1, 2, 0, 2, 1, 0, 0, 0]
VALUES = np.random.default_rng(0).choice([-1, 1], (10, 3))


def pixels(number: int) -> np.ndarray:
    """218x178, a cross of known edges: the middle 148x148 is level 10 * number, all outside of it white."""
    image = np.full((218, 178, 3), 255, np.uint8)
    image[35:183, 15:163] = 10 * number
    return image


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "celeba"
    (folder / celeba.FOLDER).mkdir(parents=True)
    lines, parts = ["10", " ".join(NAMES) + " "], []
    for number in range(10):
        name = f"{number + 1:06}.jpg"
        Image.fromarray(pixels(number)).save(folder / celeba.FOLDER / name, quality=95, subsampling=0)
        lines.append(f"{name} " + " ".join(f"{value:2}" for value in VALUES[number]))
        parts.append(f"{name} {PARTS[number]}")
    (folder / celeba.ATTRIBUTES).write_text("\n".join(lines) + "\n")
    (folder / celeba.PARTITION).write_text("\n".join(parts) + "\n")
    return tmp_path


def test_partition_attributes_and_pixels_belong_together(made: Path) -> None:
    loaded = load("celeba", made)
    assert loaded.attribute_names == NAMES
    assert loaded.class_names == ()
    for part, images in enumerate((loaded.train, loaded.val, loaded.test)):
        assert images is not None
        numbers = [number for number in range(10) if PARTS[number] == part]
        assert images.shape == (3, 64, 64)
        assert images.labels is None
        assert images.attributes is not None
        assert images.attributes.dtype == torch.float32
        assert np.array_equal(images.attributes.numpy(), (VALUES[numbers] + 1) // 2)
        own = images.copied().pixels.float()
        # the crop is exact: not one white pixel of the frame is left, up to JPEG's ringing at the edge
        assert own.mean((1, 2, 3)).tolist() == pytest.approx([10 * number for number in numbers], abs=4)
        assert (own[:, 4:-4, 4:-4] - own[:, 32:33, 32:33]).abs().max() <= 4
    assert [name.rpartition("/")[2] for name in loaded.names] == [
        f"{number + 1:06}.jpg" for number in range(10) if PARTS[number] == 0
    ]


def test_the_archive_gives_the_same(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "zipped" / "celeba"
    other.mkdir(parents=True)
    for name in (celeba.ATTRIBUTES, celeba.PARTITION):
        (other / name).write_bytes((made / "celeba" / name).read_bytes())
    with zipfile.ZipFile(other / celeba.ARCHIVE, "w") as archive:
        for file in (made / "celeba" / celeba.FOLDER).iterdir():
            archive.write(file, f"{celeba.FOLDER}/{file.name}")
    one, two = load("celeba", made), load("celeba", other.parent)
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(one, part).unit(), getattr(two, part).unit())
        assert torch.equal(getattr(one, part).attributes, getattr(two, part).attributes)


def test_any_size(made: Path) -> None:
    assert load("celeba", made, Opening(Sizing(image_size=32))).train.shape == (3, 32, 32)
    grey = load("celeba", made, Opening(Sizing(image_size=16, colour="grey"))).train
    assert grey.shape == (1, 16, 16)


def test_splits_are_the_official_ones(made: Path) -> None:
    splits = load_splits("celeba", made)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [6, 2, 2]  # type: ignore[arg-type]
    assert splits.info.attribute_names == NAMES
    known = (VALUES[[n for n in range(10) if PARTS[n] == 0]] + 1) / 2
    assert splits.info.attribute_means == pytest.approx(known.mean(0).tolist())


def test_missing_files_are_one_sentence(made: Path, tmp_path: Path) -> None:
    for folder in (None, tmp_path / "cache"):
        with pytest.raises(InputError, match=r"^celeba: .* does not exist; get it from https://") as error:
            load("celeba", folder)
        assert "--data-dir" in str(error.value)
    for name in (celeba.ATTRIBUTES, celeba.PARTITION):
        content = (made / "celeba" / name).read_bytes()
        (made / "celeba" / name).unlink()
        with pytest.raises(InputError, match=f"{name} does not exist"):
            load("celeba", made)
        (made / "celeba" / name).write_bytes(content)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (celeba.ATTRIBUTES, lambda s: s.replace("000003.jpg ", "000003.jpg 1 "), "line 5 is not a file and 3 values"),
        (celeba.ATTRIBUTES, lambda s: s.replace("-1", "0", 1), "values -1 or 1"),
        (celeba.ATTRIBUTES, lambda s: s.replace("000003.jpg", "x.jpg"), "000003.jpg, which list_attr"),
        (celeba.PARTITION, lambda s: s.replace("000003.jpg", "x.jpg"), "000003.jpg, which list_eval"),
        (celeba.PARTITION, lambda s: s.replace("000003.jpg 1", "000003.jpg 3"), "line 3 is not a file and 0, 1 or 2"),
        (celeba.PARTITION, lambda s: s.replace(" 0", " 2"), "holds no training image"),
        (celeba.PARTITION, lambda s: "\udcff", "is not a text"),
    ],
)
def test_wrong_lists_are_one_sentence(made: Path, file: str, change: object, words: str) -> None:
    path = made / "celeba" / file
    path.write_text(change(path.read_text()), errors="surrogateescape")  # type: ignore[operator]
    with pytest.raises(InputError, match=words) as error:
        load("celeba", made)
    assert "\n" not in str(error.value)
