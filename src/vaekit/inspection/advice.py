"""What to train a data set with, each suggestion with its reason, from the facts that an inspection found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from vaekit.data.splits import DEFAULT_VALIDATION
from vaekit.settings import PRESETS

_BLACK_AND_WHITE = 0.75  # share of values near 0 or 1 from which grey images count as strokes on an even ground
_FEW_LEVELS = 64  # grey levels in use up to which most of the 256 would be gaps
_MANY_CLASSES = 20
_FEW_EXAMPLES = 20  # images of a class below which a label teaches little
_BALANCED = 1.5  # most frequent class over least frequent, up to which classes count as balanced


@dataclass(frozen=True)
class Advice:
    """A setting of ``vaekit train``, a value of it, and why."""

    option: str
    value: str
    reason: str

    def record(self) -> dict[str, Any]:
        return asdict(self)


def advise(record: dict[str, Any]) -> list[Advice]:
    """Suggestions for the record of `vaekit.inspection.inspect.inspect`, the most important first."""
    return [_preset(record), *_likelihood(record), *_size(record), *_condition(record), *_validation(record)]


def _preset(record: dict[str, Any]) -> Advice:
    channels, height, width = record["shape"].values()
    side, name = max(height, width), record["data"]
    if name in ("faces", "celeba") and "faces" in PRESETS:
        return Advice("--preset", "faces", "made for aligned faces")
    if side > 36 and "folder" in PRESETS:
        return Advice("--preset", "folder", f"{width}x{height} pixels need its four levels of convolutions")
    if channels == 3 and 24 <= side <= 36 and "cifar" in PRESETS:
        return Advice("--preset", "cifar", f"small photographs in colour, {width}x{height}")
    if side < 12:
        return Advice("--preset", "mlp", f"{width}x{height} pixels are too few for convolutions to gain much")
    return Advice("--preset", "conv", f"{width}x{height} pixels: two levels of convolutions, a good first model")


def _likelihood(record: dict[str, Any]) -> Iterator[Advice]:
    values, grey = record["values"], record["shape"]["channels"] == 1
    extreme = values["near_black_or_white"]
    if record["binary"]:
        yield Advice("--likelihood", "bernoulli", "every value is black or white, so its cross-entropy is -log p(x)")
        yield Advice("--binarization", "none", "the images are binary already")
    elif grey and extreme >= _BLACK_AND_WHITE:
        why = f"{extreme:.0%} of the values are nearly black or white: a good loss for strokes, though no probability"
        yield Advice("--likelihood", "bernoulli", why)
        yield Advice("--binarization", "dynamic", "only where nats must compare with published ones of binary images")
    elif record["whole_levels"]:
        why = f"{1 - extreme:.0%} of the values are neither nearly black nor nearly white; "
        why += "with it the noise level is learned, which balances detail against rate"
        yield Advice("--likelihood", "optimal-gaussian", why)
        if values["levels"] > _FEW_LEVELS:
            why = "in its place where bits per dimension are wanted: a probability of whole levels"
            yield Advice("--likelihood", "discretized-logistic", why)
        yield Advice("--binarization", "none", "it would throw the grey values away")
    else:
        yield Advice(
            "--likelihood", "optimal-gaussian", "values are fractions, and a density with a learned noise fits them"
        )
        yield Advice("--binarization", "none", "it would throw the grey values away")


def _size(record: dict[str, Any]) -> Iterator[Advice]:
    files, side = record["files"], max(record["shape"]["height"], record["shape"]["width"])
    if not files or not files["sizes"]:
        return
    short = sorted(min(width, height) for width, height, count in files["sizes"] for _ in range(count))
    typical = short[len(short) // 2]
    if len(files["sizes"]) == 1 and typical == side:
        return
    fits = max([size for size in (16, 32, 64, 128) if size <= typical], default=typical)
    size = min(fits, 64)
    larger = "; try 128 once that works" if fits > 64 else ""
    yield Advice("--image-size", str(size), f"half of the files have a shorter side of {typical} or more{larger}")
    if record["files"]["num_extreme"]:
        count = record["files"]["num_extreme"]
        yield Advice(
            "--resize", "pad", f"{count:,} files are over three times as long as wide: crop cuts most of them off"
        )


def _condition(record: dict[str, Any]) -> Iterator[Advice]:
    classes = record["classes"]
    if classes:
        counts = [sum(entry["num_images"].values()) for entry in classes]
        kind = "onehot" if len(classes) <= _MANY_CLASSES else "embedding"
        if few := _too_few(classes):
            why = f"{few:,} of the {len(classes):,} classes have fewer than {_FEW_EXAMPLES} images to learn from"
            yield Advice("--conditioning", "none", why)
            return
        balance = "" if max(counts) <= _BALANCED * min(counts) else ", though the smaller ones will look worse"
        yield Advice("--conditioning", kind, f"to sample by class: {len(classes)} classes{balance}")
    elif record["attributes"]:
        count = len(record["attributes"])
        yield Advice("--conditioning", "attributes", f"to sample by attribute: each image has {count}")


def _validation(record: dict[str, Any]) -> Iterator[Advice]:
    parts = record["splits"]
    if "val" in parts and not parts["val"]["official"]:
        count, kept = parts["val"]["num_images"], parts["train"]["num_images"]
        share = count / (count + kept)
        if count >= DEFAULT_VALIDATION:
            why = "enough to tell models apart by a fraction of a nat"
        elif count < 200:
            why = "so few that models close to each other cannot be told apart; average several seeds"
        else:
            why = f"{share:.0%} of the training images, to select the best epoch by"
        yield Advice("--validation", str(count), why)
    if record["grouped"] and record["groups"]:
        yield Advice("--group-by", "auto", f"no split cuts one of the {record['groups']:,} groups in two")
    elif record["groups"] and record["classes"] and _too_few(record["classes"]):
        why = "if folders are persons or scenes: no split then shows one that training has seen"
        yield Advice("--group-by", "folder", why)


def _too_few(classes: list[dict[str, Any]]) -> int:
    """Number of classes with too few images for a label to teach much."""
    return sum(sum(entry["num_images"].values()) < _FEW_EXAMPLES for entry in classes)


def warn(record: dict[str, Any]) -> list[str]:
    """What makes numbers on held-out images look better than they are, a sentence each."""
    found = []
    for name in ("val", "test"):
        leak = record["leakage"].get(f"{name}_in_train")
        count = leak["exact"] + leak["near"] if leak else 0
        if not count:
            continue
        what = f"{count:,} of the {name} images {'is' if count == 1 else 'are'} in the training images too"
        if record["splits"][name]["official"] or record["grouped"]:
            mend = f"numbers on {name} flatter a model that remembers"
        elif record["groups"] and _may_group(record) and _folder_shared(record, name):
            mend = "most copies share a folder, so keep folders whole with --group-by folder"
        else:
            mend = f"remove the copies, or numbers on {name} flatter a model that remembers"
        found.append(f"{what}: {mend}; --json lists them all.")
    return found


def _may_group(record: dict[str, Any]) -> bool:
    """Whether whole folders can go into one split: not where they are the classes to tell apart."""
    return not record["classes"] or 2 * _too_few(record["classes"]) > len(record["classes"])


def _folder_shared(record: dict[str, Any], name: str) -> bool:
    """Whether most images of a split that are in the training images too lie in the same folder there."""
    pairs = [(pair["first"], pair["second"]) for pair in record["near_duplicates"]["pairs"]]
    pairs += [(group[0], other) for group in record["duplicates"]["groups"] for other in group[1:]]
    leaked = [pair for pair in pairs if {place["split"] for place in pair} == {"train", name}]
    folders = [[str(place["file"]).rpartition("/")[0] for place in pair if place["file"]] for pair in leaked]
    return sum(len(both) == 2 and both[0] == both[1] for both in folders) > len(leaked) / 2
