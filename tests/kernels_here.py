"""Whether the kernels can be tested on this machine."""

from __future__ import annotations

import pytest

from vaekit.native import library


def need_kernels() -> None:
    """Skips the test where they cannot be had."""
    if not library.available():
        pytest.skip("needs a C compiler, and a processor with AVX512-BF16")
