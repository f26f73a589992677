"""A trained model with what it knows of its images: what verbs, estimators, exports and pages work on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vaekit import generation
from vaekit.data.images import DataInfo, Images, pack
from vaekit.data.loaded import Loaded
from vaekit.data.sizing import Opening, Sizing
from vaekit.data.sources import is_array
from vaekit.data.sources import load as load_set
from vaekit.errors import InputError, unknown
from vaekit.files.decode import ENDINGS, Rule, UnreadableError, decode
from vaekit.models.table import Model
from vaekit.networks.conditioning import UNKNOWN
from vaekit.settings import Config
from vaekit.storage import load_model

Progress = Callable[[float], None]


def _silent(fraction: float) -> None:
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
        return self.config.model.latent_dim

    def batches(self, images: Images, size: int = 256, progress: Progress = _silent) -> Iterator[tuple[Tensor, Tensor]]:
        """What the encoder reads, (batch, channels, height, width) on the model's device, and the rows (batch,) it is of."""
        for rows in torch.arange(len(images)).split(size) if len(images) else ():
            given = images.input_unit(rows)
            yield (images.unit(rows) if given is None else given).to(self.device), rows
            progress((int(rows[-1]) + 1) / len(images))

    def codes(self, images: Images, size: int = 256, progress: Progress = _silent) -> Tensor:
        """Posterior means of images, (n, latent)."""
        condition = self.condition(images)
        parts = [
            generation.encode(self.model, seen, None if condition is None else condition[rows]).cpu()
            for seen, rows in self.batches(images, size, progress)
        ]
        return torch.cat(parts) if parts else torch.empty(0, self.latent_dim)

    def images(self, codes: Tensor, condition: Tensor | None = None, size: int = 256) -> Tensor:
        """Mean images of codes (n, latent), under labels (n,) or attributes (n, k) where the model reads them."""
        parts = [
            generation.decode(
                self.model,
                codes[rows].to(self.device),
                None if condition is None else condition[rows].to(self.device),
            ).cpu()
            for rows in torch.arange(len(codes)).split(size)
        ]
        return torch.cat(parts) if parts else torch.empty(0, *self.info.shape)

    def reconstructed(self, images: Images, size: int = 256, progress: Progress = _silent) -> Tensor:
        """Images through the posterior's mean and back, (n, channels, height, width) in [0, 1]."""
        condition = self.condition(images)
        parts = [
            generation.reconstruct(self.model, seen, None if condition is None else condition[rows]).cpu()
            for seen, rows in self.batches(images, size, progress)
        ]
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

        Class folders get the numbers that their names have in the model, where it reads labels.

        Args:
            given: an image file, a folder or archive of images, a ``.npy`` or ``.npz`` file, or the name of a data set.
            folder: where local data sets lie.
            flag: what the images are called in messages.

        Raises:
            InputError: for what cannot be read, or does not fit.
        """
        text, path = str(given), Path(given).expanduser()
        named = f"{flag} {text!r}"
        channels, height, width = self.info.seen_shape
        resize = self.config.data.sizing.resize
        if path.suffix.lower()[1:] in ENDINGS and path.is_file():
            try:
                pixels = decode(path.read_bytes(), Rule(height, width, 1 if channels == 1 else 3, resize))
            except UnreadableError as problem:
                raise InputError(f"{named}: cannot be read, it is {problem}; give another image") from None
            return Own(self.fitting(Images(torch.from_numpy(pixels.copy())[None]), named), [path.name], path.parent)
        if is_array(text):
            images = load_set(text, folder).train
            return Own(self.fitting(images, named), [str(row) for row in range(len(images))], None)
        side = height if height == width else None
        loaded = load_set(text, folder, Opening(Sizing(side, resize=resize, colour="grey" if channels == 1 else "rgb")))
        names = list(loaded.names) or [str(row) for row in range(len(loaded.train))]
        root = path if path.is_dir() else None
        return Own(self.fitting(self._renumbered(loaded, named), named), names, root)

    def _renumbered(self, loaded: Loaded, named: str) -> Images:
        images, known = loaded.train, self.info.class_names
        if images.labels is None or self.model.num_classes is None or not known:
            return images
        for name in loaded.class_names:
            if name not in known:
                raise unknown(f"{named}: class", name, known)
        numbers = torch.tensor([known.index(name) for name in loaded.class_names])
        return dataclasses.replace(images, labels=numbers[images.labels])


@dataclass(frozen=True)
class Own:
    """Images that somebody gave to a trained model.

    Attributes:
        images: n of them, of the shape that the model reads.
        names: n file names within the folder or archive, or numbers.
        root: the folder that names are of; None where there is none.
    """

    images: Images
    names: Sequence[str]
    root: Path | None


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
