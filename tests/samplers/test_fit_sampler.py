"""Samplers of trained runs: files, commands, labels and refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import vaekit
from commands import good, refused
from vaekit.errors import InputError
from vaekit.latents.gaussian import GaussianPosterior
from vaekit.networks.conditioning import hide
from vaekit.noise import Noise
from vaekit.runs import Run
from vaekit.samplers.fit import codes_of
from vaekit.samplers.fitted import FittedSampler, fit, load_sampler
from vaekit.samplers.gaussians import GaussianSampler, MixtureSampler
from vaekit.samplers.table import SAMPLERS
from vaekit.storage import load_model
from vaekit.training.reporting import Silent
from vaekit.training.train import train

Capture = pytest.CaptureFixture[str]
QUICK: dict[str, dict[str, Any]] = {
    "flow": {"fit_epochs": 2, "flow_hidden": (16,), "flow_transforms": 1},
    "two-stage": {"fit_epochs": 2, "second_hidden": (16,)},
    "mixture": {"components": 3},
}


def trained(folder: Path, **given: Any) -> Run:
    return train(
        folder / "run", "mlp", data="digits", hidden=(16,), latent_dim=3, epochs=2, batch_size=64, train_limit=600,
        device="cpu", threads=1, observer=Silent(), **given,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("sampled"))


@pytest.fixture(scope="module")
def by_label(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("labelled"), conditioning="onehot", label_dropout=0.2)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "riemannian"])
def test_a_sampler_goes_through_its_file(name: str, run: Run) -> None:
    record = vaekit.fit_sampler(run.path, name, **QUICK.get(name, {}))
    assert record["file"] == str(run.path / "samplers" / f"{name}.safetensors")
    assert (record["num_codes"], record["num_held_out"], record["held_out"]) == (600, 161, "val")
    first = Path(record["file"]).read_bytes()
    fitted = load_sampler(run.path, name)
    model, config, _ = load_model(run.path)
    val = vaekit.data.splits.load_splits(config.data, None).val
    codes, labels = codes_of(model, config.data, val, 0, "val")
    assert labels is None
    assert fitted.log_prob(codes).double().mean().item() == pytest.approx(record["log_density_nats"], abs=1e-6)
    under_prior = model.prior_given(None).log_prob(codes).double().mean().item()
    assert record["prior_log_density_nats"] == pytest.approx(under_prior, abs=1e-6)
    assert vaekit.fit_sampler(run.path, name, **QUICK.get(name, {})) == record
    assert Path(record["file"]).read_bytes() == first
    images = vaekit.sample(model, 9, sampler=fitted)
    torch.testing.assert_close(vaekit.sample(model, 4, sampler=fitted), images[:4])
    assert not torch.allclose(vaekit.sample(model, 9, sampler=fitted, seed=1), images)
    assert not torch.allclose(vaekit.sample(model, 9), images)
    same = vaekit.sample(model, 9, sampler=fitted, temperature=0.0)
    torch.testing.assert_close(same, same[:1].expand_as(same))


def test_codes_are_samples_of_the_posterior_with_noise_of_their_split(run: Run) -> None:
    """Over 600 images: standardized by their posteriors they have variance 1, within 4 standard errors."""
    model, config, _ = load_model(run.path)
    images = vaekit.data.splits.load_splits(config.data, None).train
    codes, _ = codes_of(model, config.data, images, 0, "train")
    with torch.no_grad():
        q = model.encode(images.unit())
    standard = (codes - q.loc) / q.scale
    assert abs(standard.var().item() - 1.0) < 4 * math.sqrt(2 / standard.numel())
    other, _ = codes_of(model, config.data, images, 0, "val")
    shared = torch.corrcoef(torch.stack([standard.flatten(), ((other - q.loc) / q.scale).flatten()]))[0, 1]
    assert abs(shared.item()) < 4 / math.sqrt(standard.numel())


def test_the_codes_of_an_autoencoder_are_its_own(tmp_path: Path) -> None:
    run = trained(tmp_path, posterior="deterministic", objective="autoencoder")
    model, config, _ = load_model(run.path)
    images = vaekit.data.splits.load_splits(config.data, None).train
    codes, _ = codes_of(model, config.data, images, 0, "train")
    torch.testing.assert_close(codes, vaekit.generation.encode(model, images.unit()))
    record = vaekit.fit_sampler(run.path)
    assert record["log_density_nats"] > record["prior_log_density_nats"]


def test_a_density_for_each_label(by_label: Run, capsys: Capture, folder: Path) -> None:
    vaekit.fit_sampler(by_label.path, "gaussian")
    fitted = load_sampler(by_label.path, "gaussian")
    model, config, _ = load_model(by_label.path)
    images = vaekit.data.splits.load_splits(config.data, None).train
    codes, labels = codes_of(model, config.data, images, 0, "train")
    assert labels is not None
    assert fitted.loc.shape == (10, 3)
    for label in range(10):
        torch.testing.assert_close(fitted.loc[label], codes[labels == label].mean(0))
        assert fitted.counts.by_label[label] == int((labels == label).sum())
    assert vaekit.sample(model, 12, sampler=fitted).shape == (12, 1, 8, 8)
    good(capsys, "sample", by_label.path, "--sampler", "gaussian", "--label", "3", "--out", "threes.png")
    good(capsys, "sample", by_label.path, "--sampler", "gaussian", "--label", "unknown", "--out", "any.png")


def test_an_unknown_label_is_drawn_as_often_as_images_have_it() -> None:
    """Codes far apart by label; shares of 2,000 samples within 4 standard deviations."""
    labels = (torch.arange(400) % 4 == 0).long()
    codes = 10.0 * labels[:, None] + torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    fitted = fit(GaussianSampler(), codes, labels, ("common", "rare"), 0)
    noise = Noise.from_seed(0, 2000)
    drawn = fitted.sample(noise, torch.full((2000,), -1))
    share = (drawn[:, 0] > 5.0).float().mean().item()
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 2000)
    ones = fitted.sample(noise, torch.ones(2000, dtype=torch.int64))
    assert (ones[:, 0] > 5.0).all()
    mixed = fitted.sample(noise, torch.arange(2000) % 2)
    assert torch.equal(mixed[1::2], ones[1::2])
    with pytest.raises(InputError, match="was fitted label by label and was given no labels"):
        fitted.sample(noise)


def test_densities_are_those_of_codes_in_their_own_units() -> None:
    """A Gaussian fitted to stretched codes has the density of the stretched Gaussian."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(500, 2, generator=generator) * torch.tensor([0.01, 30.0]) + torch.tensor([5.0, -70.0])
    fitted: FittedSampler = fit(GaussianSampler(), codes, None, (), 0)
    covariance = torch.cov(codes.double().T, correction=0)
    expected = torch.distributions.MultivariateNormal(codes.double().mean(0), covariance).log_prob(codes.double())
    torch.testing.assert_close(fitted.log_prob(codes).double(), expected, rtol=1e-3, atol=1e-3)


def test_a_latent_that_never_changes_stays_where_it_is() -> None:
    codes = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    codes[:, 1] = 7.0
    drawn = fit(GaussianSampler(), codes, None, (), 0).sample(Noise.from_seed(0, 50))
    torch.testing.assert_close(drawn[:, 1], torch.full((50,), 7.0), rtol=0, atol=0.01)


def test_without_validation_a_tenth_of_the_training_codes_is_left_out(tmp_path: Path) -> None:
    record = vaekit.fit_sampler(trained(tmp_path, validation=0).path, "gaussian")
    assert (record["num_codes"], record["num_held_out"], record["held_out"]) == (540, 60, "train")


def test_the_verbs(run: Run, capsys: Capture, folder: Path) -> None:
    words = ["fit-sampler", run.path, "--sampler", "mixture", "--components", "2", "--limit", "100"]
    answer = good(capsys, *words)
    assert answer.out.splitlines()[0].endswith("mixture.safetensors")
    assert "codes of 100 training images" in answer.out
    assert "under the prior" in answer.out
    record = good(capsys, *words, "--json").record
    assert record["num_codes"] == 100
    assert len(load_sampler(run.path, "mixture").densities[0].loc) == 2
    good(capsys, "sample", run.path, "--sampler", "mixture", "--count", "5", "--out", "new.npy")
    first = Path("new.npy").read_bytes()
    good(capsys, "sample", run.model, "--sampler", "mixture", "--count", "5", "--out", "new.npy")
    assert Path("new.npy").read_bytes() == first
    good(capsys, "sample", run.path, "--count", "5", "--out", "new.npy")
    assert Path("new.npy").read_bytes() != first


def test_what_is_wrong_is_said_in_a_sentence(run: Run, capsys: Capture, folder: Path) -> None:
    path = run.path
    missing = path / "samplers" / "kernel-density.safetensors"
    missing.unlink(missing_ok=True)
    words = ["sample", path, "--out", "x.png", "--sampler"]
    assert refused(capsys, *words, "kernel-density") == (
        f"run {str(path)!r} has no sampler 'kernel-density' yet; fit it with vaekit fit-sampler {path} "
        "--sampler kernel-density"
    )
    assert refused(capsys, *words, "mixtur") == "sampler 'mixtur' is unknown; did you mean 'mixture'?"
    assert "is unknown" in refused(capsys, "fit-sampler", path, "--sampler", "gmm")
    assert "belongs to --sampler" in refused(capsys, "fit-sampler", path, "--bandwidth", "1")
    assert "is not a whole number" in refused(capsys, "fit-sampler", path, "--components", "many")
    assert "too few" in refused(capsys, "fit-sampler", path, "--limit", "10")
    missing.write_bytes(b"nothing")
    assert "is not a sampler of vaekit" in refused(capsys, *words, "kernel-density")
    missing.unlink()


def test_a_sampler_of_other_weights_is_refused(tmp_path: Path) -> None:
    run = trained(tmp_path)
    vaekit.fit_sampler(run.path, "gaussian")
    model, config, info = load_model(run.path)
    weights = {name: value + 0.1 for name, value in model.state_dict().items()}
    vaekit.storage.save_model(run.model, model, config, info, weights)
    with pytest.raises(InputError, match="fitted to other weights than the model has now; fit it with vaekit fit-sam"):
        load_sampler(run.path, "gaussian")


def test_a_model_that_reads_attributes_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaekit.models.vae.VAEModel.num_attributes", 3)
    with pytest.raises(InputError, match="the model reads attributes, and a sampler is fitted to all codes or label"):
        vaekit.fit_sampler(run.path)


def test_codes_on_a_sphere_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GaussianPosterior, "space", "sphere")
    with pytest.raises(InputError, match="codes lie on a sphere, and samplers are fitted to vectors"):
        vaekit.fit_sampler(run.path)


def test_a_class_with_too_few_images_is_named() -> None:
    codes, labels = torch.randn(60, 2), (torch.arange(60) >= 50).long()
    with pytest.raises(
        InputError, match="10 codes of class 'rare' are too few to fit a sampler to; it takes 20 images"
    ):
        fit(GaussianSampler(), codes, labels, ("common", "rare"), 0)


def test_labels_that_training_was_not_told_are_not_fitted_to(tmp_path: Path) -> None:
    run = trained(tmp_path, conditioning="onehot", labelled=0.7)
    model, config, _ = load_model(run.path)
    train = vaekit.data.splits.load_splits(config.data, None).train
    known = hide(train.labels, 0.0, Noise.from_seed(3, len(train)), 0.7) >= 0  # as in every step of a training
    record = vaekit.fit_sampler(run.path, "mixture", components=1)
    assert record["num_codes"] == known.sum() < 500
    fitted = load_sampler(run.path, "mixture")
    codes, labels = codes_of(model, config.data, train.select(known.nonzero()[:, 0]), 0, "train")
    alone = fit(MixtureSampler(components=1), codes, labels, tuple("0123456789"), 0, model)
    assert torch.equal(fitted.log_prob(codes, labels), alone.log_prob(codes, labels))
