"""Archives: the same images as the unpacked folder, and names in them that are not trusted."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from helpers_files import special_tar, write_folder, write_tar, write_zip
from vaekit.errors import InputError
from vaekit.files import archives
from vaekit.files.archives import list_images
from vaekit.files.decode import UnreadableError

FILES = {f"set/{kind}/{n}.png": f"{kind} {n}".encode() * 50 for kind in ("cat", "dog") for n in (1, 2, 10)}
FILES |= {"set/README.txt": b"hello", "__MACOSX/set/cat/._1.png": b"fork"}
OPENED = {name.removeprefix("set/"): FILES[name] for name in FILES if name.startswith("set/") and "README" not in name}


def contents(path: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    with list_images(path) as listing:
        return {entry.name: listing.read(entry) for entry in listing.entries}, dict(listing.odd)


def packed(folder: Path, kind: str) -> Path:
    path = folder / f"images.{kind}"
    if kind.startswith("zip"):
        return write_zip(path, FILES, zipfile.ZIP_DEFLATED if kind == "zip-deflated" else zipfile.ZIP_STORED)
    return write_tar(path, FILES, "w" if kind == "tar" else f"w:{kind.split('.')[1]}")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip", "zip-deflated"])
def test_an_archive_holds_what_its_folder_does(tmp_path: Path, kind: str) -> None:
    unpacked, odd = contents(write_folder(tmp_path / "unpacked", FILES))
    found, also_odd = contents(packed(tmp_path, kind))
    assert unpacked == found == OPENED
    assert (
        list(found)
        == list(unpacked)
        == ["cat/1.png", "cat/2.png", "cat/10.png", "dog/1.png", "dog/2.png", "dog/10.png"]
    )
    assert odd == also_odd == {}


def test_the_order_in_an_archive_does_not_matter(tmp_path: Path) -> None:
    backwards = dict(reversed(FILES.items()))
    for path in (write_tar(tmp_path / "b.tar", backwards), write_zip(tmp_path / "b.zip", backwards)):
        assert list(contents(path)[0]) == list(OPENED)


def test_an_archive_is_told_by_its_content(tmp_path: Path) -> None:
    for kind in ("tar", "tar.gz", "zip"):
        plain = packed(tmp_path, kind).rename(tmp_path / f"no-ending-{kind.replace('.', '-')}")
        assert contents(plain)[0] == OPENED


def test_nothing_is_written_under_a_name_from_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    files = {"../climbs.png": b"1", "/tmp/absolute.png": b"2", "a/../../b.png": b"3", "good.png": b"4"}
    for path in (write_tar(tmp_path / "t.tar", files), write_tar(tmp_path / "t.tgz", files, "w:gz")):
        found, odd = contents(path)
        assert found == {"good.png": b"4"}
        assert len(odd) == 3
        assert set(odd.values()) == {"a name that leads out of the archive"}
    files["C:\\windows\\d.png"] = b"5"
    found, odd = contents(write_zip(tmp_path / "t.zip", files))
    assert found == {"good.png": b"4"}
    assert len(odd) == 4
    assert not list((tmp_path / "here").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "t.tar", "t.tgz", "t.zip"]


def test_links_and_devices_in_a_tar_are_named(tmp_path: Path) -> None:
    found, odd = contents(special_tar(tmp_path / "t.tar"))
    assert found == {"good.png": b"good"}
    assert odd == {
        "soft.png": "a link",
        "hard.png": "a link",
        "disk.png": "no regular file",
        "terminal.png": "no regular file",
        "pipe.png": "no regular file",
        "folder.png": "no regular file",
    }


def test_links_in_a_zip_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("good.png", b"good")
    assert contents(tmp_path / "t.zip") == ({"good.png": b"good"}, {"link.png": "a link"})


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_doubles_the_last_counts_as_when_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive, tarfile.open(tmp_path / "t.tar", "w") as tar:
        for content in (b"first", b"last!"):
            archive.writestr("a.png", content)
            info = tarfile.TarInfo("./a.png" if content == b"first" else "a.png")
            info.size = 5
            tar.addfile(info, io.BytesIO(content))
    for name in ("t.zip", "t.tar"):
        assert contents(tmp_path / name) == ({"a.png": b"last!"}, {"a.png": "another one of this name follows"})


def test_encrypted_members_are_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "t.zip", {"secret.png": b"x" * 20, "good.png": b"good"})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # the flag, in the directory of contents
    path.write_bytes(raw)
    assert contents(path) == ({"good.png": b"good"}, {"secret.png": "encrypted"})


def test_a_member_that_lies_about_itself_is_unreadable(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "t.zip", {"bad.png": b"x" * 2000}, zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    raw[42] ^= 0xFF
    path.write_bytes(raw)
    with list_images(path) as listing, pytest.raises(UnreadableError, match="cannot be taken out of the archive"):
        listing.read(listing.entries[0])


def test_bombs_are_not_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_SMALL", 1 << 16)
    zeros = {"zeros.png": bytes(1 << 20), "good.png": b"good"}
    found, odd = contents(write_zip(tmp_path / "t.zip", zeros, zipfile.ZIP_DEFLATED))
    assert found == {"good.png": b"good"}
    assert odd["zeros.png"].startswith("expands to ")
    with pytest.raises(InputError, match="it expands to more than 200 times its size"):
        contents(write_tar(tmp_path / "t.tar.gz", zeros, "w:gz"))


def test_backslashes_of_old_zips_are_slashes(tmp_path: Path) -> None:
    found, _ = contents(write_zip(tmp_path / "t.zip", {"cat\\1.png": b"1", "dog\\2.png": b"2"}))
    assert found == {"cat/1.png": b"1", "dog/2.png": b"2"}


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_archives_cut_short_have_one_sentence(tmp_path: Path, kind: str, share: float) -> None:
    whole = packed(tmp_path, kind).read_bytes()
    cut = tmp_path / f"cut.{kind}"
    size = len(FILES) * 1024 if kind == "tar" else len(whole)  # not within a tar's empty end
    cut.write_bytes(whole[: int(size * share)])
    with pytest.raises(InputError, match="damaged") as error:
        contents(cut)
    assert "\n" not in str(error.value)
    assert cut.name in str(error.value)


def test_a_tar_with_a_damaged_header_does_not_end_there_in_silence(tmp_path: Path) -> None:
    path = packed(tmp_path, "tar")
    raw = bytearray(path.read_bytes())
    place = raw.index(b"set/dog/1.png")
    raw[place : place + 4] = b"XXX/"  # the checksum no longer holds
    path.write_bytes(raw)
    with pytest.raises(InputError, match="cut short or damaged"):
        contents(path)


def test_very_long_and_odd_names(tmp_path: Path) -> None:
    files = {"x" * 3000 + ".png": b"1", "新しい/画像.png": b"2", "\u202etxt.png": b"3", "a b\tc.png": b"4"}
    for path in (write_tar(tmp_path / "t.tar", files), write_zip(tmp_path / "t.zip", files)):
        assert contents(path)[0] == files
