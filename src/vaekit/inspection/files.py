"""What the files of a folder or an archive say of themselves: sizes, formats and modes, read from their headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vaekit.files.archives import list_images
from vaekit.files.decode import UnreadableError, header
from vaekit.files.listing import shown

EXTREME_ASPECT = 3.0  # longer side over shorter
_MOST = 1000  # files named


def survey(path: Path, progress: Callable[[float], None] = lambda fraction: None) -> dict[str, Any]:
    """Counts of sizes, formats and modes, and the files that are odd by their headers.

    Returns:
        ``num_files``; ``sizes`` as [width, height, number], most frequent first; ``formats`` and ``modes`` by name;
        ``skipped`` and ``extreme``: lists of file and reason, or file, width and height.

    Raises:
        InputError: when the folder or archive cannot be read.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    formats: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    extreme = []
    with list_images(path) as listing:
        skipped = [{"file": shown(name), "reason": reason} for name, reason in listing.contents.odd]
        for number, entry in enumerate(listing.contents.entries, 1):
            try:
                found = header(listing.read(entry))
            except UnreadableError as problem:
                skipped.append({"file": shown(entry.name), "reason": str(problem)})
                continue
            finally:
                progress(number / len(listing.contents.entries))
            sizes[found.width, found.height] += 1
            formats[found.format] += 1
            modes[found.mode] += 1
            if max(found.width, found.height) > EXTREME_ASPECT * min(found.width, found.height):
                extreme.append({"file": shown(entry.name), "width": found.width, "height": found.height})
    return {
        "num_files": sizes.total() + len(skipped),
        "sizes": [[width, height, count] for (width, height), count in sizes.most_common()],
        "formats": dict(formats.most_common()),
        "modes": dict(modes.most_common()),
        "num_skipped": len(skipped),
        "skipped": skipped[:_MOST],
        "num_extreme": len(extreme),
        "extreme": extreme[:_MOST],
    }
