"""The table of a restoring run: its rows, its numbers, and which images choose the parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import cases
from commands import good, refused
from vaekit.corruptions.blurs import Downsample, GaussianBlur
from vaekit.corruptions.chain import Chain
from vaekit.corruptions.jpeg import Jpeg
from vaekit.corruptions.masks import MaskPixels
from vaekit.corruptions.noises import GaussianNoise
from vaekit.corruptions.table import Clean, Corruption, DownUp
from vaekit.data.batches import Data
from vaekit.data.images import Images
from vaekit.errors import InputError
from vaekit.evaluation import restoration_table as module
from vaekit.evaluation.evaluate import evaluate
from vaekit.evaluation.restoration_table import MODEL, Methods, levels, restoration_table, scaled, table_rows
from vaekit.models.vae import VAEConfig
from vaekit.networks.mlp import MLP
from vaekit.runs import Run

Capture = pytest.CaptureFixture[str]
LEVELS: list[tuple[Corruption, list[Corruption]]] = [
    (DownUp(), [DownUp(2.0), DownUp(3.0), DownUp(4.0)]),
    (GaussianNoise(0.2), [GaussianNoise(value) for value in (0.1, 0.2, 0.2 * 1.5, 0.4)]),
    (Jpeg(20), [Jpeg(40), Jpeg(20), Jpeg(13), Jpeg(10)]),
    (Jpeg(1), [Jpeg(2), Jpeg(1)]),
    (MaskPixels(0.6), [MaskPixels(0.3), MaskPixels(0.6), MaskPixels(0.6 * 1.5)]),
    (GaussianBlur(0.0), [GaussianBlur(0.0)]),
    (Clean(), [Clean()]),
    (
        Chain("gaussian-blur:1,none,jpeg:40"),
        [
            Chain("gaussian-blur:0.5,none,jpeg:80"),
            Chain("gaussian-blur:1,none,jpeg:40"),
            Chain("gaussian-blur:1.5,none,jpeg:27"),
            Chain("gaussian-blur:2,none,jpeg:20"),
        ],
    ),
]


@pytest.mark.parametrize(("corruption", "expected"), LEVELS, ids=lambda value: str(value)[:30])
def test_levels_lie_around_the_strength_and_inside_the_range(corruption: Any, expected: list[Any]) -> None:
    assert [one for _, one in levels(corruption)] == expected
    for factor, one in levels(corruption):
        assert one == corruption or one == scaled(corruption, factor)


def make(info: Any = None) -> Any:
    torch.manual_seed(0)
    return VAEConfig(latent_dim=3, network=MLP(hidden=(9,))).build(info or cases.info((1, 8, 8))).eval()


def test_parameters_are_chosen_on_other_images_than_those_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    images, others = cases.random_images((1, 8, 8), 30), cases.random_images((1, 8, 8), 20, seed=1)
    chosen_on = []
    choose = Methods.choose

    def watched(data: Data, given: Images, seed: int = 0) -> Methods:
        chosen_on.append(given)
        return choose(data, given, seed)

    monkeypatch.setattr(Methods, "choose", watched)
    rows = table_rows(make(), Data(), cases.info((1, 8, 8)), images, others, [DownUp(), GaussianNoise()])
    assert [row.corruption for row in rows] == ["blur", "gaussian-noise"]
    assert all(given is others for given in chosen_on)
    assert not any(row.trained for row in rows)


def test_a_model_for_one_size_reads_inputs_of_another() -> None:
    info = replace(cases.info((1, 8, 8)), input_shape=(1, 4, 4))
    images, data = cases.random_images((1, 8, 8), 12), Data(corruption=Downsample())
    corruptions = [Downsample(2.0), Downsample(4.0), GaussianNoise()]
    for row in table_rows(make(info), data, info, images, images, corruptions):
        assert row.psnr_db[MODEL] > 0
        assert row.psnr_db.keys() == row.ssim.keys()
        assert row.trained == (row.strength == 2.0)
        if row.corruption == "downsample":
            assert row.psnr_db["bicubic"] == row.psnr_db["corrupted"]


def test_the_table_of_a_run(runs: dict[str, Run]) -> None:
    """Its trained row has the numbers of `evaluate`; the number of images at once changes nothing."""
    record = restoration_table(runs["denoising"].path, corruptions="gaussian-noise:0.2")
    assert (record["split"], record["num_images"], record["chosen_on"]) == ("test", 179, "validation")
    assert [(row["corruption"], row["strength"], row["trained"]) for row in record["rows"]] == [
        ("blur", 2.0, True),
        ("blur", 3.0, False),
        ("blur", 4.0, False),
        ("gaussian-noise", 0.2, False),
    ]
    measured = evaluate(runs["denoising"].path, num_importance_samples=1)
    row = record["rows"][0]
    assert row["psnr_db"]["model"] == pytest.approx(measured["psnr_db"], abs=1e-4)
    assert row["psnr_db"]["corrupted"] == pytest.approx(measured["input_psnr_db"], abs=1e-4)
    assert row["ssim"]["model"] == pytest.approx(measured["ssim"], abs=1e-5)
    assert row["ssim"]["corrupted"] == pytest.approx(measured["input_ssim"], abs=1e-5)
    assert restoration_table(runs["denoising"].path, "val", limit=9)["chosen_on"] == "training"


def test_where_it_is_refused(runs: dict[str, Run]) -> None:
    with pytest.raises(InputError, match="was trained without a corruption to undo; train one with --preset denoising"):
        restoration_table(runs["mlp"].path)
    assert restoration_table(runs["mlp"].path, corruptions="jpeg", limit=10)["rows"][0]["trained"] is False


def test_numbers_do_not_depend_on_the_images_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images, data = cases.random_images((1, 8, 8), 23), Data(corruption=GaussianNoise())
    info, model = cases.info((1, 8, 8)), make()
    methods = Methods.choose(data, images)
    whole = module.measured(model, info, data, images, methods)
    for size in (1, 7):
        for found, expected in zip(module.measured(model, info, data, images, methods, 0, size), whole, strict=True):
            assert found == pytest.approx(expected, abs=1e-5)


def test_denoise_prints_the_table(capsys: Capture, runs: dict[str, Run]) -> None:
    path = runs["denoising"].path
    words = ("denoise", path, "--table", "--limit", "40", "--corruptions", "jpeg:10")
    record = good(capsys, *words, "--json").record
    lines = good(capsys, *words).out.splitlines()
    assert lines[0] == f"{path}: 40 test images, mean PSNR in dB and SSIM (higher is better)"
    assert lines[2].split() == ["corruption", "corrupted", "median", "gaussian", "back-projection", "model"]
    shown = [line for line in lines[3:] if line.strip() and not line.startswith("*")]
    assert len(shown) == len(record["rows"]) == 4
    assert len({len(line) for line in shown}) == 1
    first, last = record["rows"][0], record["rows"][3]
    assert shown[0].startswith("  blur 2 *")
    assert f"{first['psnr_db']['model']:.2f}  {first['ssim']['model']:.3f}" in shown[0]
    assert shown[3].startswith("  jpeg 10 ")
    assert f"{last['psnr_db']['median']:.2f}  {last['ssim']['median']:.3f}" in shown[3]
    assert " - " in shown[3]


def test_wrong_words_with_and_without_the_table(capsys: Capture, runs: dict[str, Run]) -> None:
    path = runs["denoising"].path
    assert refused(capsys, "denoise", path, "--limit", "3", "--out", "x.png").endswith("add --table")
    sentence = refused(capsys, "denoise", path, "--table", "--out", "x.png")
    assert sentence == "--out 'x.png': the table measures a split and is printed; leave --out out"
    sentence = refused(capsys, "denoise", path, "--table", "--corruptions", "jpg:3")
    assert sentence == "--corruptions: 'jpg' is unknown; did you mean 'jpeg'?"


def test_parameters_are_chosen_on_images_from_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of a folder lie class after class: here the first half is flat, and only the others decide."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.full((30, 16, 16, 1), 0.5)
    checks = (torch.rand(30, 16, 16, 1, generator=generator) > 0.5).float()
    images, data = Images(torch.cat([flat, checks])), Data(corruption=GaussianNoise(0.05))
    monkeypatch.setattr(module, "_CHOOSE_ON", 30)
    chosen = Methods.choose(data, images).chosen
    assert chosen["gaussian"] < Methods.choose(data, Images(flat)).chosen["gaussian"]
