"""The model card of a shared model: what it is, its numbers, its figures, how to load it, whose images it learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vaekit.config import flags
from vaekit.errors import InputError
from vaekit.export.weights import without_paths
from vaekit.models.table import MODELS
from vaekit.objectives.table import OBJECTIVES
from vaekit.report.repeat import as_text, nearest_preset
from vaekit.trained import Trained

# What the authors of a data set say of its use.
LICENCES = {
    "mnist": "Creative Commons Attribution-ShareAlike 3.0 (Yann LeCun and Corinna Cortes; derived from NIST's databases)",
    "fashion-mnist": "MIT (Zalando SE)",
    "digits": "Creative Commons Attribution 4.0 (UCI, Optical Recognition of Handwritten Digits)",
    "dsprites": "Apache 2.0 (DeepMind Technologies)",
    "celeba": "for non-commercial research only (Multimedia Laboratory, The Chinese University of Hong Kong)",
}
_NUMBERS = {
    "elbo_nats": ("ELBO", "nats per image, higher is better"),
    "nll_nats": ("NLL", "nats per image, importance-sampled, lower is better"),
    "rate_nats": ("rate", "nats per image"),
    "distortion_nats": ("distortion", "nats per image"),
    "bits_per_dim": ("bits per dimension", "lower is better"),
    "active_units": ("active units", "latents that carry something"),
    "psnr_db": ("PSNR", "dB, higher is better"),
}
_FIGURES = ("reconstructions", "restorations", "samples", "class-samples", "manifold", "latents")


def card(trained: Trained, name: str, evaluation: dict[str, Any] | None, figures: list[str]) -> str:
    """The text of a README.md for the Hub, with its header.

    Args:
        trained: the model.
        name: of the repository, ``owner/model``.
        evaluation: the record of `vaekit evaluate` on test images, if there is one.
        figures: names of the pictures that go with it.
    """
    trained = without_paths(trained)
    config, data = trained.config, trained.info.name
    header = ["---", "library_name: vaekit", "tags:", "- vaekit", "- variational-autoencoder"]
    if data in LICENCES:
        header += ["datasets:", f"- {data}"]
    parts = {flag.name: flag.value for flag in flags(config.model) if flag.table is not None}
    rows = {
        "kind": MODELS.name_of(config.model),
        **parts,
        "latents": str(trained.latent_dim),
        "objective": OBJECTIVES.name_of(config.objective),
        "settings": f"`{_settings(trained)}`",
        "images": f"{data}, {' x '.join(map(str, trained.info.shape))} (channels, height, width), "
        f"{trained.info.num_train:,} for training",
    }
    if trained.model.num_classes is not None:
        rows["labels"] = ", ".join(trained.info.class_names[:20]) + (
            ", ..." if len(trained.info.class_names) > 20 else ""
        )
    if trained.model.num_attributes is not None:
        rows["attributes"] = ", ".join(trained.info.attribute_names)
    text = [
        *header,
        "---",
        "",
        f"# {name.rpartition('/')[2]}",
        "",
        "A variational autoencoder trained with vaekit.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {what} | {value} |" for what, value in rows.items()),
        "",
        "## Numbers",
        "",
        *_numbers(evaluation),
        "",
        *(["## Figures", "", *(f"![{Path(file).stem}]({file})\n" for file in figures)] if figures else []),
        "## How to load it",
        "",
        "```",
        "pip install vaekit[hub]",
        f"vaekit pull {name} --out model",
        *([] if trained.model.num_attributes is not None else ["vaekit sample model --count 64 --out new.png"]),
        "```",
        "",
        "The weights are safetensors: loading them runs no code.",
        "",
        "## Licence of the data",
        "",
        _licence(data),
        "",
    ]
    return "\n".join(text)


def known_figures(run: Path) -> dict[str, Path]:
    """The pictures of a run that a card shows, by their names in the repository."""
    return {f"figures/{name}.png": file for name in _FIGURES if (file := run / "figures" / f"{name}.png").is_file()}


def measured(run: Path) -> dict[str, Any] | None:
    """What `vaekit evaluate` last found on the test images of a run; None where it did not look.

    Raises:
        InputError: when the file is damaged.
    """
    file = run / "evaluation-test.json"
    try:
        found = json.loads(file.read_text()) if file.is_file() else None
    except ValueError:
        raise InputError(f"{file}: is damaged; remove it, or run vaekit evaluate {run} again") from None
    return found


def _settings(trained: Trained) -> str:
    try:
        name, settings = nearest_preset(trained.config)
    except InputError:
        return "made in Python"
    words = (f"--{key.replace('_', '-')} {as_text(value)}" for key, value in settings.items())
    return " ".join([f"--preset {name}", *words])


def _numbers(record: dict[str, Any] | None) -> list[str]:
    if record is None:
        return ["It was not measured on held-out images."]
    found = [(words, record[key], unit) for key, (words, unit) in _NUMBERS.items() if record.get(key) is not None]
    return [
        f"On {record['num_images']:,} test images; likelihood {record['likelihood']}, measure {record['measure']}.",
        "",
        "| | | |",
        "| --- | --- | --- |",
        *(
            f"| {words} | {f'{value:.3f}' if isinstance(value, float) else value} | {unit} |"
            for words, value, unit in found
        ),
    ]


def _licence(data: str) -> str:
    if data in LICENCES:
        return f"{data}: {LICENCES[data]}."
    return f"{data}: unknown here. Say what the images may be used for before you share the model further."
