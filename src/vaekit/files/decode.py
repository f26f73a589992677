"""One image file to pixels, by stated rules; no torch here, so that a process that only decodes starts at once.

The rules, in their order:

- Of an animation, or a file of several pictures, the first counts. Colour profiles are not applied.
- EXIF orientation is applied. Palettes are expanded. What is transparent, by an alpha channel or by a colour of the
  palette, is laid on white. CMYK, YCCK, YCbCr and LAB become RGB.
- Unsigned 16-bit grey v becomes v / 257, rounded: the full range of its type. 32-bit and floating grey becomes 8 bits
  by the first range that holds the image: floats in [0, 1] times 255, 0 to 65535 divided by 257 (floats in [0, 255]
  as they are), and else the image's own lowest value black and its highest white.
- Grey is the ITU-R 601 luma, 0.299 R + 0.587 G + 0.114 B.
- Sizes are changed as `Rule` says, by Lanczos resampling over the whole area that a new pixel covers. JPEG files more
  than four times too large are first reduced by 2, 4 or 8 in the decoder (to twice the size wanted or more), others
  that are over six times too large by averaging whole blocks. Images of the right size are not touched.

The same file and rule give the same pixels, always.
"""

from __future__ import annotations

import functools
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

MOST_PIXELS = 178_956_970  # twice what Pillow warns of: 0.5 GB of RGB; a file that declares more is not decoded
MOST_BYTES = 256 << 20  # of one file
ENDINGS = frozenset(
    {"jpg", "jpeg", "jpe", "jfif", "mpo", "png", "gif", "bmp", "dib", "webp", "avif", "tif", "tiff"}
    | {"jp2", "j2k", "tga", "pbm", "pgm", "ppm", "pnm"}
    | {"heic", "heif"}  # for a sentence in place of silence: telephones write them
)
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "AVIF", "TIFF", "JPEG2000", "TGA", "PPM")
_ORIENTATION = 0x0112
_MOVED = (5, 6, 7, 8)  # orientations that swap width and height
_LARGE = 1 << 25  # pixels; only one image so large is decoded at a time
_one_large = threading.Lock()


class UnreadableError(Exception):
    """An image that is left out; the text is the reason, such as "truncated"."""


@dataclass(frozen=True)
class Rule:
    """What images are brought to.

    Attributes:
        height: in pixels.
        width: in pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        resize: crop (the middle that has the wanted proportions), pad (whole, with black around) or stretch.
        centre: side of a central square that is cut out first, as much of it as there is; or None.
    """

    height: int
    width: int
    channels: int
    resize: Literal["crop", "pad", "stretch"] = "crop"
    centre: int | None = None


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        width: in pixels, orientation applied.
        height: in pixels, orientation applied.
        grey: whether it stores no colour.
        format: as Pillow names it, such as JPEG.
        mode: as Pillow names it, such as RGB, P or I;16.
    """

    width: int
    height: int
    grey: bool
    format: str
    mode: str


def header(content: bytes) -> Header:
    """Size and kind of an image, without decoding it.

    Raises:
        UnreadableError: when it is none, or declares too many pixels.
    """
    with _refusals(content):
        image = _opened(content)
        palette = image.getpalette() if image.mode in ("P", "PA") else None
        if palette is not None:
            colours = np.array(palette).reshape(-1, 3)
            grey = bool((colours == colours[:, :1]).all())
        else:
            grey = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
        # a TIFF's size is turned when it is opened
        turned = image.format != "TIFF" and _orientation(image) in _MOVED
        width, height = image.size[::-1] if turned else image.size
        return Header(width, height, grey, str(image.format), image.mode)
    raise AssertionError


def decode(content: bytes, rule: Rule) -> np.ndarray:
    """The pixels of an image file: uint8 (rule.height, rule.width, rule.channels).

    Raises:
        UnreadableError: when it is empty, truncated, damaged, of no known format, or declares too many pixels.
    """
    with _refusals(content):
        return _pixels(_opened(content), rule, None)
    raise AssertionError


def decode_pair(noisy: bytes, clean: bytes, noisy_rule: Rule, clean_rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of two files that show the same, perhaps at two sizes, cut alike.

    What is cut away is chosen on the smaller of the two, in whole pixels, and scaled to the larger.

    Raises:
        UnreadableError: as `decode`, and when their proportions differ by more than rounding explains.
    """
    with _refusals(noisy, clean):
        images = _opened(noisy), _opened(clean)
        sizes = [_upright(image) for image in images]
        frame = min(sizes)
        (width, height), (other_width, other_height) = frame, max(sizes)
        scale = max(other_width / width, other_height / height)
        if max(abs(other_width - scale * width), abs(other_height - scale * height)) > scale:
            raise UnreadableError("of other proportions than its partner: {}x{} and {}x{}".format(*sizes[0], *sizes[1]))
        return _pixels(images[0], noisy_rule, frame), _pixels(images[1], clean_rule, frame)
    raise AssertionError


def fitted(plane: np.ndarray, rule: Rule) -> np.ndarray:
    """One channel (height, width), uint8 or float32, brought to the size of a rule as a file would be."""
    image = Image.fromarray(plane)
    left, top, right, bottom = box = _part(image.size, rule, None)
    found = np.asarray(_resized(image, box, _inner((right - left, bottom - top), rule)))
    return _padded(found[:, :, None], rule)[:, :, 0]


@contextmanager
def quiet() -> Iterator[None]:
    """Within it Pillow's warnings (of large images, odd metadata) are not shown; entered before threads start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _refusals(*contents: bytes) -> Iterator[None]:
    """Turns whatever Pillow raises for a bad file, which is any exception at all, into `UnreadableError`."""
    try:
        yield
    except UnreadableError:
        raise
    except Image.DecompressionBombError:
        raise UnreadableError(f"declares more than {MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        if any(content[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1") for content in contents):
            raise UnreadableError("HEIC, which cannot be read: convert it to JPEG") from None
        raise UnreadableError("no image of a known format") from None
    except MemoryError:
        raise UnreadableError("too large for memory") from None
    except Exception as error:
        text = str(error).lower()
        cut = isinstance(error, EOFError) or "truncat" in text or "unexpected end" in text or "not enough" in text
        raise UnreadableError("truncated" if cut else "damaged") from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """What this Pillow reads of the formats that are allowed: no scripts, no fonts, nothing that starts a program."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _opened(content: bytes) -> Image.Image:
    if not content:
        raise UnreadableError("empty")
    image = Image.open(io.BytesIO(content), formats=_formats())
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UnreadableError(f"declares {width:,}x{height:,} pixels")
    return image


def _orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF (or XMP) has it."""
    said = any("exif" in str(key).lower() or "xmp" in str(key).lower() for key in image.info)
    return image.getexif().get(_ORIENTATION, 1) if said or image.format == "TIFF" else 1


def _upright(image: Image.Image) -> tuple[int, int]:
    turned = image.format != "TIFF" and _orientation(image) in _MOVED
    return image.size[::-1] if turned else image.size


_Box = tuple[float, float, float, float]


def _pixels(image: Image.Image, rule: Rule, frame: tuple[int, int] | None) -> np.ndarray:
    stored = image.size
    drafted = None
    if image.format in ("JPEG", "MPO"):
        # twice the size wanted, along the shorter side; the decoder only ever reduces to this or more
        wanted = 2 * max(rule.height, rule.width)
        side = min(stored) if rule.centre is None else min(*stored, rule.centre)
        if side >= 2 * wanted:
            factor = wanted / side
            drafted = image.draft(None, (round(stored[0] * factor), round(stored[1] * factor)))  # type: ignore[arg-type]
    with _one_large if image.width * image.height > _LARGE else nullcontext():
        image.load()
        turn = _orientation(image)
        if drafted is None:
            stored = image.size  # a TIFF is turned as it is loaded
        image = _in_colours(image, rule.channels)
    scale = (1.0, 1.0) if drafted is None else (drafted[1][2] / stored[0], drafted[1][3] / stored[1])
    if turn in _MOVED:
        image, stored, scale = image.transpose(Image.Transpose.TRANSPOSE), stored[::-1], scale[::-1]
    left, top, right, bottom = _part(stored, rule, frame)
    flipped_across, flipped_down = turn in (2, 3, 6, 7), turn in (3, 4, 7, 8)
    if flipped_across:
        left, right = stored[0] - right, stored[0] - left
    if flipped_down:
        top, bottom = stored[1] - bottom, stored[1] - top
    box = (left * scale[0], top * scale[1], right * scale[0], bottom * scale[1])
    found = np.asarray(_resized(image, box, _inner((right - left, bottom - top), rule)))
    found = found[:: -1 if flipped_down else 1, :: -1 if flipped_across else 1]
    return _padded(found.reshape(*found.shape[:2], rule.channels), rule)


def _part(size: tuple[int, int], rule: Rule, frame: tuple[int, int] | None) -> _Box:
    """The part of an upright image that is kept."""
    width, height = size if frame is None else frame
    left, top = 0, 0
    if rule.centre is not None:
        across, down = min(rule.centre, width), min(rule.centre, height)
        left, top, width, height = (width - across) // 2, (height - down) // 2, across, down
    if rule.resize == "crop":
        across = min(width, max(1, round(height * rule.width / rule.height)))
        down = min(height, max(1, round(width * rule.height / rule.width)))
        left, top, width, height = left + (width - across) // 2, top + (height - down) // 2, across, down
    box = (left, top, left + width, top + height)
    if frame is None or frame == size:
        return box
    across_scale, down_scale = size[0] / frame[0], size[1] / frame[1]
    return (box[0] * across_scale, box[1] * down_scale, box[2] * across_scale, box[3] * down_scale)


def _inner(size: tuple[float, float], rule: Rule) -> tuple[int, int]:
    """The size that what is kept is brought to: that of the rule, but for padding."""
    if rule.resize != "pad":
        return rule.width, rule.height
    scale = min(rule.width / size[0], rule.height / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _padded(pixels: np.ndarray, rule: Rule) -> np.ndarray:
    height, width, channels = pixels.shape
    if (height, width) == (rule.height, rule.width):
        return np.ascontiguousarray(pixels)
    whole = np.zeros((rule.height, rule.width, channels), pixels.dtype)
    top, left = (rule.height - height) // 2, (rule.width - width) // 2
    whole[top : top + height, left : left + width] = pixels
    return whole


def _resized(image: Image.Image, box: _Box, size: tuple[int, int]) -> Image.Image:
    if (box[2] - box[0], box[3] - box[1]) == size and all(edge == int(edge) for edge in box):
        return image if size == image.size else image.crop(tuple(map(int, box)))  # type: ignore[arg-type]
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _in_colours(image: Image.Image, channels: int) -> Image.Image:
    """The image in mode L or RGB."""
    wanted = "L" if channels == 1 else "RGB"
    if image.mode == wanted and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
    elif image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return image.convert(wanted)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey of 16 or 32 bits, or in floats, as uint8; see the module's rules."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UnreadableError("holds NaN or infinity")
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and low >= 0.0 and high <= 1.0:
        scaled = values * 255.0
    elif values.dtype.kind == "f" and low >= 0.0 and high <= 255.0:
        scaled = values
    elif low >= 0.0 and high <= 65535.0:
        scaled = values / 257.0
    else:
        scaled = (values.astype(np.float64) - low) * (255.0 / max(high - low, 1e-300))
    return np.rint(scaled).astype(np.uint8)
