"""What the explorer opens: a model file, a run, or a run that still trains and is followed from epoch to epoch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vaekit.data.download import data_folder
from vaekit.data.images import Images
from vaekit.data.splits import load_splits
from vaekit.errors import InputError
from vaekit.explorer.scene import Scene, most_points
from vaekit.records import growing
from vaekit.runs import Run
from vaekit.storage import load_unfinished
from vaekit.trained import Trained, load

POINTS = 10_000


class Opened:
    """A scene that follows its run.

    Args:
        path: a run folder or a model file.
        data_dir: folder of local data sets; None reads VAEKIT_DATA.
        points: most images on the map.
        images: own images to place on the map in place of those of the run's data; a path, or None.

    Attributes:
        scene: of the newest weights.
        version: counts them.

    Raises:
        InputError: when there is no model and no checkpoint, or own images cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        data_dir: str | os.PathLike[str] | None = None,
        points: int = POINTS,
        images: str | os.PathLike[str] | None = None,
    ):
        self.path, self.folder = Path(path), data_folder(data_dir)
        self.run = Run(path) if (self.path / "config.json").exists() else None
        self.version = 1
        self._seen = self._signature()
        trained = self._trained()
        limit = most_points(trained.latent_dim, points)
        self.note = ""
        found, split = self._images(trained) if images is None else (trained.read(images, self.folder).images, "own")
        self._found, self._split = None if found is None else found.spread(limit), split
        self.scene = self._scene(trained, self.version)

    def _images(self, trained: Trained) -> tuple[Images | None, str]:
        try:
            splits = load_splits(trained.config.data, self.folder)
        except InputError as problem:
            self.note = f"{problem}; the map shows samples of the prior in place of images"
            return None, "prior"
        return (splits.train, "training") if splits.val is None else (splits.val, "validation")

    def _trained(self) -> Trained:
        if self.run is None or self.run.model.exists():
            return load(self.path)
        return Trained(load_unfinished(self.run), self.run.config, self.run.info, self.path)

    def _scene(self, trained: Trained, version: int) -> Scene:
        return Scene(trained, self._found, self._split, {"version": version, "note": self.note, **self.training})

    def _signature(self) -> tuple[Any, ...]:
        """Changes with the weights."""
        if self.run is None:
            return ()
        found = []
        for file in (self.run.model, self.run.checkpoint):
            try:
                about = file.stat()
                found.append((about.st_mtime_ns, about.st_size, about.st_ino))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)

    @property
    def training(self) -> dict[str, Any]:
        """How far the training is, and its curves by epoch."""
        if self.run is None:
            return {"finished": True, "records": []}
        records = [
            {
                "epoch": record["epoch"],
                **{
                    split: {name: part.get(name) for name in ("elbo_nats", "rate_nats", "distortion_nats", "loss")}
                    for split in ("train", "val")
                    if (part := record.get(split)) is not None
                },
            }
            for record in self.run.metrics()
            if not growing(record)
        ]
        return {"finished": self.run.model.exists(), "records": records}

    def refreshed(self) -> bool:
        """Open the newest weights, where there are newer ones; whether there were.

        What is half written is not seen: files are replaced by a rename.
        """
        now = self._signature()
        if now == self._seen:
            return False
        scene = self._scene(self._trained(), self.version + 1)
        scene.description  # noqa: B018  # computed here, not by the first who asks
        self.scene, self._seen, self.version = scene, now, self.version + 1
        return True
