"""The IDX format of MNIST and its relatives (Y. LeCun, C. Cortes): big-endian, gzipped or plain."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from vaekit.errors import InputError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> np.ndarray:
    """The array of unsigned bytes in an IDX file.

    Raises:
        InputError: when the file is truncated, is not gzip, has another magic number, or holds more or less than it says.
    """
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path}: the gzip data are damaged or cut short; get the file again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check that it is there and readable") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTE or not 1 <= data[3] <= 4:
        raise InputError(f"{path}: starts with {data[:4].hex()} and so is not an IDX file of bytes; get the file again")
    rank = data[3]
    start = 4 + 4 * rank
    if len(data) < start:
        raise InputError(f"{path}: ends within its header, after {len(data)} bytes; get it again")
    shape = struct.unpack(f">{rank}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise InputError(f"{path}: says it holds {shape} values but holds {len(data) - start}; get it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
