"""Faces: split by person, without labels, verified."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaekit.data import faces
from vaekit.data.batches import Data
from vaekit.data.sources import load
from vaekit.data.splits import load_splits
from vaekit.errors import InputError


def make(folder: Path, people: int = 30) -> Path:
    """A small archive of the same layout: person number k has 1 + k % 4 pictures, all of grey level 8 k."""
    pictures = folder / "pictures"
    for person in range(people):
        where = pictures / f"Person_{person}"
        where.mkdir(parents=True)
        for index in range(1 + person % 4):
            Image.fromarray(np.full((64, 64, 3), 8 * person, np.uint8)).save(where / f"Person_{person}_{index:04}.jpg")
    path = folder / "faces" / faces.ARCHIVE
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for where in sorted(pictures.iterdir()):
            tar.add(where, where.name)
    return path


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(faces, "SHA256", hashlib.sha256(make(tmp_path).read_bytes()).hexdigest())
    return tmp_path


def test_groups_are_people_and_there_are_no_labels(made: Path) -> None:
    loaded = load("faces", made)
    assert loaded.train.labels is None
    assert loaded.class_names == ()
    assert loaded.grouped
    assert loaded.test is None
    assert loaded.groups is not None
    people = [name.partition("/")[0] for name in loaded.names]
    assert len(set(people)) == len(loaded.groups.unique()) == 30
    assert len(set(zip(people, loaded.groups.tolist(), strict=True))) == 30


def test_splits_cut_no_person_in_two(made: Path) -> None:
    def levels(splits: object, part: str) -> set[int]:
        return set(getattr(splits, part).copied().pixels[:, 0, 0, 0].tolist())

    splits = load_splits(Data(data="faces"), made)
    parts = [levels(splits, part) for part in ("train", "val", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == 30  # each person's own grey level is in one part only
    loose = load_splits(Data(data="faces", group_by="none"), made)
    parts = [levels(loose, part) for part in ("train", "val", "test")]
    assert sum(map(len, parts)) > 30


def test_missing_or_changed_files_are_one_sentence(made: Path, tmp_path: Path) -> None:
    for folder in (None, tmp_path / "cache"):
        with pytest.raises(InputError, match="cannot be downloaded; put the file there and give --data-dir DIR"):
            load("faces", folder)
    path = made / "faces" / faces.ARCHIVE
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"checksum .* is not the known"):
        load("faces", made)


@pytest.mark.slow
def test_the_real_faces(data_folder: Path) -> None:
    if not (data_folder / "faces" / faces.ARCHIVE).is_file():
        pytest.skip("no faces there")
    loaded = load("faces", data_folder)
    assert loaded.train.shape == (3, 64, 64)
    assert loaded.groups is not None
    sizes = loaded.groups.bincount()
    assert (len(loaded.train), len(sizes), int(sizes.max())) == (13_233, 5_749, 530)
