"""The verbs that put a trained model to work on own images."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.applied.anomaly import DEFAULT_SAMPLES, SCORES, UNITS, anomalies, check_rate, chosen_score
from vaekit.applied.anomaly_pages import write_anomalies
from vaekit.applied.augment import Augmenter, New
from vaekit.applied.codes import check_codes_file, embed, write_codes
from vaekit.applied.impute import Imputed, impute
from vaekit.applied.masks import read_holes, read_mask
from vaekit.applied.morph import joined, morph
from vaekit.applied.outputs import OutputFolder, exact_names
from vaekit.commands.arguments import MOST, Parser
from vaekit.commands.images import Writer, writer
from vaekit.data.download import data_folder
from vaekit.data.images import Images
from vaekit.data.sizing import LiveLine
from vaekit.data.splits import load_splits
from vaekit.errors import InputError
from vaekit.evaluation.evaluate import prepared
from vaekit.figures.grids import to_bytes
from vaekit.files.decode import ENDINGS
from vaekit.records import print_json
from vaekit.trained import Own, Trained, load

_MOST_NORMAL = 5000  # of the run's own, which a threshold is taken from
_PICTURED = 16  # images that are filled in for a picture, if not told otherwise
_GREY = 0.5  # of hidden pixels in pictures


def progress_line(what: str) -> Callable[[float], None]:
    """Progress with the time that is left, on a terminal."""
    return partial(LiveLine(), what)


def _opened(options: Any) -> Trained:
    return load(options.run, prepared(options.device, {}))


def _read(trained: Trained, options: Any) -> Own:
    return trained.read(options.images, data_folder(options.data_dir), "IMAGES")


def _apart_from(images: str) -> Path | None:
    path = Path(images).expanduser()
    return path if path.is_dir() else None


def embed_verb(parser: Parser, words: list[str]) -> None:
    parser.applied()
    parser.add_argument(
        "--out",
        metavar="FILE",
        required=True,
        help="file to write: .csv or .parquet (a table with file names), or .npy (an array, names beside it in a .csv)",
    )
    parser.add_argument(
        "--scales", action="store_true", help="standard deviations of the posteriors beside their means"
    )
    parser.json("where the codes are")
    options = parser.read(words)
    check_codes_file(options.out)
    trained = _opened(options)
    codes = embed(trained, _read(trained, options), options.scales, progress=progress_line("encoding"))
    files = [str(file) for file in write_codes(codes, options.out)]
    if options.json:
        print_json({"files": files, "num_images": len(codes.names), "latent_dim": codes.means.shape[1]})
    else:
        print("\n".join(files))


def anomaly_verb(parser: Parser, words: list[str]) -> None:
    parser.applied()
    parser.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="folder for scores.csv, heatmaps/, contact-sheet.png, anomalies.json",
    )
    parser.one_of(
        "--score",
        ("auto", *SCORES),
        "auto",
        "what is scored; auto is bound where the model has one, else reconstruction",
    )
    parser.number("--false-alarms", 0.01, "rate of normal images that the threshold may call anomalous", 1e-6, 0.5)
    parser.add_argument(
        "--normal", metavar="PATH", help="normal images that set the threshold [the run's validation images]"
    )
    parser.number("--heatmaps", 20, "heat maps of so many of the most anomalous images", 0, 1000)
    parser.number("--importance-samples", DEFAULT_SAMPLES, "importance samples for each image: more are surer")
    parser.seed("seed of the noise")
    parser.json("the record")
    options = parser.read(words)
    folder = OutputFolder(options.out, apart_from=_apart_from(options.images))
    trained = _opened(options)
    score = chosen_score(trained, None if options.score == "auto" else options.score)
    normal = _normal(trained, options)
    check_rate(len(normal), options.false_alarms)
    own = _read(trained, options)
    live = LiveLine()
    found = anomalies(
        trained, own.images, normal, score, options.false_alarms, options.importance_samples, options.seed, live
    )
    record = write_anomalies(trained, own, found, folder, options.heatmaps)
    if options.json:
        print_json(record)
        return
    source = "of the run's validation" if options.normal is None else f"in {options.normal}"
    print(folder.path)
    print(f"  score                {found.score}, in {UNITS[found.score]}")
    print(f"  threshold            {found.threshold:.6g}, from {found.num_normal:,} images {source}")
    print(
        f"  above the threshold  {record['num_anomalous']:,} of {record['num_images']:,} images; were all of them normal, "
        f"up to {record['expected_false_alarms']:.3g} would be expected"
    )
    for each in record["most_anomalous"]:
        print(f"  {each['score']:>19.6g}  p {each['p_value']:<8.2g} {each['file']}")


def _normal(trained: Trained, options: Any) -> Images:
    """Images that the threshold is taken from: never test images, and none that the model was trained on."""
    if options.normal is not None:
        own = trained.read(options.normal, data_folder(options.data_dir), "--normal")
        return own.images
    splits = load_splits(trained.config.data, data_folder(options.data_dir))
    if splits.info != trained.info:
        raise InputError(
            f"data {trained.info.name!r} changed since the model was trained; restore them, or give normal images with "
            "--normal"
        )
    if splits.val is None:
        raise InputError("the run held out no images to validate on; give normal images with --normal")
    return splits.val.spread(_MOST_NORMAL)


def augment_verb(parser: Parser, words: list[str]) -> None:
    parser.applied()
    parser.number("--count", 1000, "new images")
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="folder for the images, in folders of classes, and labels.csv"
    )
    parser.one_of(
        "--how",
        ("near", "prior"),
        "near",
        "near: between the codes of two images of a class; prior: new codes of a class",
    )
    parser.number("--reach", 0.5, "near: the largest part of the way to the other image", 0, 0.5)
    parser.number(
        "--guard",
        1.0,
        "drop new images nearer to a real one than this percentile of the distances from real images to their nearest",
        0,
        100,
    )
    parser.seed("seed of the new images")
    parser.json("the record")
    options = parser.read(words)
    folder = OutputFolder(options.out, apart_from=_apart_from(options.images))
    trained = _opened(options)
    own = _read(trained, options)
    maker = Augmenter(
        trained, own.images, options.how, options.reach, options.guard, options.seed, progress_line("encoding")
    )
    classes = (
        () if own.images.labels is None else [own.class_name(label) for label in own.images.labels.unique().tolist()]
    )
    for name in classes:
        folder.place(f"{name}/new.png")
    rows: list[list[Any]] = []
    live = progress_line("making images")
    for new in maker.make(options.count):
        rows += _written(new, own, folder, len(rows))
        live(len(rows) / options.count)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "label", "from", "towards", "nearest", "pixel_distance", "code_distance"])
    table.writerows(rows)
    folder.write("labels.csv", text.getvalue())
    record = {
        "folder": str(folder.path),
        "num_images": len(rows),
        "num_real_images": len(own.images),
        "dropped_by_pixels": maker.dropped_by_pixels,
        "dropped_by_codes": maker.dropped_by_codes,
        "least_pixel_distance": maker.guard.least_pixels,
        "least_code_distance": maker.guard.least_codes,
    }
    if options.json:
        print_json(record)
        return
    print(folder.path)
    print(
        f"  {len(rows):,} new images; {maker.dropped_by_pixels:,} others were dropped for being too near a real image in "
        f"pixels (below {maker.guard.least_pixels:.4f}), {maker.dropped_by_codes:,} in codes "
        f"(below {maker.guard.least_codes:.4f})"
    )


def _written(new: New, own: Own, folder: OutputFolder, before: int) -> list[list[Any]]:
    """Write new images; returns their rows of the table."""
    rows = []
    for place in range(len(new)):
        label = "" if new.labels is None else own.class_name(int(new.labels[place]))
        name = f"{label}/new-{before + place:06}.png" if label else f"new-{before + place:06}.png"
        folder.write_image(name, new.pixels[place].numpy())
        sources = ["", ""] if new.sources is None else [own.names[row] for row in new.sources[place].tolist()]
        distances = [f"{float(part[place]):.6g}" for part in (new.pixel_distance, new.code_distance)]
        rows.append([name, label, *sources, own.names[int(new.nearest[place])], *distances])
    return rows


def impute_verb(parser: Parser, words: list[str]) -> None:
    parser.applied()
    parser.add_argument(
        "--mask",
        metavar="MASK",
        help="hidden pixels: x,y,width,height at the model's size, or an image, white where they are [NaN of a .npy]",
    )
    parser.add_argument(
        "--out",
        metavar="PATH",
        required=True,
        help=".png (a picture), .npy (an array: images, imputations, height, width, channels; from 0 to 1) or a folder",
    )
    parser.number("--count", None, f"images of IMAGES to take, {_PICTURED} in a picture", most=MOST)
    parser.number("--imputations", 5, "chains, and so fillings, for each image", most=1000)
    parser.number("--steps", 200, "steps of a chain", least=2)
    parser.number("--warmup", 50, "first steps, which take every proposal", least=0)
    parser.seed("seed of the chains")
    parser.json("where the images are")
    options = parser.read(words)
    as_folder = not Path(options.out).suffix
    folder = OutputFolder(options.out, apart_from=_apart_from(options.images)) if as_folder else None
    write = None if as_folder else writer(options)
    trained = _opened(options)
    own, hidden = _with_holes(trained, options)
    pictured = Path(options.out).suffix.lower() == ".png"
    count = min(len(own.images), options.count or (_PICTURED if pictured else len(own.images)))
    images = own.images if count == len(own.images) else own.images.select(torch.arange(count))
    hidden = hidden if hidden.shape[0] == 1 else hidden[:count]
    settings = (options.imputations, options.steps, options.warmup, options.seed)
    if folder is not None:
        _impute_into(folder, trained, own, images, hidden, settings, options)
        return
    assert write is not None
    given = images.unit()
    found = impute(trained, given, hidden, trained.condition(images), *settings, progress=progress_line("filling in"))
    _impute_shown(write, given, hidden, found, not pictured)


def _with_holes(trained: Trained, options: Any) -> tuple[Own, Tensor]:
    """The images, and which of their pixels are hidden."""
    holes = read_holes(options.images, trained)
    if holes is not None:
        if options.mask is not None:
            raise InputError(
                f"--mask {options.mask!r}: {options.images!r} marks hidden pixels by NaN; leave --mask out"
            )
        return holes
    if options.mask is None:
        raise InputError(
            "--mask is missing; give x,y,width,height or an image, or a .npy file with NaN at hidden pixels"
        )
    return _read(trained, options), read_mask(options.mask, trained)


def _impute_shown(write: Writer, given: Tensor, hidden: Tensor, found: Imputed, as_array: bool) -> None:
    about = {"acceptance": found.acceptance, "exact": found.exact}
    if as_array:
        buffer = io.BytesIO()
        np.save(buffer, found.samples.permute(0, 1, 3, 4, 2).numpy())
        write(found.mean, None, buffer.getvalue(), **about)
        return
    shown = torch.where(hidden.expand(given.shape), _GREY, given)
    rows = torch.cat([shown[:, None], found.mean[:, None], found.samples], 1)
    write(rows.flatten(0, 1), rows.shape[1], None, **about)


def _impute_into(
    folder: OutputFolder,
    trained: Trained,
    own: Own,
    images: Images,
    hidden: Tensor,
    settings: tuple[int, int, int, int],
    options: Any,
) -> None:
    """Write ``mean/NAME`` and ``imputation-1/NAME`` to ``imputation-k/NAME``, few images at a time."""
    names = exact_names([name if "." in name else f"{name}.png" for name in own.names[: len(images)]])
    live, condition = progress_line("filling in"), trained.condition(images)
    for name in names:
        folder.place(f"mean/{name}")
    rates = []
    for rows in torch.arange(len(images)).split(max(1, 256 // settings[0])):
        part = hidden if hidden.shape[0] == 1 else hidden[rows]
        given = None if condition is None else condition[rows]
        found = impute(trained, images.unit(rows), part, given, *settings, first=int(rows[0]))
        rates.append(found.acceptance)
        for place, row in enumerate(rows.tolist()):
            folder.write_image(f"mean/{names[row]}", to_bytes(found.mean[place]))
            for chain, filled in enumerate(found.samples[place], 1):
                folder.write_image(f"imputation-{chain}/{names[row]}", to_bytes(filled))
        live((int(rows[-1]) + 1) / len(images))
    if options.json:
        print_json({"folder": str(folder.path), "num_images": len(images), "acceptance": sum(rates) / len(rates)})
    else:
        print(folder.path)


def morph_verb(parser: Parser, words: list[str]) -> None:
    parser.model()
    parser.add_argument("images", nargs="+", metavar="A B [C ...]", help="image files, in the order of the film")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help="file to write: .gif (a loop), .png or .npy (its frames)"
    )
    parser.number("--frames", 24, "frames from an image to the next", least=2, most=1000)
    parser.number("--duration", 2.0, "seconds from an image to the next", least=0.05, most=600)
    parser.one_of(
        "--how", ("spherical", "linear"), "spherical", "arcs that keep the length of the codes, or straight lines"
    )
    parser.json("where the film is")
    options = parser.read(words)
    if len(options.images) < 2:
        raise InputError(f"{options.images[0]!r}: one image is too few to morph; give 2 or more")
    for image in options.images:
        if not Path(image).expanduser().is_file() or Path(image).suffix.lower()[1:] not in ENDINGS:
            raise InputError(f"image {image!r}: is no image file; give files that end in .jpg, .png or the like")
    write = writer(options, (".gif", ".png", ".npy"))
    trained = load(options.run)
    images = joined([trained.read(image, flag="image").images for image in options.images])
    film = morph(trained, images, options.frames, options.how)
    content = None
    if Path(options.out).suffix.lower() == ".gif":
        from vaekit.figures.animations import loop

        content = loop(film, round(1000.0 * options.duration / options.frames))
    write(film, options.frames, content)
