"""What `vaekit inspect` finds, against counts and pixels known beforehand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers_files import as_jpeg, photographs
from vaekit.config import set_flags
from vaekit.data.batches import Data
from vaekit.data.sources import load
from vaekit.inspection.advice import advise
from vaekit.inspection.inspect import Inspection, inspect
from vaekit.inspection.text import inspection_text
from vaekit.records import to_json
from vaekit.settings import preset


def bytes_of(images: torch.Tensor) -> np.ndarray:
    return (images.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs with planted copies: 3 test images are in training exactly, 4 nearly; 2 training images twice."""
    images = photographs(700)
    train, test = bytes_of(images[:600]), bytes_of(images[600:])
    test[:3] = train[10:13]
    test[3:7] = bytes_of(torch.stack([as_jpeg(image, 70) for image in images[20:24]]))
    train[400:402] = train[30:32]
    train[500], train[501] = 77, 90 + RNG.integers(0, 3, (32, 32, 3))
    labels = np.arange(600) % 3
    path = tmp_path_factory.mktemp("planted") / "planted.npz"
    np.savez(path, x_train=train, y_train=labels, x_test=test, y_test=np.zeros(100, int))
    return path


RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def found(planted: Path) -> Inspection:
    return inspect(Data(data=str(planted), validation=0))


def places(group: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(place["split"], place["image"]) for place in group]


def test_exact_copies_are_found_once_each(found: Inspection) -> None:
    record = found.record["duplicates"]
    groups = [places(group) for group in record["groups"]]
    assert groups == [
        *[[("train", 10 + k), ("test", k)] for k in range(3)],
        *[[("train", 30 + k), ("train", 400 + k)] for k in range(2)],
    ]
    assert (record["num_groups"], record["num_images"]) == (5, 10)


def test_near_copies_are_found_and_no_others(found: Inspection) -> None:
    record = found.record["near_duplicates"]
    pairs = {tuple(places([pair["first"], pair["second"]])) for pair in record["pairs"]}
    assert pairs == {(("train", 20 + k), ("test", 3 + k)) for k in range(4)}
    assert record["num_pairs"] == 4
    assert all(0.9 <= pair["correlation"] <= 1 for pair in record["pairs"])


def test_leakage_counts_images_of_the_held_out_split(found: Inspection) -> None:
    assert found.record["leakage"] == {"test_in_train": {"exact": 3, "near": 4, "fraction": 0.07}}
    assert any("7 of the test images are in the training images too" in w for w in found.record["warnings"])


def test_odd_images_are_named(found: Inspection) -> None:
    assert places(found.record["odd"]["even"]) == [("train", 500), ("train", 501)]
    assert found.record["odd"]["dark"] == found.record["odd"]["bright"] == []


def test_classes_are_counted_by_split(found: Inspection) -> None:
    assert found.record["classes"] == [
        {"name": str(label), "num_images": {"train": 200, "test": 100 if label == 0 else 0}} for label in range(3)
    ]


def test_values_are_numpys(planted: Path, found: Inspection) -> None:
    train = np.load(planted)["x_train"] / 255
    values = found.record["values"]
    np.testing.assert_allclose(values["mean"], train.mean((0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(values["std"], train.std((0, 1, 2)), rtol=1e-9)
    assert (values["min"], values["max"]) == (train.min(), train.max())
    assert values["black"] == pytest.approx((train == 0).mean())
    assert values["white"] == pytest.approx((train == 1).mean())
    assert values["levels"] == len(np.unique(train))
    test = np.load(planted)["x_test"] / 255
    np.testing.assert_allclose(found.record["test_values"]["mean"], test.mean((0, 1, 2)), rtol=1e-9)


def test_fractions_and_grey_colour_images(tmp_path: Path) -> None:
    images = photographs(60).permute(0, 2, 3, 1).numpy()
    images[:7] = images[:7].mean(-1, keepdims=True)
    np.save(tmp_path / "fractions.npy", images)
    record = inspect(str(tmp_path / "fractions.npy")).record
    held = record["values"]
    np.testing.assert_allclose(held["mean"], images.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(held["std"], images.std((0, 1, 2), dtype=np.float64), rtol=1e-5)
    assert record["grey_images"] == 7
    assert not record["whole_levels"]
    assert not any(advice["value"] == "discretized-logistic" for advice in record["suggestions"])


def test_every_place_shows_its_image() -> None:
    """Positions count the published images, whatever the split: checked against them."""
    found, published = inspect("digits"), load("digits", None).train
    split_of = found.album.split_of()
    index = torch.arange(0, len(found.album), 7)
    assert {split_of[i] for i in index.tolist()} == {"train", "val", "test"}
    where = torch.tensor([found.album.place(i)["image"] for i in index.tolist()])
    assert torch.equal(found.album.unit(index), published.unit(where))
    assert sum(part["num_images"] for part in found.record["splits"].values()) == 1797


def test_brightness_far_out(tmp_path: Path) -> None:
    images = (photographs(200, 16).mean(1) - 0.5) * 0.4 + 0.5
    images[3] = images[3] * 0.2
    images[9] = 1 - 0.2 * images[9]
    np.save(tmp_path / "a.npy", (images.numpy() * 255).astype(np.uint8))
    odd = inspect(Data(data=str(tmp_path / "a.npy"), validation=0)).record["odd"]
    assert [place["image"] for place in odd["dark"]] == [3]
    assert [place["image"] for place in odd["bright"]] == [9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes: JPEG and PNG of three sizes, a strip, and a file that is no image."""
    path = tmp_path_factory.mktemp("own") / "photos"
    images = bytes_of(photographs(40, 96))
    for number, image in enumerate(images):
        where = path / ("cats" if number % 2 else "dogs")
        where.mkdir(parents=True, exist_ok=True)
        side = (96, 80, 64)[number % 3]
        kind = "png" if number < 4 else "jpg"
        Image.fromarray(image[:side, :side]).save(where / f"{number:02}.{kind}")
    Image.fromarray(images[0][:20]).save(path / "cats" / "strip.jpg")
    Image.fromarray(images[1][..., 0]).save(path / "cats" / "grey.png")
    (path / "dogs" / "broken.jpg").write_bytes(b"no image")
    return path


def test_a_folder_is_described_by_its_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path))
    record = inspect(str(folder)).record
    files = record["files"]
    assert files["num_files"] == 43
    assert files["formats"] == {"JPEG": 37, "PNG": 5}
    assert files["modes"] == {"RGB": 41, "L": 1}
    assert sorted(map(tuple, files["sizes"])) == [(64, 64, 13), (80, 80, 13), (96, 20, 1), (96, 96, 15)]
    assert [file["file"] for file in files["extreme"]] == ["cats/strip.jpg"]
    assert [file["file"] for file in files["skipped"]] == ["dogs/broken.jpg"]
    assert record["num_images"] == 42
    assert [entry["name"] for entry in record["classes"]] == ["cats", "dogs"]
    assert "--image-size" in {advice["option"] for advice in record["suggestions"]}
    text = inspection_text(record)
    assert "cats/strip.jpg (96x20)" in text
    assert "dogs/broken.jpg (" in text


def test_a_folder_of_few_images_each_may_be_of_persons(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path))
    record = inspect(str(folder)).record
    assert "--group-by" not in {advice.option for advice in advise(record)}
    for entry in record["classes"]:
        entry["num_images"] = {"train": 2}
    assert [advice.value for advice in advise(record) if advice.option == "--group-by"] == ["folder"]


def test_notes_stand_on_lines_of_their_own(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A truncated file, whose header is whole, counts as left out; no other number contradicts it."""
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path))
    shutil.copytree(folder, tmp_path / "own")
    whole = (folder / "cats" / "05.jpg").read_bytes()
    (tmp_path / "own" / "cats" / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    record = inspect(str(tmp_path / "own")).record
    assert len(record["notes"]) > 1
    lines = inspection_text(record).splitlines()
    assert any(line.startswith("2 of 44 files were left out: ") for line in lines)
    assert sum("left out" in line for line in lines) == 1


def test_images_from_files_are_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path))
    found = inspect(Data(data=str(folder), validation=4))
    loaded = load(str(folder), None)
    for index in range(len(found.album)):
        place = found.album.place(index)
        own = torch.tensor([loaded.names.index(place["file"])])
        assert torch.equal(found.album.unit(torch.tensor([index])), loaded.train.unit(own))


def accepted(record: dict[str, Any]) -> None:
    """Every suggestion is one that `vaekit train` takes, beside the suggested preset."""
    start = next(advice["value"] for advice in record["suggestions"] if advice["option"] == "--preset")
    for advice in record["suggestions"]:
        if advice["option"] != "--preset":
            set_flags(preset(start), {advice["option"][2:].replace("-", "_"): advice["value"]})
        assert advice["reason"]
        assert not advice["reason"].endswith(".")


def test_suggestions_can_be_followed(found: Inspection, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path))
    np.save(tmp_path / "binary.npy", RNG.integers(0, 2, (50, 28, 28), dtype=np.uint8))
    binary = inspect(str(tmp_path / "binary.npy")).record
    for record in (found.record, binary, inspect("digits").record, inspect(str(folder)).record):
        accepted(record)
    assert {"--likelihood", "--binarization"} <= {advice["option"] for advice in binary["suggestions"]}
    likelihoods = [advice["value"] for advice in binary["suggestions"] if advice["option"] == "--likelihood"]
    assert likelihoods == ["bernoulli"]


def test_attributes_are_averaged(tmp_path: Path) -> None:
    values = np.array([[1.0, np.nan], [0.0, 4.0]] * 30)
    np.savez(
        tmp_path / "a.npz",
        images=bytes_of(photographs(60)),
        attributes=values,
        attribute_names=np.array(["smiling", "age"]),
    )
    record = inspect(str(tmp_path / "a.npz")).record
    assert record["attributes"] == [
        {"name": "smiling", "mean": 0.5, "known": 60},
        {"name": "age", "mean": 4.0, "known": 30},
    ]
    assert "smiling" in inspection_text(record)
    accepted(record)


def test_copies_in_one_folder_call_for_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty folders of near-copies: cut by splits unless told otherwise, which the warning says how to."""
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "cache"))
    for number, image in enumerate(photographs(60)):
        where = tmp_path / "photos" / f"scene{number // 2}"
        where.mkdir(parents=True, exist_ok=True)
        for name, shown in (("a", image), ("b", as_jpeg(image, 80))):
            Image.fromarray(bytes_of(shown[None])[0]).save(where / f"{number}{name}.png")
    loose = inspect(Data(data=str(tmp_path / "photos")))
    assert loose.record["leakage"]["test_in_train"]["near"] > 0
    assert any("keep folders whole with --group-by folder" in warning for warning in loose.record["warnings"])
    kept = inspect(Data(data=str(tmp_path / "photos"), group_by="folder"))
    assert kept.record["near_duplicates"]["num_pairs"] == 60
    assert all(leak["near"] == leak["exact"] == 0 for leak in kept.record["leakage"].values())
    assert kept.record["warnings"] == []


def test_the_record_is_json(found: Inspection) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert json.loads(to_json(found.record), parse_constant=refuse)["num_images"] == 700


def test_the_text_is_narrow_and_says_what_was_found(found: Inspection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = inspection_text(found.record)
    assert max(map(len, text.splitlines()[1:])) <= 80
    for words in (
        "700 images, 32x32 in colour",
        "train 10 = test 0",
        "nearly the same     4 pairs",
        " ~ test ",
        "3 with the same pixels and 4 nearly",
    ):
        assert words in text, words


def test_one_and_two_images_are_no_error(tmp_path: Path) -> None:
    for count in (1, 2):
        np.save(tmp_path / "a.npy", bytes_of(photographs(count)))
        found = inspect(str(tmp_path / "a.npy"))
        assert found.record["num_images"] == count
        inspection_text(found.record)


@pytest.mark.slow
def test_mnist_has_its_known_values_and_no_duplicates(data_folder: Path) -> None:
    if not (data_folder / "mnist").is_dir():
        pytest.skip("no mnist there")
    found = inspect("mnist", data_folder)
    assert found.record["values"]["mean"] == pytest.approx([0.1307], abs=5e-5)
    assert found.record["values"]["std"] == pytest.approx([0.3081], abs=5e-5)
    every = found.album.unit(torch.arange(70_000)).mul(255).round().byte().numpy()
    assert len({image.tobytes() for image in every}) == 70_000
    assert found.record["duplicates"]["num_groups"] == 0
    assert found.record["near_duplicates"]["num_pairs"] <= 3  # about one is allowed to chance; no two digits are copies
