"""The explorer's page: HTML, styles and modules of JavaScript, as browsers read them."""

from __future__ import annotations

from importlib.resources import files

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


def page_files() -> dict[str, bytes]:
    """Contents of the page's files, by name.

    >>> "index.html" in page_files()
    True
    """
    found = files(__name__).iterdir()
    return {each.name: each.read_bytes() for each in found if each.name[each.name.rfind(".") :] in KINDS}
