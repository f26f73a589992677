"""Where a step finds its images: all of them on the device, or fetched ahead batch by batch where they do not fit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data.images import Images
from vaekit.memory import fetch_ahead, physical_memory

_AHEAD = 4  # batches gathered before they are asked for
_SHARE = 0.5  # of a GPU's free memory, or of the machine's whole memory, that images may take


class Resident:
    """Images that are all on the device; a step picks its own by their positions."""

    def __init__(self, images: Images):
        self.images = images

    def load(self, step: int) -> None:
        """Make the images of a step ready."""

    def close(self) -> None:
        """Stop fetching."""


class Gathered:
    """The images of the present step alone, in the order of its batch; offers what a batch is made from."""

    def __init__(self) -> None:
        self.now: Images | None = None

    def _images(self) -> Images:
        assert self.now is not None
        return self.now

    def unit(self, index: Tensor) -> Tensor:
        return self._images().unit()

    def input_unit(self, index: Tensor) -> Tensor | None:
        return self._images().input_unit()

    def condition(self, index: Tensor) -> Tensor | None:
        now = self._images()
        return now.attributes if now.labels is None else now.labels


class Streamed:
    """Images too many for the device or for memory: a thread gathers the batches of the coming steps.

    On a GPU they cross from pinned memory into fixed buffers, which a captured graph reads.

    Args:
        images: n images in memory or mapped from a file, on the CPU.
        batch: the positions of the images of a step, int64 on the CPU.
        device: where the steps run.
    """

    def __init__(self, images: Images, batch: Callable[[int], Tensor], device: torch.device):
        self.source, self.batch, self.device = images, batch, device
        self.images = Gathered()
        self._ready: queue.Queue[tuple[int, Images | BaseException]] = queue.Queue(_AHEAD)
        self._next: int | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def load(self, step: int) -> None:
        """Make the images of a step ready; steps are asked for in turn, from any first one on."""
        if self._next != step:
            self.close()
            self._stop, self._ready = threading.Event(), queue.Queue(_AHEAD)
            self._thread = threading.Thread(
                target=self._fetch, args=(step, self._ready, self._stop), name="vaekit-images", daemon=True
            )
            self._thread.start()
        found = self._ready.get()[1]
        if isinstance(found, BaseException):
            raise found
        self._next = step + 1
        if self.device.type == "cpu":
            self.images.now = found
        elif self.images.now is None:
            self.images.now = found.to(self.device)
        else:
            for there, here in zip(_tensors(self.images.now), _tensors(found), strict=True):
                there.copy_(here, non_blocking=True)

    def close(self) -> None:
        """Stop fetching; another `load` starts again."""
        self._stop.set()
        self._next = None
        while self._thread is not None and self._thread.is_alive():
            try:
                self._ready.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)
        self._thread = None

    def _fetch(self, step: int, ready: queue.Queue[Any], stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                found: Images | BaseException = _gather(self.source, self.batch(step), self.device.type == "cuda")
            except BaseException as error:
                found = error
            ready.put((step, found))
            if isinstance(found, BaseException):
                return
            step += 1


def _tensors(images: Images) -> list[Tensor]:
    parts = (images.pixels, images.labels, images.attributes, images.inputs)
    return [part for part in parts if part is not None]


def _gather(images: Images, index: Tensor, pinned: bool) -> Images:
    """The images at `index`, copied on one thread: the others belong to the step that is running meanwhile."""
    rows = index if images.rows is None else images.rows.index_select(0, index)

    def take(pixels: Tensor | None) -> Tensor | None:
        if pixels is None:
            return None
        out = torch.empty((len(rows), *pixels.shape[1:]), dtype=pixels.dtype, pin_memory=pinned)
        np.take(
            pixels.numpy(), rows.numpy(), axis=0, out=out.numpy(), mode="clip"
        )  # "raise" would copy through a buffer
        return out

    pixels, inputs = take(images.pixels), take(images.inputs)
    assert pixels is not None
    labels, attributes = (None if part is None else part[index] for part in (images.labels, images.attributes))
    return Images(pixels, labels, attributes, inputs)


def feed(images: Images, batch: Callable[[int], Tensor], device: torch.device) -> Resident | Streamed:
    """How the steps on `device` get at `images`: resident where they fit, else streamed.

    A file that is mapped and fits into memory is read as if it lay there: the system is asked for all of it at once, and
    after the first pass it does. On two cores a thread that gathers batches costs about 5% of a step, which only a set
    larger than memory is worth.
    """
    size = sum(part[:1].numel() * part.element_size() * len(images) for part in _tensors(images))
    if device.type == "cpu":
        if images.rows is not None and size > _SHARE * physical_memory():
            return Streamed(images, batch, device)
        if images.rows is not None:
            fetch_ahead(images.pixels)
        return Resident(images)
    if size > _SHARE * torch.cuda.mem_get_info(device)[0]:
        return Streamed(images, batch, device)
    return Resident(images.to(device))
