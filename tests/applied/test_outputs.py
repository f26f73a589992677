"""Folders of outputs: names kept, none that leads out."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaekit.applied.outputs import OutputFolder, exact_names
from vaekit.errors import InputError


def test_names_never_meet() -> None:
    names = ["a.jpg", "a.png", "b.jpg", "b.webp", "c/b.jpg", "d.e/f"]
    found = exact_names(names)
    assert found == ["a.jpg.png", "a.png", "b.jpg.png", "b.webp.png", "c/b.png", "d.e/f.png"]
    with pytest.raises(InputError, match=r"2 images would be written as 'a\.jpg\.png'"):
        exact_names(["a.jpg", "a.png", "a.jpg.png"])


@pytest.mark.parametrize(
    "name", ["../x.png", "/x.png", "a/../../x.png", "", "a//x.png", "..", "link/x.png", "a\\..\\x.png"]
)
def test_names_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    with pytest.raises(InputError, match="leads out of it"):
        OutputFolder(inside).write(name, b"")
    assert [path.name for path in tmp_path.rglob("*")].count("x.png") == 0


def test_originals_are_safe(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for out in (images, images / "restored", tmp_path):
        with pytest.raises(InputError, match="lie in each other"):
            OutputFolder(out, apart_from=images)
    folder = OutputFolder(tmp_path / "new", apart_from=images)
    assert not folder.path.exists()
    folder.write("a/b.txt", "c")
    assert (tmp_path / "new" / "a" / "b.txt").read_text() == "c"
