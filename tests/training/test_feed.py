"""Images of a step: the same whether they lie in memory or are fetched ahead from a mapped file."""

from __future__ import annotations

import platform
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import cases
from vaekit.data.batches import Data
from vaekit.data.images import Images, Splits
from vaekit.memory import fetch_ahead
from vaekit.noise import Noise
from vaekit.runs import Run
from vaekit.settings import configure
from vaekit.training.engine import resolve
from vaekit.training.feed import Resident, Streamed, feed
from vaekit.training.processes import Processes
from vaekit.training.reporting import Silent
from vaekit.training.train import seeded_model
from vaekit.training.trainer import Trainer

CPU = torch.device("cpu")


def mapped(images: Images, folder: Path) -> Images:
    """The same images with their pixels in a file, in another order, among others."""
    count = len(images)
    rows = torch.randperm(count + 5, generator=torch.Generator().manual_seed(1))[:count]
    pixels = np.full((count + 5, *images.pixels.shape[1:]), 77, np.uint8)
    pixels[rows.numpy()] = images.pixels.numpy()
    pixels.tofile(folder / "pixels")
    flat = torch.from_file(str(folder / "pixels"), shared=False, size=pixels.size, dtype=torch.uint8)
    return Images(flat.view(pixels.shape), images.labels, images.attributes, None, rows)


def order(step: int) -> torch.Tensor:
    return torch.arange(step * 3, step * 3 + 4) % 10


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose memory holds no set of images."""
    monkeypatch.setattr("vaekit.training.feed.physical_memory", lambda: 0)


def test_a_mapped_set_is_streamed_where_it_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = mapped(cases.random_images((3, 5, 4), 10), tmp_path)
    size = 10 * (3 * 5 * 4 + 8)  # pixels and labels
    for memory, kind in ((2 * size, Resident), (2 * size - 2, Streamed)):
        monkeypatch.setattr("vaekit.training.feed.physical_memory", lambda memory=memory: memory)
        assert isinstance(feed(large, order, CPU), kind)


@pytest.mark.usefixtures("little_memory")
def test_streamed_batches_are_those_of_memory(tmp_path: Path) -> None:
    images = cases.random_images((3, 5, 4), 10)
    stream = feed(mapped(images, tmp_path), order, CPU)
    assert isinstance(stream, Streamed)
    assert isinstance(feed(images, order, CPU), Resident)
    for step in (0, 1, 2, 7, 8, 3):  # in turn, then as after a resume
        index = order(step)
        stream.load(step)
        noise = Noise.from_seed(0, 10, "x")._replace(index=index)
        found, wanted = (Data().batch(source, index, noise) for source in (stream.images, images))
        assert torch.equal(found.target, wanted.target)
        assert torch.equal(found.condition, wanted.condition)
        assert torch.equal(found.index, wanted.index)
    stream.close()


def test_what_is_selected_from_a_mapped_set_is_no_copy(tmp_path: Path) -> None:
    images = cases.random_images((1, 4, 4), 12)
    large = mapped(images, tmp_path)
    some = torch.tensor([7, 2, 2, 11])
    part = large.select(some).select(torch.tensor([3, 0]))
    assert part.pixels.data_ptr() == large.pixels.data_ptr()
    assert torch.equal(part.unit(), images.unit(torch.tensor([11, 7])))
    assert torch.equal(part.unit(torch.tensor([1])), images.unit(torch.tensor([7])))
    assert torch.equal(part.labels, images.labels[[11, 7]])
    assert part.copied().pixels.shape[0] == 2 == len(part)


def test_an_error_while_fetching_reaches_the_step() -> None:
    def broken(step: int) -> torch.Tensor:
        if step == 2:
            raise OSError(5, "Input/output error")
        return order(step)

    images = cases.random_images((1, 4, 4), 10)
    stream = Streamed(images, broken, CPU)
    stream.load(0)
    stream.load(1)
    with pytest.raises(OSError, match="Input/output"):
        stream.load(2)
    stream.close()


def test_no_thread_is_left() -> None:
    stream = Streamed(cases.random_images((1, 4, 4), 10), order, CPU)
    stream.load(0)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "vaekit-images"]


def test_training_from_a_mapped_file_ends_with_the_same_bits(
    tmp_path: Path, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for name in ("memory", "mapped", "streamed"):
        if name == "streamed":
            monkeypatch.setattr("vaekit.training.feed.physical_memory", lambda: 0)
        train = digits.train if name == "memory" else mapped(digits.train, tmp_path)
        splits = Splits(digits.info, train, digits.val, digits.test)
        config = configure("cvae-onehot", data="digits", channels=(4,), dense=8, epochs=1, device="cpu", threads=1)
        model = seeded_model(config, digits.info)
        resolved = resolve(config.training, model)
        run = Run.create(tmp_path / name, config, digits.info, resolved)
        trainer = Trainer(run, splits, model, Processes(CPU), CPU, Silent())
        assert isinstance(trainer.feed, Streamed if name == "streamed" else Resident)
        trainer.fit()
        weights.append(trainer.weights())
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key
        assert torch.equal(value, weights[2][key]), key


def test_a_mapped_file_is_asked_for_and_unchanged(tmp_path: Path) -> None:
    images = cases.random_images((3, 32, 32), 50)
    large = mapped(images, tmp_path)
    assert fetch_ahead(large.pixels) == (platform.system() == "Linux")
    assert torch.equal(large.unit(), images.unit())
