"""A trained model with what it knows of its images: what verbs, estimators, exports and pages work on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vaekit import generation
from vaekit.corruptions.table import Clean
from vaekit.data.batches import Data
from vaekit.data.folders import open_packed
from vaekit.data.images import DataInfo, Images, pack
from vaekit.data.loaded import Loaded
from vaekit.data.sizing import Opening, Sizing
from vaekit.data.sources import is_array, is_path
from vaekit.data.sources import load as load_set
from vaekit.errors import InputError, unknown
from vaekit.files.archives import list_images
from vaekit.files.decode import ENDINGS, Rule, UnreadableError, decode
from vaekit.files.listing import natural
from vaekit.files.packing import left_out
from vaekit.models.table import Model
from vaekit.networks.conditioning import UNKNOWN
from vaekit.settings import Config
from vaekit.storage import load_model

Progress = Callable[[float], None]
Reader = Callable[[Tensor, Tensor | None], Tensor]


def silent(fraction: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Trained:
    """A trained model, ready to use on any number of images.

    Images go in as an `Images` of the shape that the model reads, and are taken in batches, so that memory does not grow
    with their number. Tensors come out on the CPU.

    Attributes:
        model: in evaluation mode.
        config: of the run that made it.
        info: of the data that it was trained on.
        path: the file or folder that it came from.
    """

    model: Model
    config: Config
    info: DataInfo
    path: Path

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def latent_dim(self) -> int:
        return self.config.model.num_latents(self.info)

    @property
    def data(self) -> Data:
        """How batches of images are made for this model, without the corruption that it was trained to undo."""
        return dataclasses.replace(self.config.data, corruption=Clean())

    def check_same(self, what: str) -> None:
        """Refuse a model that makes other images than it reads, where `what` needs one that knows the images themselves.

        Raises:
            InputError: for such a model.
        """
        if self.info.input_shape is not None or self.config.data.target is not None:
            raise InputError(
                f"the model makes other images than it reads; {what} takes one trained on the images alone"
            )

    def batches(self, images: Images, size: int = 256, progress: Progress = silent) -> Iterator[tuple[Tensor, Tensor]]:
        """What the encoder reads, (batch, channels, height, width) on the model's device, and the rows (batch,) it is of."""
        for rows in torch.arange(len(images)).split(size) if len(images) else ():
            given = images.input_unit(rows)
            yield (images.unit(rows) if given is None else given).to(self.device), rows
            progress((int(rows[-1]) + 1) / len(images))

    def each(self, images: Images, function: Reader, size: int = 256, progress: Progress = silent) -> Iterator[Tensor]:
        """`function` of what the encoder reads (batch, ...) and of its condition, or None; batch by batch, on the CPU."""
        condition = self.condition(images)
        for seen, rows in self.batches(images, size, progress):
            yield function(seen, None if condition is None else condition[rows]).cpu()

    def codes(self, images: Images, size: int = 256, progress: Progress = silent) -> Tensor:
        """Posterior means of images, (n, latent)."""
        parts = list(self.each(images, partial(generation.encode, self.model), size, progress))
        return torch.cat(parts) if parts else torch.empty(0, self.latent_dim)

    def images(self, codes: Tensor, condition: Tensor | None = None, size: int = 256) -> Tensor:
        """Mean images of codes (n, latent), under labels (n,) or attributes (n, k) where the model reads them."""
        parts = [
            generation.decode(
                self.model,
                codes[rows].to(self.device),
                None if condition is None else condition[rows].to(self.device),
                clip=not self.info.scales,
            ).cpu()
            for rows in torch.arange(len(codes)).split(size)
        ]
        return torch.cat(parts) if parts else torch.empty(0, *self.info.shape)

    def reconstructed(self, images: Images, size: int = 256, progress: Progress = silent) -> Tensor:
        """Images through the posterior's mean and back, (n, channels, height, width) in [0, 1]."""
        parts = list(self.each(images, partial(generation.reconstruct, self.model), size, progress))
        return torch.cat(parts) if parts else torch.empty(0, *self.info.shape)

    def condition(self, images: Images, named: str = "images") -> Tensor | None:
        """Labels (n,) or attributes (n, k) for the model; None for one that reads none.

        Images that come without them get the unknown label, of a model that learned to do without.

        Raises:
            InputError: when the model must have them, or does not know one.
        """
        model, info = self.model, self.info
        if model.num_attributes is not None:
            given = images.attributes
            if given is None and model.accepts_unknown:
                return torch.full((len(images), model.num_attributes), torch.nan)
            if given is None or given.shape[1] != model.num_attributes:
                names = ", ".join(info.attribute_names[:5]) + (", ..." if len(info.attribute_names) > 5 else "")
                raise InputError(
                    f"{named}: the model reads {model.num_attributes} attributes; give a .npz with images and attributes "
                    f"({names})"
                )
            return given
        if model.num_classes is None:
            return None
        labels = images.labels
        if labels is None and model.accepts_unknown:
            return torch.full((len(images),), UNKNOWN)
        if labels is None:
            raise InputError(
                f"{named}: the model is conditional; give a .npz with images and labels, or a folder for each class"
            )
        if len(labels) and int(labels.max()) >= model.num_classes:
            raise InputError(
                f"{named}: label {int(labels.max())} is out of range; the model knows 0 to {model.num_classes - 1}"
            )
        return labels

    def fitting(self, images: Images, named: str) -> Images:
        """The same images, checked to be of the shape that the model reads.

        Raises:
            InputError: when they are not.
        """
        pixels = images.pixels if images.inputs is None else images.inputs
        height, width, channels = pixels.shape[1:]
        if (channels, height, width) != self.info.seen_shape:
            raise InputError(
                f"{named}: shape {(channels, height, width)} is not the model's {self.info.seen_shape} "
                "(channels, height, width); resize the images"
            )
        return images

    def pack(self, array: object, labels: object = None, named: str = "images") -> Images:
        """Images of a NumPy array (n, height, width[, channels]), checked to fit the model."""
        return self.fitting(pack(array, labels, named), named)  # type: ignore[arg-type]  # pack says what does not fit

    def read(self, given: str | os.PathLike[str], folder: Path | None = None, flag: str = "--images") -> Own:
        """Own images brought to the shape that the model reads, by the rules of its training.

        Of a folder or an archive every image counts, whatever folders it lies in. The class of an image is the nearest
        folder above it that has the name of one of the model's classes; for a model that reads no labels the top folders
        are the classes, where they have other names. Files that cannot be read are left out, and a note says which.

        Args:
            given: an image file, a folder or archive of images, a ``.npy`` or ``.npz`` file, or the name of a data set.
            folder: where local data sets lie.
            flag: what the images are called in messages.

        Raises:
            InputError: for what cannot be read, or does not fit.
        """
        text, path = str(given), Path(given).expanduser()
        named = f"{flag} {text!r}"
        if (path.suffix or "/" in text) and not path.exists():  # no set has an ending
            raise InputError(f"{named} does not exist; check the path")
        channels, height, width = self.info.seen_shape
        resize = self.config.data.sizing.resize
        colour: Literal["grey", "rgb"] = "grey" if channels == 1 else "rgb"
        if path.suffix.lower()[1:] in ENDINGS and path.is_file():
            try:
                pixels = decode(path.read_bytes(), Rule(height, width, 1 if channels == 1 else 3, resize))
            except UnreadableError as problem:
                raise InputError(f"{named}: cannot be read, it is {problem}; give another image") from None
            labels, classes = self.labels_of([f"{path.resolve().parent.name}/{path.name}"], "")
            images = Images(torch.from_numpy(pixels.copy())[None], labels)
            return Own(self.fitting(images, named), [path.name], path.parent, classes)
        opening = Opening(Sizing(height if height == width else None, resize=resize, colour=colour))
        if is_array(text) or not is_path(text):
            loaded = load_set(text, folder, Opening() if is_array(text) else opening)
            names = list(loaded.names) or [str(row) for row in range(len(loaded.train))]
            images = self.fitting(loaded.train if is_array(text) else self._renumbered(loaded, named), named)
            known = self.info.class_names if self.model.num_classes is not None else loaded.class_names
            return Own(images, names, None, () if images.labels is None else known)
        packed = open_packed(path, opening)
        if packed.skipped:
            count = f"{len(packed.skipped):,} of {len(packed.names) + len(packed.skipped):,} files"
            opening.note(f"{text}: {count} were left out: {left_out(packed.skipped)}")
        names = list(packed.names)
        if path.is_dir() and (wrapping := wrapped_in(path)):
            names = [wrapping + name for name in names]
        labels, classes = self.labels_of(names, named)
        images = Images(packed.pixels, labels, None, packed.inputs, packed.rows)
        return Own(self.fitting(images, named), names, path if path.is_dir() else None, classes)

    def labels_of(self, names: Sequence[str], named: str) -> tuple[Tensor | None, tuple[str, ...]]:
        """Labels (n,) of relative paths of images by the folders they lie in, and the classes' names; see `read`.

        Args:
            names: with slashes.
            named: what the images are called in messages; nothing where a class need not be found.

        Raises:
            InputError: for a model that reads labels, when an image lies in folders, none of which is a class.
        """
        known = {name: number for number, name in enumerate(self.info.class_names)}
        above = [name.split("/")[-2::-1] if "/" in name else [] for name in names]
        found = [next((known[part] for part in parts if part in known), None) for parts in above]
        if found and None not in found:
            return torch.tensor(found), self.info.class_names
        if not named or not all(above):
            return None, ()
        if self.model.num_classes is not None and known:
            raise unknown(f"{named}: class", above[found.index(None)][-1], known)
        tops = sorted({parts[-1] for parts in above}, key=natural)
        if len(tops) < 2:
            return None, ()
        return torch.tensor([tops.index(parts[-1]) for parts in above]), tuple(tops)

    def _renumbered(self, loaded: Loaded, named: str) -> Images:
        images, known = loaded.train, self.info.class_names
        if images.labels is None or self.model.num_classes is None or not known:
            return images
        for name in loaded.class_names:
            if name not in known:
                raise unknown(f"{named}: class", name, known)
        numbers = torch.tensor([known.index(name) for name in loaded.class_names])
        return dataclasses.replace(images, labels=numbers[images.labels])


def wrapped_in(folder: Path) -> str:
    """The folder or folders below `folder` that alone hold all its images, such as ``photos/``; listings leave them out."""
    with list_images(folder) as listing:
        entry = next(iter(listing.entries), None)
        return "" if entry is None else os.path.relpath(entry.where, folder)[: -len(entry.name)]


@dataclass(frozen=True)
class Own:
    """Images that somebody gave to a trained model.

    Attributes:
        images: n of them, of the shape that the model reads.
        names: n file names within the folder or archive, or numbers.
        root: the folder that names are of; None where there is none.
        classes: names of the labels, where the images have labels; else empty.
    """

    images: Images
    names: Sequence[str]
    root: Path | None
    classes: tuple[str, ...] = ()

    @property
    def label_names(self) -> list[str] | None:
        """The class of each image, (n,), by name or else by number; None where labels are not known."""
        labels = self.images.labels
        return None if labels is None else [self.class_name(label) for label in labels.tolist()]

    def class_name(self, label: int) -> str:
        return self.classes[label] if label < len(self.classes) else str(label)


def load(path: str | os.PathLike[str], device: str = "cpu") -> Trained:
    """A trained model: of a run folder or a model file.

    Raises:
        InputError: when there is no model, or it does not fit this version.

    >>> import tempfile, vaekit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = vaekit.train(folder + "/run", "mlp", data="digits", epochs=1)
    ...     trained = vaekit.load(run.path)
    >>> trained.codes(trained.pack(torch.zeros(3, 8, 8).numpy())).shape
    torch.Size([3, 20])
    """
    model, config, info = load_model(path, device)
    return Trained(model, config, info, Path(path))
