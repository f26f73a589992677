"""What `anomaly` writes: the ranked table, heat maps of the most anomalous images, and a sheet of them."""

from __future__ import annotations

import csv
import io
from typing import Any

import torch

from vaekit.applied.anomaly import UNITS, Anomalies
from vaekit.applied.outputs import OutputFolder, exact_names
from vaekit.records import to_json
from vaekit.trained import Own, Trained

_ON_SHEET = 24  # of the most anomalous


def write_anomalies(
    trained: Trained, own: Own, found: Anomalies, folder: OutputFolder, num_maps: int
) -> dict[str, Any]:
    """Write ``scores.csv``, ``anomalies.json``, ``heatmaps/`` and ``contact-sheet.png``.

    Args:
        trained: the model.
        own: the n images.
        found: their scores.
        folder: to write into.
        num_maps: of the most anomalous images that get a heat map.

    Returns:
        The record that stands in ``anomalies.json``.

    Raises:
        InputError: when the folder cannot be written.
    """
    top = found.ranked[:num_maps]
    targets = [f"heatmaps/{own.names[row]}" for row in top]
    targets = [f"{target.removesuffix('.png')}.png" for target in exact_names(targets)]
    for target in targets:
        folder.place(target)
    folder.write("scores.csv", _table(own, found))
    if top:
        _pictures(trained, own, found, folder, top, targets)
    record = {
        "folder": str(folder.path),
        "num_images": len(own.images),
        "score": found.score,
        "unit": UNITS[found.score],
        "threshold": found.threshold,
        "false_alarms": found.false_alarms,
        "num_normal": found.num_normal,
        "num_anomalous": int(found.anomalous.sum()),
        "expected_false_alarms": found.false_alarms * len(own.images),
        "most_anomalous": [
            {"file": own.names[row], "score": float(found.scores[row]), "p_value": float(found.p_values[row])}
            for row in found.ranked[:5]
        ],
    }
    folder.write("anomalies.json", to_json(record) + "\n")
    return record


def _table(own: Own, found: Anomalies) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    labels = own.label_names
    rows.writerow(["rank", "file", *([] if labels is None else ["label"]), "score", "p_value", "anomalous"])
    scores, p_values, flags = found.scores.tolist(), found.p_values.tolist(), found.anomalous.tolist()
    for rank, row in enumerate(found.ranked, 1):
        label = [] if labels is None else [labels[row]]
        rows.writerow([rank, own.names[row], *label, f"{scores[row]:.9g}", f"{p_values[row]:.6g}", int(flags[row])])
    return text.getvalue()


def _pictures(
    trained: Trained, own: Own, found: Anomalies, folder: OutputFolder, top: list[int], targets: list[str]
) -> None:
    # imported late: matplotlib takes half a second
    from vaekit.figures.heatmaps import differences, heat_sheet
    from vaekit.figures.style import png, shorten, style

    chosen = own.images.copied(torch.tensor(top))
    images, made = chosen.unit(), trained.reconstructed(chosen)
    highest = float(differences(images, made).max())
    with style(own.names[row] for row in top):
        for place, (row, target) in enumerate(zip(top, targets, strict=True)):
            one = slice(place, place + 1)
            told = (
                f"score {found.scores[row]:.4g}, p {found.p_values[row]:.2g}, rank {place + 1} of {len(own.images):,}"
            )
            title = f"{shorten(own.names[row].rsplit('/', 1)[-1], 40)}: {told}"
            folder.write(target, png(heat_sheet(title, images[one], made[one], (), highest)))
        count = min(len(top), _ON_SHEET)
        title = f"The {count:,} most anomalous of {len(own.images):,} images, by {found.score}"
        notes = [f"p {found.p_values[row]:.2g}" for row in top[:count]]
        folder.write("contact-sheet.png", png(heat_sheet(title, images[:count], made[:count], notes, highest)))
