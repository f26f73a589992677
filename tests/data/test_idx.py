"""IDX files, whole and damaged in every way."""

from __future__ import annotations

import gzip
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from vaekit.data.idx import read_idx
from vaekit.errors import InputError


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


ARRAY = np.arange(2 * 3 * 4).reshape(2, 3, 4)
WHOLE = idx(ARRAY)


@pytest.mark.parametrize("array", [ARRAY, np.arange(5), np.arange(6).reshape(1, 2, 3, 1)], ids=["3", "1", "4"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reads_what_was_written(tmp_path: Path, array: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(idx(array)) if suffix else idx(array))
    found = read_idx(path)
    assert found.dtype == np.uint8
    assert np.array_equal(found, array)


DAMAGED = {
    "empty": b"",
    "three bytes": WHOLE[:3],
    "no sizes": WHOLE[:4],
    "half the sizes": WHOLE[:9],
    "one byte short of the sizes": WHOLE[:15],
    "sizes only": WHOLE[:16],
    "one value short": WHOLE[:-1],
    "one value long": WHOLE + b"\0",
    "wrong magic": b"\x89PNG" + WHOLE[4:],
    "floats": WHOLE[:2] + b"\x0d" + WHOLE[3:],
    "rank 0": WHOLE[:3] + b"\0" + WHOLE[4:],
    "rank 9": WHOLE[:3] + b"\x09" + WHOLE[4:],
    "a count too large": WHOLE[:4] + struct.pack(">I", 3) + WHOLE[8:],
    "a huge count": WHOLE[:4] + b"\xff" * 12 + WHOLE[16:],
    "little-endian": struct.pack("<HBB3I", 0, 8, 3, 2, 3, 4) + WHOLE[16:],
    "html": b"<!DOCTYPE html><html>404</html>",
}


@pytest.mark.parametrize("name", list(DAMAGED))
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_damaged_content_is_one_sentence(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(DAMAGED[name]) if suffix else DAMAGED[name])
    with pytest.raises(InputError) as error:
        read_idx(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cut", range(0, len(gzip.compress(WHOLE)), 3))
def test_truncated_gzip_is_one_sentence(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(WHOLE)[:cut])
    with pytest.raises(InputError, match=r"images.gz"):
        read_idx(path)


def test_damaged_gzip_is_one_sentence(tmp_path: Path) -> None:
    path, content = tmp_path / "images.gz", bytearray(gzip.compress(WHOLE))
    for place in range(len(content)):
        content[place] ^= 0x55
        path.write_bytes(content)
        with suppress(InputError):  # nothing else may come out; the header's time stamp does not matter
            assert np.array_equal(read_idx(path), ARRAY)
        content[place] ^= 0x55
    path.write_bytes(WHOLE)
    with pytest.raises(InputError, match="gzip data are damaged"):
        read_idx(path)


def test_missing_file_and_folder_are_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gz", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_idx(path)
