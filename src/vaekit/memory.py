"""Memory: an allocator that keeps its pages, and files that are mapped.

A training step frees and takes the same large buffers again and again; glibc gives each one back to the system, and every
page is then faulted in and zeroed anew. How much keeping them is worth depends on the machine: 1.2x to 1.7x was seen.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_MADV_WILLNEED = 3
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_pages() -> bool:
    """Tell glibc to keep freed memory in the process; returns whether it could."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = [(_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20)]
    return [mallopt(option, value) for option, value in settings] == [1] * len(settings)


def physical_memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def fetch_ahead(tensor: Tensor) -> bool:
    """Ask the system to read the file that a tensor is mapped from, without waiting; returns whether it was asked."""
    if platform.system() != "Linux":
        return False
    page = os.sysconf("SC_PAGE_SIZE")
    start = tensor.data_ptr() // page * page
    length = tensor.data_ptr() + tensor.numel() * tensor.element_size() - start
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return bool(advise(start, length, _MADV_WILLNEED) == 0)
