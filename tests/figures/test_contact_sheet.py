"""Pictures of a data set."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers_files import photographs
from vaekit.data.batches import Data
from vaekit.figures.contact_sheet import contact_sheet, duplicate_sheet, inspection_figures
from vaekit.figures.style import png, style
from vaekit.inspection.inspect import Inspection, inspect


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """Forty images; one within training twice, one of the test images in training too, one of one colour."""
    images = (photographs(50).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    train, test = images[:40], images[40:]
    train[30], test[4], train[9] = train[8], train[7], 255
    path = tmp_path_factory.mktemp("contact") / "a.npz"
    np.savez(path, x_train=train, y_train=np.arange(40) % 2, x_test=test, y_test=np.zeros(10, int))
    return inspect(Data(data=str(path), validation=0))


def test_files_are_written_and_follow_from_the_data_alone(found: Inspection, tmp_path: Path) -> None:
    files = inspection_figures(found, tmp_path)
    assert [file.path.name for file in files] == ["contact-sheet.png", "duplicates.png", "odd.png"]
    before = [file.path.read_bytes() for file in files]
    assert [file.path.read_bytes() for file in inspection_figures(found, tmp_path)] == before


def test_clean_data_have_a_contact_sheet_only(tmp_path: Path) -> None:
    assert [file.path.name for file in inspection_figures(inspect("digits"), tmp_path)] == ["contact-sheet.png"]


def test_rows_are_classes(found: Inspection) -> None:
    with style():
        texts = [text.get_text() for text in contact_sheet(found).figure.texts]
    assert texts[1:] == ["0", "1"]
    assert "50 images" in texts[0]


def test_pairs_across_splits_come_first(found: Inspection) -> None:
    with style():
        drawn = duplicate_sheet(found)
    assert drawn is not None
    texts = [text.get_text() for text in drawn.figure.texts]
    assert "2 pairs" in texts[0]
    assert texts[1:5] == ["train", "test", "train", "train"]


def test_tiles_are_the_images(found: Inspection) -> None:
    """Each pixel of an image is a block of the picture: the picture holds both images of every pair."""
    with style():
        drawn = duplicate_sheet(found)
        assert drawn is not None
        with Image.open(io.BytesIO(png(drawn.figure))) as picture:
            page = np.asarray(picture.convert("RGB"))
    for index in (7, 44, 8, 30):
        tile = (found.album.unit(torch.tensor([index]))[0].permute(1, 2, 0) * 255).round().byte().numpy()
        scale = 4
        block = tile.repeat(scale, 0).repeat(scale, 1)
        corners = np.argwhere((page[: -len(block), : -len(block)] == block[0, 0]).all(-1))
        side = len(block)
        assert any(np.array_equal(page[y : y + side, x : x + side], block) for y, x in corners), index
