"""Files that are odd, damaged or made to harm: none ends in anything but pixels or a sentence of its own."""

from __future__ import annotations

import gzip
import io
import random
import re
import struct
import zipfile
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers_files import noise, saved, special_tar, write_folder, write_tar, write_zip
from vaekit.data.folders import load_folder, load_pairs, open_packed
from vaekit.data.sizing import Opening, Sizing
from vaekit.errors import InputError
from vaekit.files import archives
from vaekit.files.archives import list_images
from vaekit.files.decode import Rule, UnreadableError, decode, quiet

KINDS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF", "TGA", "PPM")
GOOD = saved(np.full((16, 16, 3), 77, np.uint8))
RULE = Rule(16, 16, 3)
SILENT = Opening(Sizing(image_size=16, colour="rgb"), lambda what, fraction: None)


def chunk(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return struct.pack(">I", size) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, body: bytes, extra: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def odd_files() -> dict[str, bytes]:
    """Image files that are not what they say, by name."""
    picture = noise(40, 52)
    whole = {kind: saved(picture, kind) for kind in KINDS}
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("inner.png", GOOD)
    files = {
        "empty.jpg": b"",
        "zeros.png": bytes(5000),
        "text.jpg": b"This is text. " * 40,
        "html.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
        "zip-in-disguise.jpg": zipped.getvalue(),
        "gzip.png": gzip.compress(GOOD),
        "script.png": b"#!/bin/sh\nrm -rf /\n",
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "vector.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "telephone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
        "one-byte.gif": b"G",
        "magic-only.png": b"\x89PNG\r\n\x1a\n",
        "magic-only.jpg": b"\xff\xd8\xff",
        "huge.png": png(2**31 - 1, 2**31 - 1, b""),
        "wide.png": png(1_000_000, 200, zlib.compress(bytes(100))),
        "nothing.png": png(0, 0, b""),
        "no-height.png": png(10, 0, zlib.compress(b"")),
        "bomb.png": png(13_000, 13_000, zlib.compress(bytes(1 << 20))),
        "odd-depth.png": png(4, 4, zlib.compress(bytes(99)), depth=7),
        "odd-colour.png": png(4, 4, zlib.compress(bytes(99)), colour=5),
        "no-palette.png": png(4, 4, zlib.compress(bytes(20)), colour=3),
        "text-bomb.png": png(4, 4, zlib.compress(bytes(52)), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20)))),
        "chunk-too-long.png": png(4, 4, b"x", chunk(b"tEXt", b"a", 2**31 - 1)),
        "exif-rubbish.png": png(4, 4, zlib.compress(bytes(52)), chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")),
        "huge.gif": b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
        "huge.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
        "negative.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, -5, -5, 1, 24, 0, 0, 0, 0, 0, 0),
        "huge.ppm": b"P6 99999999 99999999 255\n",
        "negative.ppm": b"P6 -4 -4 255\n" + bytes(48),
        "words.ppm": b"P6 four five 255\n",
        "loop.tif": b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0",
        "far.tif": b"II*\0\xff\xff\xff\x7f",
        "comment.gif": b"GIF89a\x01\0\x01\0\0\0\0!\xfe\xff" + bytes(300),
        "sixteen.png": saved(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30))),
        "float.tif": saved(Image.fromarray(np.full((5, 5), np.nan, np.float32)), "TIFF"),
        "one-pixel.png": saved(noise(1, 1)),
        "line.png": saved(noise(1, 3000)),
        "cmyk.jpg": saved(Image.fromarray(picture).convert("CMYK"), "JPEG"),
        "new\nline.png": b"text",
        "\x1b[31mred.png": b"text",
        "نص.png": b"text",
        "percent %s {name}.png": b"text",
    }
    tarred.write(b"x")
    for kind in KINDS:
        for share in (0.1, 0.5, 0.95):
            files[f"cut-{share}.{kind.lower()}.png"] = whole[kind][: int(len(whole[kind]) * share)]
        files[f"with-a-tail.{kind.lower()}.jpg"] = whole[kind] + b"tail" * 100
    draw = random.Random(20131220)
    for kind in KINDS:
        for number in range(6):
            content = bytearray(whole[kind])
            for _ in range(draw.choice((1, 3, 30))):
                # mostly in the header, where numbers steer the decoder
                place = draw.randrange(min(len(content), draw.choice((64, 400, len(content)))))
                content[place] = draw.choice((0, 255, 127, 128, draw.randrange(256)))
            files[f"fuzzed-{number}.{kind.lower()}.jpg"] = bytes(content)
    return files


FILES = odd_files()


def test_there_are_more_than_a_hundred() -> None:
    assert len(FILES) >= 120


@pytest.mark.parametrize("name", FILES, ids=ascii)
def test_each_is_read_or_has_its_reason(name: str) -> None:
    reason = "none"
    with quiet():
        try:
            pixels = decode(FILES[name], RULE)
        except UnreadableError as error:
            reason, pixels = str(error), np.zeros((16, 16, 3), np.uint8)
    assert re.fullmatch(r"[\x20-\x7e]{4,120}", reason)
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("name", ["one-pixel.png", "line.png", "cmyk.jpg", "sixteen.png", "with-a-tail.jpeg.jpg"])
def test_odd_but_whole_ones_are_read(name: str) -> None:
    assert decode(FILES[name], RULE).any()


@pytest.mark.parametrize(
    "name", ["empty.jpg", "text.jpg", "huge.png", "huge.gif", "huge.bmp", "huge.ppm", "bomb.png", "cut-0.5.jpeg.png"]
)
def test_harmful_ones_are_not(name: str) -> None:
    with quiet(), pytest.raises(UnreadableError):
        decode(FILES[name], RULE)


@pytest.fixture(scope="module")
def unreadable() -> dict[str, str]:
    """The reasons of those that cannot be read."""
    found = {}
    with quiet():
        for name, content in FILES.items():
            try:
                decode(content, RULE)
            except UnreadableError as error:
                found[name] = str(error)
    return found


def containers(folder: Path, files: dict[str, bytes]) -> list[Path]:
    made = [write_folder(folder / "folder", files), write_tar(folder / "images.tar", files)]
    return [*made, write_tar(folder / "images.tgz", files, "w:gz"), write_zip(folder / "images.zip", files)]


def test_among_many_good_images_all_are_named_and_every_good_one_is_read(
    tmp_path: Path, unreadable: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaekit.files.packing._MOST_SKIPPED", (10_000, 1.0))
    files = FILES | {f"good{n}.png": GOOD for n in range(30)}
    for path in containers(tmp_path, files):
        found = open_packed(path, SILENT)
        assert dict(found.skipped) == unreadable, path.name
        assert sorted(found.names) == sorted(files.keys() - unreadable.keys())
        pixels = dict(zip(found.names, found.pixels, strict=True))
        assert all((pixels[name] == 77).all() for name in files if name.startswith("good"))


def test_too_many_of_them_stop_with_one_sentence(tmp_path: Path) -> None:
    for path in containers(tmp_path, FILES | {"good.png": GOOD}):
        with pytest.raises(
            InputError, match=r"images cannot be used: .* and \d+ more; repair or remove them$"
        ) as error:
            load_folder(path, SILENT)
        assert "\n" not in str(error.value)
        assert str(error.value).isprintable()


def archives_to_fuzz(folder: Path) -> dict[str, bytes]:
    files = {f"{kind}/{n}.png": saved(noise(6, 6, seed=n)) for kind in ("a", "b") for n in range(3)}
    return {
        "tar": write_tar(folder / "t.tar", files).read_bytes(),
        "tar.gz": write_tar(folder / "t.tar.gz", files, "w:gz").read_bytes(),
        "tar.xz": write_tar(folder / "t.tar.xz", files, "w:xz").read_bytes(),
        "zip": write_zip(folder / "t.zip", files).read_bytes(),
        "deflated.zip": write_zip(folder / "d.zip", files, zipfile.ZIP_DEFLATED).read_bytes(),
        "special.tar": special_tar(folder / "s.tar").read_bytes(),
    }


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz", "zip", "deflated.zip", "special.tar"])
def test_fuzzed_archives_are_read_in_part_or_have_one_sentence(tmp_path: Path, kind: str) -> None:
    whole, draw = archives_to_fuzz(tmp_path)[kind], random.Random(kind)
    file, sentences = tmp_path / f"fuzzed.{kind}", []
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 2, 10))):
            # tar headers, and the zip's directory at the end, are where numbers stand
            near = draw.choice((0, 512 * draw.randrange(max(len(content) // 512, 1)), max(len(content) - 400, 0)))
            content[min(near + draw.randrange(400), len(content) - 1)] = draw.choice((0, 255, 57, draw.randrange(256)))
        file.write_bytes(bytes(content))
        try:
            with list_images(file) as listing:
                for entry in listing.entries:
                    with suppress(UnreadableError):
                        assert isinstance(listing.read(entry), bytes)
        except InputError as error:
            sentences.append(str(error))
    assert all("\n" not in sentence and file.name in sentence for sentence in sentences)


def test_an_archive_in_an_archive_is_not_opened(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"hidden.png": GOOD}).read_bytes()
    found = open_packed(write_zip(tmp_path / "outer.zip", {"inner.zip": inner, "good.png": GOOD}), SILENT)
    assert list(found.names) == ["good.png"]


def test_giant_declared_sizes_are_not_allocated(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "t.zip", {"giant.png": GOOD, "good.png": GOOD})
    raw = bytearray(path.read_bytes())
    place = raw.index(b"PK\x01\x02") + 24
    raw[place : place + 4] = struct.pack("<I", 4_000_000_000)
    path.write_bytes(raw)
    found = open_packed(path, SILENT)
    assert list(found.names) == ["good.png"]
    assert found.skipped[0][0] == "giant.png"
    giant_tar = bytearray(write_tar(tmp_path / "t.tar", {"giant.png": GOOD}).read_bytes())
    giant_tar[124:136] = b"77777777777\0"
    giant_tar[148:156] = b"        "
    giant_tar[148:156] = b"%06o\0 " % sum(giant_tar[:512])
    (tmp_path / "t.tar").write_bytes(giant_tar)
    with pytest.raises(InputError, match="cut short or damaged"):
        open_packed(tmp_path / "t.tar", SILENT)


def test_pairs_of_harmful_files_have_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaekit.files.packing._MOST_SKIPPED", (10_000, 1.0))
    files = {f"{n}.png": content for n, content in enumerate(FILES.values())}
    good = dict.fromkeys(files, GOOD)
    for noisy, clean in ((files, good), (good, files), (files, files)):
        folders = write_folder(tmp_path / "n", noisy), write_folder(tmp_path / "c", clean)
        opening = replace(SILENT, sizing=Sizing(image_size=16, input_size=16, colour="rgb"))
        assert load_pairs(*folders, opening).train.inputs.shape[1:] == (16, 16, 3)


def test_memory_that_a_compressed_archive_may_take_is_limited() -> None:
    assert archives._SMALL + archives._BOMB * 10_000 < 1 << 28  # of a bomb of ten thousand bytes
