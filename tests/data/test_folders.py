"""Own images as data sets: shapes, classes, splits, groups, notes, and pairs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers_files import noise, numbered, saved, write_folder, write_tar, write_zip
from vaekit.data.batches import Data
from vaekit.data.folders import load_folder, load_pairs
from vaekit.data.images import Images
from vaekit.data.loaded import Loaded
from vaekit.data.sizing import Opening, Sizing
from vaekit.data.sources import load
from vaekit.data.splits import load_splits
from vaekit.errors import InputError

GREY = numbered(256)


def opened(path: Path, **sizing: object) -> Loaded:
    return load_folder(path, Opening(Sizing(**sizing), lambda what, fraction: None))  # type: ignore[arg-type]


def folder_of(path: Path, *names: str) -> Path:
    """A folder whose nth image is grey n."""
    return write_folder(path, {name: GREY[f"{n}.png"] for n, name in enumerate(names)})


def numbers(images: Images | None) -> list[int]:
    return [] if images is None else images.copied().pixels[:, 0, 0, 0].tolist()


# classes, groups, splits


def test_flat_folders_have_no_classes(tmp_path: Path) -> None:
    found = opened(folder_of(tmp_path / "f", "a1.png", "a2.png", "a10.png"))
    assert numbers(found.train) == [0, 1, 2]
    assert found.train.labels is None
    assert found.class_names == ()
    assert found.groups is None
    assert found.test is found.val is None
    assert list(found.names) == ["a1.png", "a2.png", "a10.png"]
    assert found.notes == ()


def test_sub_folders_are_classes_in_natural_order(tmp_path: Path) -> None:
    names = ["10/a.png", "9/a.png", "9/deep/b.png", "10/b.png", "100/c.png"]
    found = opened(folder_of(tmp_path / "f", *names))
    assert found.class_names == ("9", "10", "100")
    assert dict(zip(found.names, found.train.labels.tolist(), strict=True)) == {
        "9/a.png": 0,
        "9/deep/b.png": 0,
        "10/a.png": 1,
        "10/b.png": 1,
        "100/c.png": 2,
    }
    for number, name in zip(numbers(found.train), found.names, strict=True):
        assert names[number] == name
    groups = dict(zip(found.names, found.groups.tolist(), strict=True))
    assert groups["10/a.png"] == groups["10/b.png"]
    assert len(set(groups.values())) == 4  # 9 and 9/deep are two folders
    assert not found.grouped


def test_one_class_or_a_stray_image_mean_no_classes(tmp_path: Path) -> None:
    assert opened(folder_of(tmp_path / "one", "cats/1.png", "cats/2.png")).class_names == ()
    stray = opened(folder_of(tmp_path / "stray", "cats/1.png", "dogs/2.png", "3.png"))
    assert stray.class_names == ()
    assert stray.train.labels is None
    assert len(stray.train) == 3


@pytest.mark.parametrize(
    "words", [("train", "val", "test"), ("Training", "validation", "testing"), ("train", "valid", "")]
)
def test_official_splits(tmp_path: Path, words: tuple[str, str, str]) -> None:
    train, val, test = words
    names = [f"{train}/b/1.png", f"{train}/a/2.png", f"{train}/b/3.png", f"{val}/a/4.png"]
    names += [f"{test}/b/5.png", f"{test}/c/6.png"] if test else []
    found = opened(folder_of(tmp_path / "f", *names))
    assert found.class_names == (("a", "b", "c") if test else ("a", "b"))
    assert (numbers(found.train), found.train.labels.tolist()) == ([1, 0, 2], [0, 1, 1])
    assert (numbers(found.val), found.val.labels.tolist()) == ([3], [0])
    assert list(found.names) == [f"{train}/a/2.png", f"{train}/b/1.png", f"{train}/b/3.png"]
    assert len(found.groups) == 3
    if test:
        assert (numbers(found.test), found.test.labels.tolist()) == ([4, 5], [1, 2])
    else:
        assert found.test is None


def test_flat_splits_and_images_outside_of_them(tmp_path: Path) -> None:
    found = opened(folder_of(tmp_path / "f", "train/1.png", "train/2.png", "test/3.png", "preview.png", "more/4.png"))
    assert numbers(found.train) == [0, 1]
    assert numbers(found.test) == [2]
    assert found.class_names == ()
    assert found.notes == (
        "2 images outside of the folders test, train were left out: more/4.png (elsewhere), preview.png (elsewhere)",
    )


def test_unlabelled_test_images_beside_classes_are_left_out(tmp_path: Path) -> None:
    found = opened(folder_of(tmp_path / "f", "train/a/1.png", "train/b/2.png", "test/3.png"))
    assert found.class_names == ("a", "b")
    assert found.test is None
    assert "images of test lie in no folders of classes" in found.notes[0]


def test_folders_called_test_alone_are_classes(tmp_path: Path) -> None:
    assert opened(folder_of(tmp_path / "f", "test/1.png", "other/2.png")).class_names == ("other", "test")
    assert opened(folder_of(tmp_path / "g", "train/1.png", "other/2.png")).class_names == ("other", "train")


def test_folder_and_archives_give_the_same_pixels_labels_and_order(tmp_path: Path) -> None:
    names = [f"{split}/{kind}/{n}.jpg" for split in ("train", "test") for kind in ("x", "y") for n in (2, 10, 1)]
    files = {name: saved(noise(20, 24, seed=n), "JPEG") for n, name in enumerate(names)}
    first, *others = (
        opened(path)
        for path in (
            write_folder(tmp_path / "f", files),
            write_tar(tmp_path / "f.tar.gz", {f"wrap/{name}": files[name] for name in reversed(names)}, "w:gz"),
            write_zip(tmp_path / "f.zip", files),
        )
    )
    expected = [np.asarray(Image.open(io.BytesIO(files[name])).convert("RGB")) for name in first.names]
    assert np.array_equal(first.train.pixels, np.stack(expected))
    for other in others:
        assert torch.equal(first.train.pixels, other.train.pixels)
        assert torch.equal(first.test.pixels, other.test.pixels)
        assert torch.equal(first.train.labels, other.train.labels)
        assert list(first.names) == list(other.names)
        assert first.fingerprint == other.fingerprint


# shapes


def test_images_of_one_small_size_keep_it(tmp_path: Path) -> None:
    images = {f"{n}.png": saved(noise(30, 128, seed=n)) for n in range(3)}
    found = opened(write_folder(tmp_path / "f", images))
    assert found.train.shape == (3, 30, 128)
    assert np.array_equal(found.train.pixels[1], noise(30, 128, seed=1))
    assert opened(tmp_path / "f", image_size=16).train.shape == (3, 16, 16)


def test_images_of_many_or_large_sizes_become_64(tmp_path: Path) -> None:
    mixed = opened(write_folder(tmp_path / "f", {"1.png": saved(noise(30, 30)), "2.png": saved(noise(31, 30))}))
    assert mixed.train.shape == (3, 64, 64)
    assert mixed.notes == ("images of many sizes were brought to 64x64 (crop); --image-size chooses another size",)
    large = opened(write_folder(tmp_path / "g", {"1.png": saved(noise(30, 129))}))
    assert large.train.shape == (3, 64, 64)
    assert "larger than 128" in large.notes[0]
    damaged = opened(write_folder(tmp_path / "h", {"1.png": saved(noise(30, 30)), "2.png": b"text"}))
    assert damaged.train.shape == (3, 30, 30)  # what cannot be read has no say


def test_a_late_image_of_another_size_is_brought_to_that_of_the_sample(tmp_path: Path) -> None:
    images = {f"{n:03}.png": saved(noise(4, 4, seed=n)) for n in range(150)} | {"002.png": saved(noise(9, 4))}
    found = opened(write_folder(tmp_path / "f", images))
    assert found.train.shape == (3, 4, 4)
    assert np.array_equal(found.train.pixels[2], noise(9, 4)[2:6])


def test_grey_only_where_all_are(tmp_path: Path) -> None:
    images = {"1.png": saved(noise(8, 8, 1)), "2.png": saved(noise(8, 8, 1, 1))}
    folder = write_folder(tmp_path / "f", images)
    assert opened(folder).train.shape == (1, 8, 8)
    assert opened(folder, colour="rgb").train.shape == (3, 8, 8)
    write_folder(folder, {"3.png": saved(noise(8, 8))})
    assert opened(folder).train.shape == (3, 8, 8)
    assert opened(folder, colour="grey").train.shape == (1, 8, 8)


def test_left_out_files_are_counted_and_named(tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(20)]
    folder = write_folder(folder_of(tmp_path / "f", *names), {f"bad{n}.png": b"text" for n in range(7)})
    (note,) = opened(folder).notes
    assert note.startswith("7 of 27 files were left out: bad0.png (no image of a known format), bad1.png")
    assert note.endswith(" and 2 more")


def test_load_reads_folders_archives_and_says_what_is_missing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", "1.png", "2.png")
    quiet = Opening(progress=lambda what, fraction: None)
    for path in (folder, write_zip(tmp_path / "photos.zip", {"1.png": GREY["0.png"], "2.png": GREY["1.png"]})):
        assert numbers(load(str(path), None, quiet).train) == [0, 1]
    for name in (str(tmp_path / "gone"), "gone.tar", "gone.zip", "gone.tar.gz", "gone/"):
        with pytest.raises(InputError, match="does not exist; check the path"):
            load(name, None, quiet)


def test_splits_of_a_folder_keep_its_groups_and_notes(tmp_path: Path) -> None:
    names = [f"person{n // 3}/{n}.png" for n in range(60)]
    folder = write_folder(folder_of(tmp_path / "f", *names), {"person0/bad.png": b""})
    told: list[str] = []
    opening = Opening(progress=lambda what, fraction: None, note=told.append)
    splits = load_splits(Data(data=str(folder), group_by="folder"), None, opening)
    people = [{number // 3 for number in numbers(part)} for part in (splits.train, splits.val, splits.test)]
    assert sum(map(len, people)) == 20
    assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]
    assert told == [f"{folder}: 1 of 61 files were left out: person0/bad.png (empty)"]
    assert splits.info == load_splits(Data(data=str(folder), group_by="folder"), None, opening).info
    assert splits.info != load_splits(Data(data=str(folder)), None, opening).info


# pairs


def paired(noisy: Path, clean: Path, **sizing: object) -> Loaded:
    return load_pairs(noisy, clean, Opening(Sizing(**sizing), lambda what, fraction: None))  # type: ignore[arg-type]


def numbers_of_both(found: Images) -> list[tuple[int, int]]:
    own = found.copied()
    return list(zip(own.inputs[:, 0, 0, 0].tolist(), own.pixels[:, 0, 0, 0].tolist(), strict=True))


def test_pairs_are_matched_by_relative_name_without_ending(tmp_path: Path) -> None:
    noisy = {"a/1.png": GREY["1.png"], "b/1.png": GREY["2.png"], "a/10.png": GREY["3.png"], "alone.png": GREY["9.png"]}
    clean = {"b/1.bmp": GREY["102.png"], "a/1.png": GREY["101.png"], "a/10.jpeg": GREY["103.png"]}
    found = paired(write_folder(tmp_path / "noisy", noisy), write_tar(tmp_path / "clean.tar", clean))
    assert numbers_of_both(found.train) == [(1, 101), (3, 103), (2, 102)]
    assert found.class_names == ("a", "b")
    assert found.train.labels.tolist() == [0, 0, 1]
    assert found.notes == ("1 of 4 files were left out: alone.png (no clean image of this name)",)


def test_pairs_in_other_folders_are_matched_where_names_are_unique(tmp_path: Path) -> None:
    noisy = {"x/1.png": GREY["1.png"], "y/2.png": GREY["2.png"], "x/3.png": GREY["3.png"], "y/3.png": GREY["4.png"]}
    clean = {"1.png": GREY["101.png"], "2.png": GREY["102.png"], "3.png": GREY["103.png"]}
    found = paired(write_folder(tmp_path / "noisy", noisy), write_folder(tmp_path / "clean", clean))
    assert numbers_of_both(found.train) == [(1, 101), (2, 102)]
    assert "3 of 5 files were left out" in found.notes[0]


def test_official_splits_of_pairs(tmp_path: Path) -> None:
    names = ["train/1.png", "train/2.png", "test/3.png"]
    noisy, clean = folder_of(tmp_path / "noisy", *names), folder_of(tmp_path / "clean", *names)
    found = paired(noisy, clean)
    assert numbers_of_both(found.train) == [(0, 0), (1, 1)]
    assert numbers_of_both(found.test) == [(2, 2)]


def test_partners_keep_their_own_sizes_or_their_proportion(tmp_path: Path) -> None:
    def both(name: str, small: int, large: int) -> tuple[Path, Path]:
        noisy = {f"{n}.png": saved(noise(small, small, seed=n)) for n in range(3)}
        clean = {f"{n}.png": saved(noise(large, large, seed=n)) for n in range(3)}
        return write_folder(tmp_path / name / "noisy", noisy), write_folder(tmp_path / name / "clean", clean)

    def shapes(found: Loaded) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(found.train.inputs.shape[1:3]), tuple(found.train.pixels.shape[1:3])

    super_resolution = both("a", 16, 32)
    assert shapes(paired(*super_resolution)) == ((16, 16), (32, 32))
    assert shapes(paired(*super_resolution, image_size=24)) == ((12, 12), (24, 24))
    assert shapes(paired(*super_resolution, image_size=24, input_size=24)) == ((24, 24), (24, 24))
    assert shapes(paired(*both("b", 100, 400))) == ((16, 16), (64, 64))
    assert shapes(paired(*both("c", 150, 150))) == ((64, 64), (64, 64))


def test_pairs_that_do_not_fit_have_a_sentence(tmp_path: Path) -> None:
    noisy = folder_of(tmp_path / "noisy", "a.png", "b.png")
    other = folder_of(tmp_path / "other", "c.png", "d.png")
    with pytest.raises(InputError, match=r"^--target '.*other': no image there has the name of one in '.*noisy'"):
        paired(noisy, other)
    many = folder_of(tmp_path / "many", "a.png", *(f"x{n}.png" for n in range(11)))
    with pytest.raises(InputError, match=r"11 of .* images cannot be used: x0.png \(a clean image that no noisy one"):
        paired(noisy, folder_of(many, "b.png"))
    wide = write_folder(tmp_path / "wide", {"a.png": saved(noise(8, 16)), "b.png": GREY["1.png"]})
    found = paired(noisy, wide)
    assert "a.png (of other proportions than its partner: 8x8 and 16x8)" in found.notes[-1]


def test_target_and_input_size_on_the_command_line(tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(30)]
    noisy = write_folder(tmp_path / "noisy", {name: saved(noise(4, 4, seed=n)) for n, name in enumerate(names)})
    clean = write_folder(tmp_path / "clean", {name: saved(noise(8, 8, seed=n)) for n, name in enumerate(names)})
    splits = load_splits(Data(data=str(noisy), target=str(clean)), None)
    assert splits.info.shape == (3, 8, 8)
    assert splits.info.input_shape == (3, 4, 4)
    assert splits.train.inputs.shape[1:] == (4, 4, 3)
    with pytest.raises(InputError, match=r"^--target '.*clean': 'digits' is no folder"):
        load_splits(Data(data="digits", target=str(clean)), None)
    with pytest.raises(InputError, match=r"^--input-size 8: goes with pairs"):
        load_splits(Data(data=str(noisy), sizing=Sizing(input_size=8)), None)


# runs


def test_a_run_of_a_folder_is_resumed_and_evaluated_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaekit.evaluation.evaluate import evaluate
    from vaekit.training.reporting import Silent
    from vaekit.training.train import resume, train

    names = [f"{kind}/{n}.png" for kind in "ab" for n in range(40)]
    write_folder(tmp_path / "here/photos", {name: saved(noise(8, 8, seed=n)) for n, name in enumerate(names)})
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    settings = {"hidden": (8,), "latent_dim": 2, "batch_size": 16, "device": "cpu", "threads": 1, "observer": Silent()}
    run = train(tmp_path / "run", "mlp", data="photos", epochs=1, **settings)
    monkeypatch.chdir(tmp_path / "there")
    assert resume(run.path, observer=Silent()).metrics() == run.metrics()
    assert evaluate(run.path, num_importance_samples=2)["num_images"] == 8
    assert run.info.name == str(tmp_path / "here/photos")
    (tmp_path / "here/photos/a/0.png").write_bytes(saved(noise(8, 8, seed=99)))
    with pytest.raises(InputError, match="changed since the run began"):
        resume(run.path, observer=Silent())


# real files


def test_real_photographs_in_an_archive_and_unpacked(data_folder: Path, tmp_path: Path) -> None:
    archive = data_folder / "faces" / "lfw-deepfunneled-64.tar"
    if not archive.is_file():
        pytest.skip("no faces there")
    import tarfile

    with tarfile.open(archive) as tar:
        files = {}
        for member in tar:
            if member.isfile() and len(files) < 300:
                files[member.name] = tar.extractfile(member).read()
    folder = opened(write_folder(tmp_path / "f", files))
    again = opened(write_tar(tmp_path / "f.tar", files))
    expected = [np.asarray(Image.open(io.BytesIO(files[name])).convert("RGB")) for name in folder.names]
    assert np.array_equal(folder.train.pixels, np.stack(expected))
    assert torch.equal(folder.train.pixels, again.train.pixels)
    assert torch.equal(folder.train.labels, again.train.labels)
