"""The folder in which vaekit keeps what it can make again: packed images, compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "VAEKIT_CACHE"


def cache_folder() -> Path:
    """The variable ``VAEKIT_CACHE``, else the user's cache folder for vaekit."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser()
    import pooch  # imported late: it takes a while

    return Path(pooch.os_cache("vaekit"))
