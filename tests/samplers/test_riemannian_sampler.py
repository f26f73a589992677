"""The sampler of a riemannian model: its density by integration, its samples, its file and its refusals."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import vaekit
from commands import refused
from vaekit.models.metric import Kernels, Metric
from vaekit.noise import Noise
from vaekit.samplers.fitted import load_sampler
from vaekit.samplers.riemannian import MetricVolume, RiemannianSampler
from vaekit.training.reporting import Silent

CENTRES = torch.tensor([[0.0, 1.0], [3.0, -1.0], [-2.0, 0.5]])
ROOTS = torch.tensor([[[1.0, 0.0], [0.5, 1.5]], [[0.3, 0.0], [0.0, 1.0]], [[2.0, 0.0], [-0.8, 0.2]]])
METRIC = Metric((Kernels(CENTRES, ROOTS @ ROOTS.mT),), 0.9, 0.02)
LOC, SCALE = torch.tensor([0.5, 0.1]), torch.tensor([2.0, 0.8])
AXIS = torch.linspace(-14.0, 14.0, 281)
GRID = torch.stack(torch.meshgrid(AXIS, AXIS, indexing="ij"), -1).flatten(0, 1)


def density(steps: int) -> MetricVolume:
    found = MetricVolume(METRIC, LOC, SCALE, steps, 0.15)
    found.normalize(0)
    return found


def test_the_density_is_the_volume_in_a_window_and_integrates_to_one() -> None:
    found = density(0)
    log_p = found.log_prob(GRID).double()
    assert log_p.exp().sum().item() * 0.1**2 == pytest.approx(1.0, abs=0.02)
    volumes = torch.stack([METRIC.at(LOC + SCALE * code).inverse.det().sqrt() for code in GRID[::5003]])
    expected = volumes.log() - GRID[::5003].square().sum(-1) / 18.0
    torch.testing.assert_close((log_p[::5003] - expected).std(), torch.zeros(()).double(), rtol=0, atol=1e-5)


def test_chains_lead_from_the_proposal_to_the_density() -> None:
    """Second moments of 4,000 samples within 5 standard errors of those by integration; the start is far from them."""
    weights = density(0).log_prob(GRID).double().exp()
    mean = (weights / weights.sum()) @ GRID.double()
    second = (weights / weights.sum()) @ GRID.double().square()
    errors = []
    for steps in (0, 60):
        codes = density(steps).sample(Noise.from_seed(3, 4000)).double()
        first = (codes.mean(0) - mean).abs() / (codes.std(0) / math.sqrt(4000))
        squares = (codes.square().mean(0) - second).abs() / (codes.square().std(0) / math.sqrt(4000))
        errors.append(max(first.max().item(), squares.max().item()))
    assert errors[1] < 5.0 < errors[0]


def test_it_goes_through_its_file_and_every_sample_has_a_chain_of_its_own(tmp_path: Path) -> None:
    run = vaekit.train(
        tmp_path / "run", "mlp", data="digits", model="riemannian", network="mlp", hidden=(16,), metric_hidden=(8,),
        latent_dim=2, centroids=30, train_limit=200, epochs=1, batch_size=50, device="cpu", threads=1, observer=Silent(),
    )  # fmt: skip
    record = vaekit.fit_sampler(run.path, "riemannian", chain_steps=5)
    assert math.isfinite(record["log_density_nats"])
    fitted, (model, _, _) = load_sampler(run.path, "riemannian"), vaekit.load_model(run.path)
    (found,) = fitted.densities
    assert isinstance(found, MetricVolume)
    torch.testing.assert_close(found.centres, model.memory.centres)
    codes = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    expected = model.metric().at(codes).log_volume - ((codes - fitted.loc[0]) / fitted.scale[0]).square().sum(-1) / 18.0
    gaps = fitted.log_prob(codes) - expected
    torch.testing.assert_close(gaps, gaps[:1].expand(5), rtol=0, atol=1e-4)
    noise = Noise.from_seed(0, 9)
    torch.testing.assert_close(
        fitted.sample(noise._replace(index=noise.index[2:5])), fitted.sample(noise)[2:5], rtol=1e-3, atol=1e-3
    )
    assert vaekit.sample(model, 4, sampler=fitted).shape == (4, 1, 8, 8)


def test_a_model_without_a_metric_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = vaekit.train(
        tmp_path / "run", "mlp", data="digits", hidden=(8,), latent_dim=2, train_limit=64, validation=20, epochs=1,
        batch_size=32, device="cpu", threads=1, observer=Silent(),
    )  # fmt: skip
    said = refused(capsys, "fit-sampler", run.path, "--sampler", "riemannian")
    assert said.startswith("--sampler riemannian: draws by the metric of a model 'riemannian', and this model has none")
    assert not (run.path / "samplers").exists()
    with pytest.raises(vaekit.errors.InputError, match="--sampler riemannian"):
        RiemannianSampler().fit(torch.zeros(30, 2), 0)
