"""Own images: a folder or an archive of one as a data set, and pairs of noisy and clean ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from vaekit.cache import cache_folder
from vaekit.data.images import Images
from vaekit.data.loaded import Loaded
from vaekit.data.sizing import Opening, Sizing
from vaekit.errors import InputError
from vaekit.files.archives import list_images
from vaekit.files.decode import Header, Rule, UnreadableError, decode, decode_pair, header, quiet
from vaekit.files.listing import Contents, Entry, Listing, digest, natural
from vaekit.files.packed import Packed, open_or_pack
from vaekit.files.packing import VERSION, Job, left_out

_LARGEST_OWN, _SIDE = 128, 64  # sides up to which images keep their size, and to which others are brought
_SAMPLE = 100  # images that decide on shape and colour
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def load_folder(path: Path, opening: Opening, root: str = "", centre: int | None = None) -> Loaded:
    """The images of a folder or an archive.

    Top-level folders named train (training), val (valid, validation) and test (testing) are official splits. Where every
    image lies in a sub-folder and there are two of them or more, their names, in natural order, are the classes.
    `groups` number the folders that the training images lie in, `names` are the training images' relative paths.

    Args:
        path: a folder, or a .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .zip file of one. A single folder that wraps
            everything in it is looked through.
        opening: the shape to bring images to, and who is told of progress.
        root: a folder inside it: only what lies below counts, and names are relative to it.
        centre: side of a central square that is cut out of each image first.

    Raises:
        InputError: when nothing is there, too much of it cannot be read, or the cache cannot be written.
    """
    return _arranged(open_packed(path, opening, root, centre))


def load_pairs(noisy: Path, clean: Path, opening: Opening) -> Loaded:
    """Pairs of images to restore (`Images.inputs`) and clean ones (`Images.pixels`).

    They are matched by their relative names less the endings; what is left over then by the last parts of their names,
    where these are unique. Splits and classes are those of the noisy ones' names. Both are cut alike, and keep their own
    sizes, which may differ, up to 128; else, or with a size asked for, the noisy ones keep their proportion to the clean.

    Raises:
        InputError: as `load_folder`, and when too many have no partner.
    """
    with ExitStack() as stack:
        both = [stack.enter_context(list_images(path, "", _scratch(), opening.progress)) for path in (noisy, clean)]
        key = _key(opening, "pairs", *(listing.signature for listing in both))
        return _arranged(open_or_pack(key, lambda: _pair_job(both, opening.sizing), str(noisy), opening.progress))


def open_packed(path: Path, opening: Opening, root: str = "", centre: int | None = None) -> Packed:
    """All the images below `path` in natural order, whatever folders they lie in; see `load_folder`."""
    with list_images(path, root, _scratch(), opening.progress) as listing:
        key = _key(opening, str(centre), listing.signature)
        return open_or_pack(key, lambda: _job(listing, opening.sizing, centre), str(path), opening.progress)


def _scratch() -> Path:
    return cache_folder() / "packing"


def _key(opening: Opening, *words: str) -> str:
    sizing = opening.sizing
    asked = (sizing.image_size, sizing.input_size, sizing.resize, sizing.colour)
    return digest([str(VERSION), repr(asked), *words])


# what is to be packed


def _job(listing: Listing, sizing: Sizing, centre: int | None) -> Job:
    entries, odd = _some(listing)
    rule, notes = _rule(_headers(listing, entries), sizing.image_size, sizing, centre)
    return Job(
        [entry.name for entry in entries],
        odd,
        [rule],
        lambda row: (listing.read(entries[row]),),
        lambda contents: (decode(contents[0], rule),),
        notes,
    )


def _some(listing: Listing) -> Contents:
    contents = listing.contents
    if not contents.entries:
        found = f": {left_out(contents.odd)}" if contents.odd else ""
        raise InputError(
            f"data {str(listing.path)!r} holds no images that can be read{found}; "
            "give files that end in .jpg, .png or the like"
        )
    return contents


def _headers(listing: Listing, entries: Sequence[Entry]) -> list[Header | None]:
    """Of an evenly spread sample, the first and the last image included; None for what cannot be read."""
    count = min(_SAMPLE, len(entries))
    chosen = sorted({place * (len(entries) - 1) // max(count - 1, 1) for place in range(count)})
    found: list[Header | None] = []
    with quiet():
        for row in chosen:
            try:
                found.append(header(listing.read(entries[row])))
            except UnreadableError:
                found.append(None)
    return found


def _rule(
    headers: Sequence[Header | None], side: int | None, sizing: Sizing, centre: int | None = None
) -> tuple[Rule, list[str]]:
    known = [one for one in headers if one is not None]
    channels = {"grey": 1, "rgb": 3}.get(sizing.colour) or (1 if known and all(one.grey for one in known) else 3)
    if side is not None:
        return Rule(side, side, channels, sizing.resize, centre), []
    sizes = Counter((min(one.width, centre or one.width), min(one.height, centre or one.height)) for one in known)
    if len(sizes) == 1 and max(own := next(iter(sizes))) <= _LARGEST_OWN:
        return Rule(own[1], own[0], channels, sizing.resize, centre), []
    why = "of many sizes" if len(sizes) > 1 else f"larger than {_LARGEST_OWN}"
    note = f"images {why} were brought to {_SIDE}x{_SIDE} ({sizing.resize}); --image-size chooses another size"
    return Rule(_SIDE, _SIDE, channels, sizing.resize, centre), [note]


def _pair_job(both: Sequence[Listing], sizing: Sizing) -> Job:
    (noisy, noisy_odd), (clean, clean_odd) = map(_some, both)
    pairs, alone = _matched(noisy, clean)
    odd = [*noisy_odd, *((f"{name} (clean)", reason) for name, reason in clean_odd), *alone]
    if not pairs:
        raise InputError(
            f"--target {str(both[1].path)!r}: no image there has the name of one in {str(both[0].path)!r}, "
            f"such as {noisy[0].name!r}; name both alike"
        )
    noisy_headers = _headers(both[0], [pair[0] for pair in pairs])
    clean_headers = _headers(both[1], [pair[1] for pair in pairs])
    target, notes = _rule(clean_headers, sizing.image_size, sizing)
    seen, _ = _rule(noisy_headers, sizing.input_size, sizing)
    if sizing.input_size is None and (sizing.image_size is not None or notes):
        # the clean ones change their size: keep the proportion
        ratios = sorted(
            one.width / other.width
            for one, other in zip(noisy_headers, clean_headers, strict=True)
            if one is not None and other is not None
        )
        ratio = ratios[len(ratios) // 2] if ratios else 1.0
        seen = Rule(
            max(1, round(target.height * ratio)), max(1, round(target.width * ratio)), seen.channels, sizing.resize
        )
    return Job(
        [pair[0].name for pair in pairs],
        odd,
        [target, seen],
        lambda row: (both[0].read(pairs[row][0]), both[1].read(pairs[row][1])),
        lambda contents: decode_pair(contents[0], contents[1], seen, target)[::-1],
        notes,
    )


_Pairs = list[tuple[Entry, Entry]]


def _matched(noisy: Sequence[Entry], clean: Sequence[Entry]) -> tuple[_Pairs, list[tuple[str, str]]]:
    """Pairs in the order of the noisy ones, and (name, reason) of those that have no partner."""
    pairs: dict[str, tuple[Entry, Entry]] = {}
    rest, others = list(noisy), list(clean)
    for key in (_stem, lambda entry: _stem(entry).rsplit("/", 1)[-1]):
        counts = Counter(map(key, rest)), Counter(map(key, others))
        unique = {key(entry): entry for entry in others if counts[1][key(entry)] == 1}
        for entry in rest:
            if counts[0][key(entry)] == 1 and key(entry) in unique:
                pairs[entry.name] = (entry, unique[key(entry)])
        taken = {pair[1].name for pair in pairs.values()}
        rest = [entry for entry in rest if entry.name not in pairs]
        others = [entry for entry in others if entry.name not in taken]
    odd = [(entry.name, "no clean image of this name") for entry in rest]
    odd += [(entry.name, "a clean image that no noisy one has the name of") for entry in others]
    return [pairs[entry.name] for entry in noisy if entry.name in pairs], odd


def _stem(entry: Entry) -> str:
    return entry.name.rsplit(".", 1)[0]


# from names to splits, classes and groups


def _arranged(packed: Packed) -> Loaded:
    names = packed.names
    places, notes = _splits(names)
    below = {split: [names[row].split("/", 1)[1] for row in rows] for split, rows in places.items()}
    if not places:
        places, below = {"train": list(range(len(names)))}, {"train": list(names)}
    classed = {split: all("/" in name for name in inner) for split, inner in below.items()}
    classes: tuple[str, ...] = ()
    if classed["train"]:
        found = {name.split("/", 1)[0] for inner in below.values() for name in inner if "/" in name}
        classes = tuple(sorted(found, key=natural)) if len(found) > 1 else ()
    for split in [split for split in places if classes and not classed[split]]:
        notes.append(f"images of {split} lie in no folders of classes, as those of train do, and were left out")
        del places[split]
    parts = {split: _images(packed, rows, below[split], classes) for split, rows in places.items()}
    if packed.skipped:
        total = len(names) + len(packed.skipped)
        notes.insert(0, f"{len(packed.skipped):,} of {total:,} files were left out: {left_out(packed.skipped)}")
    return Loaded(
        train=parts["train"],
        test=parts.get("test"),
        class_names=classes,
        val=parts.get("val"),
        groups=_groups(below["train"]),
        fingerprint=int(packed.digest[:15], 16),
        binary=packed.binary,
        names=[names[row] for row in places["train"]],
        notes=(*packed.notes, *notes),
    )


def _splits(names: Sequence[str]) -> tuple[dict[str, list[int]], list[str]]:
    """The images of each official split, by name; empty without a folder to train on and another one."""
    places: dict[str, list[int]] = {}
    elsewhere: list[int] = []
    for row, name in enumerate(names):
        top, slash, _ = name.partition("/")
        split = _SPLITS.get(top.lower()) if slash else None
        (elsewhere if split is None else places.setdefault(split, [])).append(row)
    if "train" not in places or len(places) == 1:
        return {}, []
    if not elsewhere:
        return places, []
    some = f"{len(elsewhere):,} images outside of the folders {', '.join(sorted(places))} were left out: "
    return places, [some + left_out([(names[row], "elsewhere") for row in elsewhere])]


def _images(packed: Packed, rows: Sequence[int], below: Sequence[str], classes: Sequence[str]) -> Images:
    labels = None
    if classes:
        number = {name: label for label, name in enumerate(classes)}
        labels = torch.tensor([number[name.split("/", 1)[0]] for name in below])
    index = torch.tensor(rows)
    if packed.rows is not None:
        return Images(packed.pixels, labels, None, packed.inputs, packed.rows[index])
    if len(rows) == len(packed.pixels):
        return Images(packed.pixels, labels, None, packed.inputs)
    return Images(packed.pixels[index], labels, None, None if packed.inputs is None else packed.inputs[index])


def _groups(names: Sequence[str]) -> Tensor | None:
    """Numbers of the folders that images lie in; None where they lie in none."""
    folders = [name.rsplit("/", 1)[0] if "/" in name else "" for name in names]
    order = {folder: number for number, folder in enumerate(sorted(set(folders), key=natural))}
    return torch.tensor([order[folder] for folder in folders]) if order.keys() - {""} else None
