"""What a folder holds: natural order, links, what is no image, and a signature that notices changes."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from helpers_files import write_folder, write_tar
from vaekit.errors import InputError
from vaekit.files import decode
from vaekit.files.archives import list_images
from vaekit.files.decode import UnreadableError
from vaekit.files.listing import natural, shown


def names(path: Path, root: str = "") -> list[str]:
    with list_images(path, root) as listing:
        return [entry.name for entry in listing.entries]


def test_natural_order() -> None:
    ordered = ["a/x1.png", "a/x02.png", "a/x3.png", "a/x10.png", "b/1.png", "b10/1.png", "c9.png", "c10.png", "d.png"]
    mixed = random.Random(0).sample(ordered, len(ordered))
    assert sorted(mixed, key=natural) == ordered
    assert natural("x01.png") != natural("x1.png")  # equal numbers do not make names equal
    huge = ["9" * 5000 + ".png", "1" + "0" * 5000 + ".png"]
    assert sorted(huge, key=natural)  # numbers of any length


def test_a_folder_gives_images_in_order_and_leaves_out_the_rest_silently(tmp_path: Path) -> None:
    wanted = ["cat/2.JPG", "cat/10.jpeg", "dog/1.png", "dog/deep/er/3.webp", "ünïcödé/画像 1.gif", "top.bmp"]
    others = ["notes.txt", "Thumbs.db", ".hidden.png", ".git/a.png", "__MACOSX/cat/a.png", "cat/._2.jpg", "labels.json"]
    others += ["cat/.DS_Store", "no_ending", "png", "archive.zip"]
    write_folder(tmp_path, dict.fromkeys([*wanted, *others], b"x"))
    assert names(tmp_path) == sorted(wanted, key=natural)
    with list_images(tmp_path) as listing:
        assert listing.odd == []


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, {"odd.png/1.png": b"x", "2.png": b"x"})
    assert names(tmp_path) == ["2.png", "odd.png/1.png"]


def test_wrapping_folders_are_looked_through(tmp_path: Path) -> None:
    write_folder(tmp_path, {"photos/2020/b/1.png": b"x", "photos/2020/a.png": b"x", "README.txt": b"x"})
    assert names(tmp_path) == ["a.png", "b/1.png"]
    write_folder(tmp_path, {"top.png": b"x"})
    assert names(tmp_path) == ["photos/2020/a.png", "photos/2020/b/1.png", "top.png"]


def test_a_root_inside(tmp_path: Path) -> None:
    files = {"images/a/1.png": b"x", "images/b/1.png": b"x", "imagesque/c.png": b"x"}
    write_folder(tmp_path / "f", files)
    write_tar(tmp_path / "f.tar", files)
    for path in (tmp_path / "f", tmp_path / "f.tar"):
        assert names(path, "images") == ["a/1.png", "b/1.png"]
    with pytest.raises(InputError, match="holds no folder 'pictures'"):
        names(tmp_path / "f", "pictures")


def test_links_in_folders_are_followed_once(tmp_path: Path) -> None:
    write_folder(tmp_path, {"set/a/1.png": b"one", "elsewhere/2.png": b"two"})
    (tmp_path / "set/linked.png").symlink_to(tmp_path / "elsewhere/2.png")
    (tmp_path / "set/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/a/loop").symlink_to(tmp_path / "set")
    (tmp_path / "set/broken.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "set/pipe.png")
    with list_images(tmp_path / "set") as listing:
        assert [entry.name for entry in listing.entries] == ["a/1.png", "linked.png", "more/2.png"]
        assert [listing.read(entry) for entry in listing.entries] == [b"one", b"two", b"two"]
        assert [name for name, _ in listing.odd] == ["broken.png", "pipe.png"]
        assert "cannot be opened" in listing.odd[0][1]
        assert listing.odd[1][1] == "no regular file"


def test_files_that_vanish_or_are_giant_are_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, {"1.png": b"x", "2.png": b"long enough"})
    with list_images(tmp_path) as listing:
        first, second = listing.entries
        (tmp_path / "1.png").unlink()
        with pytest.raises(UnreadableError, match="cannot be opened: No such file"):
            listing.read(first)
        with pytest.raises(UnreadableError, match="MiB, which is more than"):
            listing.read(second._replace(size=decode.MOST_BYTES + 1))


def test_the_signature_notices_every_change_and_nothing_else(tmp_path: Path) -> None:
    def signature() -> str:
        with list_images(tmp_path) as listing:
            return listing.signature

    write_folder(tmp_path, {"a.png": b"one", "b/c.png": b"two"})
    seen = {signature()}
    write_folder(tmp_path, {"notes.txt": b"changes nothing"})
    assert signature() in seen
    file = tmp_path / "a.png"

    def same_size_and_time() -> None:
        about = file.stat()
        file.write_bytes(b"ONE")
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))

    changes = (
        lambda: file.write_bytes(b"longer"),
        lambda: os.utime(file, (1, 1)),
        same_size_and_time,
        lambda: file.rename(tmp_path / "d.png"),
        lambda: (tmp_path / "b/c.png").unlink(),
        lambda: (tmp_path / "e.png").write_bytes(b""),
    )
    for change in changes:
        change()
        assert signature() not in seen
        seen.add(signature())


@pytest.mark.parametrize("content", [b"", b"x", b"text " * 200, b"\x89PNG\r\n\x1a\n" + bytes(600)])
def test_what_is_no_archive_has_one_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "thing.dat"
    file.write_bytes(content)
    with pytest.raises(
        InputError, match=r"thing.dat' is no folder and no .tar, .* file, or is damaged; give one"
    ) as error:
        list_images(file)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="gone' does not exist; check the path"):
        list_images(tmp_path / "gone")


def test_names_in_sentences_stay_on_one_line() -> None:
    assert shown("plain é 画.jpg") == "plain é 画.jpg"
    assert shown("a\nb\x1b[31m\udcff.jpg") == "a\\nb\\x1b[31m\\udcff.jpg"
    assert len(shown("x" * 5000)) == 80
