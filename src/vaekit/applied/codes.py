"""`embed`: the codes of images as a table, with the names of their files."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit import generation
from vaekit.errors import InputError
from vaekit.runs import write_atomically
from vaekit.trained import Own, Progress, Trained, silent

ENDINGS = (".npy", ".csv", ".parquet")


@dataclass(frozen=True)
class Codes:
    """Codes of n images.

    Attributes:
        names: n file names, relative, or numbers.
        means: float32 (n, latent), posterior means.
        scales: float32 (n, latent), standard deviations of the posteriors; None where not asked for.
        labels: n names of classes; None where they are not known.
    """

    names: Sequence[str]
    means: np.ndarray
    scales: np.ndarray | None = None
    labels: Sequence[str] | None = None


def embed(trained: Trained, own: Own, scales: bool = False, size: int = 256, progress: Progress = silent) -> Codes:
    """The codes of images: posterior means and, if asked for, standard deviations.

    Args:
        trained: a trained model; see `vaekit.load`.
        own: n images; see `Trained.read`.
        scales: with standard deviations.
        size: images that are encoded at once.
        progress: is told the fraction done.

    Raises:
        InputError: when a condition is missing, or the posterior has no standard deviations.

    >>> import tempfile, vaekit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = vaekit.train(folder + "/run", "mlp", data="digits", epochs=1)
    ...     trained = vaekit.load(run.path)
    >>> vaekit.embed(trained, trained.read("digits"), scales=True).scales.shape
    (1797, 20)
    """
    parts = [part.numpy() for part in trained.each(own.images, _reader(trained, scales), size, progress)]
    both = np.concatenate(parts) if parts else np.empty((0, 1 + scales, trained.latent_dim), np.float32)
    return Codes(own.names, both[:, 0], both[:, 1] if scales else None, own.label_names)


def _reader(trained: Trained, scales: bool) -> Any:
    """A function from images and conditions to (batch, 1 or 2, latent)."""
    model = trained.model

    @torch.no_grad()
    def read(seen: Tensor, condition: Tensor | None) -> Tensor:
        given = None if condition is None else condition.to(trained.device)
        if not scales:
            return generation.encode(model, seen, given)[:, None]
        posterior = model.encode(seen, given) if hasattr(model, "encode") else None  # type: ignore[operator]
        spread = getattr(posterior, "scale", None)
        if posterior is None or spread is None or spread.shape != posterior.mean.shape:
            raise InputError("--scales: the model's posterior has no standard deviation of each latent; leave it out")
        return torch.stack([posterior.mean, spread], 1)

    return read


def write_codes(codes: Codes, path: str | os.PathLike[str]) -> list[Path]:
    """Write codes as ``.npy``, ``.csv`` or ``.parquet``; returns the files.

    A table has the columns file, label (where known), mean-1 to mean-k and, where there are, scale-1 to scale-k. An array
    holds the same numbers, (n, k) or (n, 2 k); names and labels then lie beside it in ``NAME.names.csv``.

    Raises:
        InputError: for another ending, a folder that is missing, or without pyarrow for ``.parquet``.
    """
    file = check_codes_file(path)
    values = codes.means if codes.scales is None else np.concatenate([codes.means, codes.scales], 1)
    ending = file.suffix.lower()
    if ending == ".parquet":
        return [_written(file, _parquet(codes, values))]
    if ending == ".csv":
        return [_written(file, _csv(codes, values))]
    buffer = io.BytesIO()
    np.save(buffer, values)
    return [_written(file, buffer.getvalue()), _written(file.with_suffix(".names.csv"), _csv(codes, values[:, :0]))]


def check_codes_file(path: str | os.PathLike[str]) -> Path:
    """Whether codes can be written to `path`, asked before they are made; for the errors see `write_codes`."""
    file = Path(path)
    if file.suffix.lower() not in ENDINGS:
        raise InputError(f"--out {str(path)!r}: the ending {file.suffix!r} is not {', '.join(ENDINGS)}; choose one")
    if not file.parent.is_dir():
        raise InputError(f"--out {str(path)!r}: folder {str(file.parent)!r} does not exist; make it first")
    if file.suffix.lower() == ".parquet":
        _pyarrow()
    return file


def _pyarrow() -> Any:
    try:
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]  # optional
        import pyarrow.parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise InputError(
            "--out: .parquet needs pyarrow, which is not installed; pip install pyarrow, or choose .csv or .npy"
        ) from None
    return pyarrow


def _columns(codes: Codes, width: int) -> list[str]:
    count = codes.means.shape[1]
    names = [f"{kind}-{number + 1}" for kind in ("mean", "scale") for number in range(count)]
    return [*(["file"] if codes.labels is None else ["file", "label"]), *names[:width]]


def _csv(codes: Codes, values: np.ndarray) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_columns(codes, values.shape[1]))
    for place, name in enumerate(codes.names):
        label = [] if codes.labels is None else [codes.labels[place]]
        # nine digits: the same float32 when read again
        rows.writerow([name, *label, *(f"{value:.9g}" for value in values[place].tolist())])
    return text.getvalue()


def _parquet(codes: Codes, values: np.ndarray) -> bytes:
    pyarrow = _pyarrow()
    words = [list(codes.names), *([] if codes.labels is None else [list(codes.labels)])]
    columns = [*words, *np.ascontiguousarray(values.T)]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table(dict(zip(_columns(codes, values.shape[1]), columns, strict=True))), buffer
    )
    return buffer.getvalue()


def _written(file: Path, content: bytes | str) -> Path:
    try:
        write_atomically(file, content)
    except OSError as error:
        raise InputError(f"--out {str(file)!r} cannot be written ({error.strerror}); choose another place") from None
    return file
