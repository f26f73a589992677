"""One image file to pixels: every rule against Pillow or plain arithmetic."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from helpers_files import noise, saved
from vaekit.files.decode import (
    MOST_PIXELS,
    Rule,
    UnreadableError,
    decode,
    decode_pair,
    header,
    quiet,
)

RGB = noise(12, 20)
GREY = noise(12, 20, 1)


def own(content: bytes, channels: int = 3) -> np.ndarray:
    """Pixels at the image's own size."""
    found = header(content)
    return decode(content, Rule(found.height, found.width, channels))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "WEBP", "JPEG2000"])
def test_lossless_files_give_the_pixels_that_were_saved(kind: str) -> None:
    content = saved(RGB, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(own(content), RGB)
    assert header(content)[:3] == (20, 12, False)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "GIF"])
def test_others_give_what_pillow_decodes(kind: str) -> None:
    content = saved(RGB, kind)
    assert np.array_equal(own(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def test_grey_files() -> None:
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        content = saved(GREY, kind)
        assert header(content).grey
        assert np.array_equal(own(content, 1)[..., 0], GREY)
        assert np.array_equal(own(content, 3), np.repeat(GREY[..., None], 3, 2))
    bits = Image.fromarray(GREY).convert("1")
    assert np.array_equal(own(saved(bits), 1)[..., 0], np.where(np.asarray(bits), 255, 0))


def test_colour_becomes_luma() -> None:
    expected = RGB @ np.array([0.299, 0.587, 0.114])
    assert np.abs(own(saved(RGB), 1)[..., 0] - expected).max() <= 0.51


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation_is_applied(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    content = saved(noise(31, 42), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    found = header(content)
    assert (found.width, found.height) == upright.size
    assert np.array_equal(own(content), np.asarray(upright))
    for rule in (Rule(16, 16, 3), Rule(24, 10, 3, "pad"), Rule(9, 20, 3, "stretch"), Rule(20, 20, 3)):
        # flipping and resampling may round differently, nothing more
        difference = decode(content, rule).astype(int) - decode(saved(upright), rule)
        assert np.abs(difference).max() <= 1


def test_orientation_of_reduced_photographs() -> None:
    smooth = Image.fromarray(noise(6, 9)).resize((901, 603), Image.Resampling.BICUBIC)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        content = saved(smooth, "JPEG", quality=95, exif=exif)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        exact = upright.resize((32, 32), Image.Resampling.LANCZOS, box=_middle(*upright.size))
        assert np.abs(decode(content, Rule(32, 32, 3)).astype(int) - np.asarray(exact)).mean() < 1.0


def _middle(width: int, height: int) -> tuple[int, int, int, int]:
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def test_palettes_are_expanded() -> None:
    palette = Image.fromarray(RGB).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        content = saved(palette, kind)
        assert header(content).mode == "P"
        assert not header(content).grey
        assert np.array_equal(own(content), expected), kind
    greys = Image.fromarray(GREY).quantize(16)
    assert header(saved(greys)).grey


def test_transparency_is_laid_on_white() -> None:
    alpha = noise(12, 20, 1, seed=1)
    weight = alpha[..., None] / 255.0
    content = saved(np.dstack([RGB, alpha]))
    assert np.abs(own(content) - (weight * RGB + (1 - weight) * 255.0)).max() <= 1.0
    content = saved(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]))
    assert np.abs(own(content, 1) - (weight * GREY[..., None] + (1 - weight) * 255.0)).max() <= 1.0
    assert header(content).grey


def test_transparent_colours_of_palettes_are_white() -> None:
    flat = Image.fromarray(np.array([[0, 1, 2, 1]], np.uint8), "P")
    flat.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = [[10, 20, 30], [255, 255, 255], [70, 80, 90], [255, 255, 255]]
    for kind in ("PNG", "GIF"):
        assert own(saved(flat, kind, transparency=1))[0].tolist() == expected, kind
    single = saved(Image.fromarray(np.array([[7, 8]], np.uint8)), transparency=7)
    assert own(single, 1)[0, :, 0].tolist() == [255, 8]
    single = saved(Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)), transparency=(1, 2, 3))
    assert own(single)[0].tolist() == [[255, 255, 255], [4, 5, 6]]


def test_sixteen_bits_are_divided_by_257() -> None:
    values = np.array([[0, 1, 128, 129, 257, 1000, 32768, 65535]], np.uint16)
    expected = np.rint(values / 257.0)
    for kind in ("PNG", "TIFF", "PPM"):
        content = saved(Image.fromarray(values), kind)
        assert header(content).grey
        assert np.array_equal(own(content, 1)[..., 0], expected), kind


def test_wide_numbers_are_scaled_by_the_first_range_that_holds_them() -> None:
    def grey(values: list[float], kind: type) -> list[int]:
        return own(saved(Image.fromarray(np.array([values], kind)), "TIFF"), 1)[0, :, 0].tolist()

    assert grey([0, 0.5, 1.0], np.float32) == [0, 128, 255]
    assert grey([0, 7, 255.0], np.float32) == [0, 7, 255]
    assert grey([0, 514, 65535.0], np.float32) == [0, 2, 255]
    assert grey([-1.0, 0.0, 1.0], np.float32) == [0, 128, 255]
    assert grey([0, 514, 65535], np.int32) == [0, 2, 255]
    assert grey([-1_000_000, 0, 1_000_000], np.int32) == [0, 128, 255]
    assert grey([-3, -3], np.int32) == [0, 0]
    with pytest.raises(UnreadableError, match="holds NaN or infinity"):
        grey([0.0, float("nan")], np.float32)


def test_cmyk_and_lab_become_rgb() -> None:
    image = Image.fromarray(RGB)
    for mode, kind in (("CMYK", "TIFF"), ("CMYK", "JPEG"), ("YCbCr", "TIFF"), ("LAB", "TIFF")):
        if mode == "LAB":
            from PIL import ImageCms

            rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
            converted = ImageCms.profileToProfile(image, rgb, lab, outputMode="LAB")
        else:
            converted = image.convert(mode)
        content = saved(converted, kind)
        expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        assert np.array_equal(own(content), expected), mode
        if kind == "TIFF":
            assert np.abs(own(content).astype(int) - RGB).mean() < 12, mode  # it is still that picture


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.fromarray(np.full((6, 6, 3), value, np.uint8)) for value in (10, 200, 90)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        more = {"lossless": True} if kind == "WEBP" else {}
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **more)
        assert (own(content) == 10).all(), kind


def test_cropping_takes_the_middle_and_moves_nothing() -> None:
    image = noise(10, 25)
    assert np.array_equal(decode(saved(image), Rule(10, 10, 3)), image[:, 7:17])
    assert np.array_equal(decode(saved(image.transpose(1, 0, 2)), Rule(10, 10, 3)), image.transpose(1, 0, 2)[7:17])
    assert np.array_equal(decode(saved(image), Rule(10, 20, 3)), image[:, 2:22])


def test_padding_keeps_all_and_adds_black() -> None:
    image = noise(6, 12)
    found = decode(saved(image), Rule(12, 12, 3, "pad"))
    assert np.array_equal(found[3:9], image)
    assert not found[:3].any()
    assert not found[9:].any()


def test_resampling_is_lanczos_over_the_whole_area() -> None:
    image = Image.fromarray(noise(60, 90))
    for rule, box in ((Rule(16, 16, 3), (15, 0, 75, 60)), (Rule(16, 16, 3, "stretch"), (0, 0, 90, 60))):
        expected = image.resize((16, 16), Image.Resampling.LANCZOS, box=box)
        assert np.abs(decode(saved(image), rule).astype(int) - np.asarray(expected)).max() <= 1
    larger = decode(saved(image), Rule(120, 120, 3))
    assert np.array_equal(larger, np.asarray(image.resize((120, 120), Image.Resampling.LANCZOS, box=(15, 0, 75, 60))))


def test_large_images_are_reduced_almost_as_if_resampled_whole() -> None:
    smooth = Image.fromarray(noise(40, 50)).resize((1000, 800), Image.Resampling.BICUBIC)
    exact = np.asarray(smooth.resize((64, 64), Image.Resampling.LANCZOS, box=(100, 0, 900, 800))).astype(int)
    for kind in ("PNG", "JPEG"):
        content = saved(smooth, kind, **({"quality": 98, "subsampling": 0} if kind == "JPEG" else {}))
        found = decode(content, Rule(64, 64, 3))
        assert np.abs(found - exact).mean() < 1.0, kind
        assert np.array_equal(found, decode(content, Rule(64, 64, 3)))


def test_the_centre_is_cut_out_first() -> None:
    image = noise(30, 20)
    assert np.array_equal(decode(saved(image), Rule(10, 10, 3, centre=10)), image[10:20, 5:15])
    assert np.array_equal(decode(saved(image), Rule(20, 20, 3, centre=100)), image[5:25])
    photograph = Image.fromarray(noise(20, 20)).resize((1200, 1200), Image.Resampling.BICUBIC)
    exact = photograph.resize((32, 32), Image.Resampling.LANCZOS, box=(300, 300, 900, 900))
    found = decode(saved(photograph, "JPEG", quality=98), Rule(32, 32, 3, centre=600))
    assert np.abs(found.astype(int) - np.asarray(exact)).mean() < 1.5


def test_partners_are_cut_alike() -> None:
    clean = noise(30, 81)
    small = clean.reshape(10, 3, 27, 3, 3)[:, 1, :, 1]  # the middle pixel of each 3x3
    noisy, target = decode_pair(saved(small), saved(clean), Rule(10, 10, 3), Rule(30, 30, 3))
    assert np.array_equal(noisy, small[:, 8:18])
    assert np.array_equal(target, clean[:, 24:54])
    assert np.array_equal(target.reshape(10, 3, 10, 3, 3)[:, 1, :, 1], noisy)
    swapped = decode_pair(saved(clean), saved(small), Rule(30, 30, 3), Rule(10, 10, 3))
    assert np.array_equal(swapped[0], target)
    assert np.array_equal(swapped[1], noisy)
    with pytest.raises(UnreadableError, match="of other proportions than its partner: 20x12 and 81x30"):
        decode_pair(saved(RGB), saved(clean), Rule(10, 10, 3), Rule(30, 30, 3))
    rounded = saved(noise(15, 41))  # half of 81 and of 30, rounded
    assert decode_pair(rounded, saved(clean), Rule(15, 15, 3), Rule(30, 30, 3))[0].shape == (15, 15, 3)


def png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG that declares a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "^empty$"),
        (b"hello, this is text", "^no image of a known format$"),
        (saved(noise(64, 64))[:-600], "^truncated$"),
        (saved(noise(64, 64), "JPEG")[:-600], "^truncated$"),
        (png_of(100_000, 100_000), "^declares "),
        (png_of(20_000, 9_000), "^declares "),
        (png_of(100, 100), "^(truncated|damaged)$"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "^HEIC, which cannot be read: convert it to JPEG$"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "^no image of a known format$"),  # would run a program
    ],
)
def test_what_cannot_be_read_has_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        decode(content, Rule(8, 8, 3))


def test_sizes_up_to_the_limit_are_not_refused_by_their_header() -> None:
    side = int(MOST_PIXELS**0.5)
    with quiet():
        assert header(png_of(side, side))[:2] == (side, side)
    with pytest.raises(UnreadableError):
        header(png_of(side + 1, side + 1))
