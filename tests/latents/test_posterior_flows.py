"""Flow posteriors against the truth: densities, remembered and recomputed, gradients, and whole runs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import cases
import vaekit
from helpers_run import interrupted_at
from vaekit.data.batches import Batch
from vaekit.errors import InputError, RunError
from vaekit.generation import encode
from vaekit.latents.flows import Flow
from vaekit.latents.gaussian import DiagonalGaussianHead
from vaekit.latents.posterior_flows import MafPosterior, SplinePosterior
from vaekit.latents.table import POSTERIORS
from vaekit.models.vae import VAEConfig
from vaekit.networks.conditioning import OneHot
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.probability.distributions import DiagonalGaussian, center_of, draw
from vaekit.training.reporting import Silent
from vaekit.training.train import train

FLOWS = ["planar", "radial", "iaf", "maf", "spline"]
INVERTIBLE = ["iaf", "maf", "spline"]
FEATURES = 4


def settings(name: str) -> dict[str, Any]:
    return {"flow_transforms": 2} | ({} if name in ("planar", "radial") else {"flow_hidden": (9,)})


def bent(name: str, num_latents: int = 2, stir: float = 0.6, **given: Any) -> nn.Module:
    """A head whose transforms are far from the identity."""
    torch.manual_seed(0)
    head = POSTERIORS[name](**(settings(name) | given)).build(FEATURES, num_latents)
    with torch.no_grad():
        for parameter in head.steps.parameters():
            parameter.add_(stir * torch.randn(parameter.shape))
    return head


def features(count: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(1))


VARIANTS = [
    ("iaf", {}),
    ("iaf", {"flow_amortized": False}),
    ("maf", {}),
    ("maf", {"flow_passes": 2, "flow_amortized": False}),
    ("spline", {"flow_bins": 5}),
    ("spline", {"flow_bins": 3, "flow_passes": None}),
    ("spline", {"flow_bins": 3, "flow_amortized": False}),
]


@pytest.mark.parametrize(("name", "given"), VARIANTS)
def test_density_integrates_to_one(name: str, given: dict[str, Any]) -> None:
    q = bent(name, stir=0.3, **given)(features(1, scale=0.5))
    with torch.no_grad():
        sample = draw(q, Noise.from_seed(0, 1), "latent", (4000,))
        low, high = sample.amin((0, 1)) - 1.5, sample.amax((0, 1)) + 1.5
        axes = [torch.linspace(a, b, 160) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
        cell = math.prod((axis[1] - axis[0]).item() for axis in axes)
        mass = q.log_prob(torch.cartesian_prod(*axes)[:, None]).double().exp().sum() * cell
    assert mass.item() == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("amortized", [True, False])
@pytest.mark.parametrize("name", FLOWS)
def test_density_is_that_of_the_change_of_variables(name: str, amortized: bool) -> None:
    """log q(z) = log N(noise; 0, I) - log |det dz/dnoise|, by the Jacobian of the whole draw."""
    head = bent(name, 3, flow_amortized=amortized).double()
    given, noise = features(4).double(), Noise.from_seed(0, 4)
    q = head(given)
    assert isinstance(q, Flow)
    standard = noise.normal("latent", (3,)).double()
    z = draw(q, noise, "latent")
    for image in range(4):
        alone = head(given[image : image + 1])

        def place(standard: Tensor, alone: Flow = alone) -> Tensor:
            return alone.transform.inv(alone.base.loc + alone.base.scale * standard)[0]

        torch.testing.assert_close(place(standard[image]), z[image], rtol=1e-6, atol=1e-6)
        jacobian = torch.autograd.functional.jacobian(place, standard[image])
        density = (
            -0.5 * (standard[image].square() + math.log(2 * math.pi)).sum() - torch.linalg.slogdet(jacobian).logabsdet
        )
        torch.testing.assert_close(q.log_prob(z)[image], density, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FLOWS)
def test_sampler_and_density_fit_together(name: str) -> None:
    """E_q[r(z) / q(z)] = 1 for a density r that q covers; 4 standard errors."""
    q = bent(name, stir=0.3)(features(1))
    with torch.no_grad():
        z = draw(q, Noise.from_seed(0, 1), "latent", (40000,))
        narrow = DiagonalGaussian(z.mean(0), (0.4 * z.std(0)).log())
        weight = (narrow.log_prob(z) - q.log_prob(z)).exp()
    error = weight.std().item() / math.sqrt(len(weight))
    assert error < 0.02
    assert weight.mean().item() == pytest.approx(1.0, abs=4 * error)


@pytest.mark.parametrize("num_latents", [1, 2, 20])
@pytest.mark.parametrize("name", INVERTIBLE)
def test_the_remembered_density_is_the_recomputed_one(name: str, num_latents: int) -> None:
    q = bent(name, num_latents, stir=0.2)(features(5))
    z = draw(q, Noise.from_seed(0, 5), "latent", (3,))
    torch.testing.assert_close(q.log_prob(z.clone()), q.log_prob(z), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["planar", "radial"])
def test_what_has_no_inverse_says_so(name: str) -> None:
    head = bent(name)
    q = head(features(3))
    z = draw(q, Noise.from_seed(0, 3), "latent")
    with pytest.raises(InputError) as caught:
        q.log_prob(z.detach())
    assert str(caught.value) == (
        f"posterior '{name}' has no inverse in closed form, so its density is known only where it drew; "
        "choose --posterior iaf, maf or spline"
    )
    assert "path" not in model(name).provides
    assert all("path" in model(other).provides for other in INVERTIBLE)


def model(name: str, latents: int = 3, **given: Any) -> Any:
    torch.manual_seed(0)
    entry = POSTERIORS[name](**(settings(name) | given))
    return VAEConfig(latent_dim=latents, network=MLP(hidden=(9,)), posterior=entry).build(cases.info((1, 8, 8)))


@pytest.mark.parametrize("name", FLOWS)
def test_it_starts_near_a_gaussian(name: str) -> None:
    """The draw differs from one of the Gaussian by little; of IAF, whose gates begin at sigmoid(2), by that factor."""
    torch.manual_seed(0)
    head = POSTERIORS[name]().build(16, 8)
    given = torch.randn(200, 16)
    q, gaussian = head(given), head.gaussian(given)
    noise = Noise.from_seed(0, 200)
    z, plain = draw(q, noise, "latent"), draw(gaussian, noise, "latent")
    gate = torch.sigmoid(torch.tensor(2.0)) ** len(head.steps) if name == "iaf" else 1.0
    assert (z - gate * plain).abs().mean() < 0.05
    assert (z - gate * plain).abs().mean() > 1e-5
    expected = gaussian.log_prob(plain) - 8 * math.log(gate)
    assert (q.log_prob(z) - expected).abs().mean() < 0.15


@pytest.mark.parametrize("name", FLOWS)
def test_no_transforms_leave_the_gaussian(name: str) -> None:
    head = POSTERIORS[name](flow_transforms=0).build(FEATURES, 3)
    assert isinstance(head, DiagonalGaussianHead)
    assert {"diagonal", "rate_by_dimension"} <= model(name, flow_transforms=0).provides
    assert not {"diagonal", "rate_by_dimension"} & model(name).provides


@pytest.mark.parametrize("name", FLOWS)
def test_parameters_depend_on_the_image_where_they_are_amortized(name: str) -> None:
    """With equal means and scales, two images have equal posteriors only where the flow is shared."""
    for amortized in (True, False):
        head = bent(name, 3, flow_amortized=amortized)
        with torch.no_grad():
            head.gaussian.map.weight.zero_()
        q = head(features(1).expand(2, -1) * torch.tensor([[1.0], [-1.0]]))
        first, second = q.transform.inv(torch.ones(2, 3))
        assert torch.allclose(first, second) == (not amortized)


@pytest.mark.parametrize("sample_shape", [(5,), (2, 3)])
@pytest.mark.parametrize("name", FLOWS)
def test_samples_in_chunks_are_those_at_once(name: str, sample_shape: tuple[int, ...]) -> None:
    """And an image alone gets what it gets among others."""
    head, given, noise = bent(name, 3), features(4), Noise.from_seed(0, 4)
    q = head(given)
    z = draw(q, noise, "latent", sample_shape)
    assert z.shape == (*sample_shape, 4, 3)
    assert q.log_prob(z).shape == (*sample_shape, 4)
    flat = z.flatten(0, -3)
    for first in range(0, len(flat), 2):
        count = min(2, len(flat) - first)
        again = head(given)
        part = draw(again, noise._replace(first_sample=first), "latent", (count,))
        torch.testing.assert_close(part, flat[first : first + count], rtol=1e-4, atol=1e-5)
        scored = q.log_prob(z).flatten(0, -2)[first : first + count]
        torch.testing.assert_close(again.log_prob(part), scored, rtol=1e-4, atol=1e-4)
    alone = draw(head(given[2:3]), noise._replace(index=noise.index[2:3]), "latent", sample_shape)
    torch.testing.assert_close(alone, z[..., 2:3, :], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FLOWS)
def test_large_features_do_not_overflow(name: str) -> None:
    torch.manual_seed(0)
    head = POSTERIORS[name](flow_transforms=3).build(FEATURES, 64)
    with torch.no_grad():
        for parameter in head.steps.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        head.gaussian.map.weight.mul_(0.1)
    q = head(features(8, scale=100.0))
    z = draw(q, Noise.from_seed(0, 8), "latent")
    loss = q.log_prob(z) - DiagonalGaussian(torch.zeros(64), torch.zeros(64)).log_prob(z)
    assert loss.isfinite().all()
    loss.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@pytest.mark.parametrize("name", FLOWS)
def test_autocast_changes_nothing(name: str) -> None:
    head, given, noise = bent(name, 3), features(4), Noise.from_seed(0, 4)
    q = head(given)
    expected = draw(q, noise, "latent")
    with torch.autocast("cpu", torch.bfloat16):
        z = draw(q, noise, "latent")
        assert torch.equal(z, expected)
        assert torch.equal(q.log_prob(z), q.log_prob(expected))
        if name in INVERTIBLE:
            torch.testing.assert_close(q.log_prob(z.clone()), q.log_prob(z), rtol=1e-4, atol=1e-4)


SLOPES = [*VARIANTS, ("maf", {"flow_passes": 2})]


@pytest.mark.parametrize(("name", "given"), SLOPES)
def test_path_gradient_is_the_whole_one_without_the_score(name: str, given: dict[str, Any]) -> None:
    """d log w = path + score; the score is the derivative of -log q at a fixed value."""
    found = model(name, **given)
    with torch.no_grad():
        for parameter in found.posterior.steps.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    parameters = list(found.posterior.parameters())
    batch = cases.plain_batch(torch.rand(6, 1, 8, 8))
    result = found.draw(batch, (2,), Noise.from_seed(0, 6))

    def slope(value: Tensor) -> Tensor:
        gradients = torch.autograd.grad(value.sum(), parameters, retain_graph=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in gradients])

    (latent,) = result.latents
    total, score = slope(result.log_w), slope(-latent.posterior.log_prob(latent.value.detach()))
    path = slope(result.rescore(path_only=True).log_w)
    assert score.abs().max() > 0.1
    torch.testing.assert_close(path, total - score, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_the_score_is_zero_on_average(name: str) -> None:
    """E_q[d log q(z) / d parameters at fixed z] = 0, along 5 directions; 4 standard errors over 50 groups of draws."""
    head, groups = bent(name, 2, stir=0.2), 50
    q = head(features(1))
    with torch.no_grad():
        drawn = draw(q, Noise.from_seed(3, 1), "latent", (groups * 200,)).view(groups, 200, 1, 2)
    parameters = list(head.parameters())
    size = sum(parameter.numel() for parameter in parameters)
    directions = torch.randn(5, size, generator=torch.Generator().manual_seed(7))
    slopes = []
    for z in drawn:
        gradients = torch.autograd.grad(q.log_prob(z).mean(), parameters, retain_graph=True)
        slopes.append(directions @ torch.cat([gradient.flatten() for gradient in gradients]))
    scores = torch.stack(slopes)
    error = scores.std(0) / math.sqrt(groups)
    assert (error > 1e-3).all()
    assert (scores.mean(0).abs() < 4 * error).all()


@pytest.mark.parametrize("name", FLOWS)
def test_a_copy_is_equal_and_apart(name: str) -> None:
    head, given, noise = bent(name, 3), features(4), Noise.from_seed(0, 4)
    twin = copy.deepcopy(head)
    fresh = POSTERIORS[name](**settings(name)).build(FEATURES, 3)
    fresh.load_state_dict(head.state_dict())
    z = draw(head(given), noise, "latent")
    assert torch.equal(draw(twin(given), noise, "latent"), z)
    assert torch.equal(draw(fresh(given), noise, "latent"), z)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(draw(head(given), noise, "latent"), z)


@pytest.mark.parametrize(
    "entry",
    [MafPosterior(flow_passes=2), SplinePosterior(flow_passes=None, flow_amortized=False)],
    ids=["maf", "spline"],
)
def test_nothing_in_a_step_of_a_variant_waits_for_the_device(entry: Any) -> None:
    with FakeTensorMode():
        found = VAEConfig(latent_dim=3, network=MLP(hidden=(9,)), posterior=entry, conditioning=OneHot())
        built = found.build(cases.info((1, 8, 8)))
        noise = Noise(torch.empty((), dtype=torch.int64), torch.empty(6, dtype=torch.int64))
        images, labels = torch.empty(6, 1, 8, 8), torch.empty(6, dtype=torch.int64)
        with torch.autocast("cpu", torch.bfloat16):
            result = built.draw(Batch(images, images, labels, None, noise.index), (2,), noise)
        (result.log_w + result.rescore(path_only=True).log_w).sum().backward()


def small_run(name: str) -> Any:
    return vaekit.configure(
        "mlp", data="digits", posterior=name, hidden="16", latent_dim=3, epochs=2, device="cpu", threads=1, train_limit=250,
        validation=51, batch_size=32,
    )  # fmt: skip


@pytest.mark.parametrize("name", FLOWS)
def test_a_run_is_evaluated_and_reconstructs(name: str, tmp_path: Path) -> None:
    run = train(tmp_path / "run", config=small_run(name), observer=Silent())
    first, last = (record["val"] for record in run.metrics())
    assert last["elbo_nats"] > first["elbo_nats"]
    found = vaekit.evaluate(run.path, num_importance_samples=30, limit=60)
    assert found["nll_nats"] < -found["elbo_nats"]
    assert found["rate_nats"] > 0
    loaded, *_ = vaekit.load_model(run.path)
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(vaekit.reconstruct(loaded, images), vaekit.reconstruct(loaded, images))
    assert torch.equal(center_of(loaded.encode(images)), encode(loaded, images))


@pytest.mark.parametrize("name", ["planar", "spline"])
def test_a_resumed_run_equals_one_in_one_piece(name: str, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", config=small_run(name), observer=Silent())
    with pytest.raises(RunError), interrupted_at(9):
        train(tmp_path / "part", config=small_run(name), observer=Silent())
    part = vaekit.resume(tmp_path / "part", observer=Silent())
    assert part.model.read_bytes() == whole.model.read_bytes()


def free_energy(q: Any, step: int, images: int, count: int) -> Tensor:
    """E[log q + U2], (images,): U2 of Rezende and Mohamed 2015, table 1, held within |z1| < 4 by a soft wall."""
    z = draw(q, Noise.from_seed(step, images, "energy"), "latent", (count,))
    return (q.log_prob(z) + energy(z)).mean(0)


def energy(z: Tensor) -> Tensor:
    wave = ((z[..., 1] - torch.sin(0.5 * math.pi * z[..., 0])) / 0.4).square()
    return 0.5 * wave + 10.0 * torch.relu(z[..., 0].abs() - 4.0).square()


def descend(parameters: list[Tensor], loss: Callable[[int], Tensor], rate: float) -> None:
    optimizer = torch.optim.Adam(parameters, rate)
    for step in range(400):
        optimizer.zero_grad()
        loss(step).sum().backward()
        optimizer.step()


@pytest.fixture(scope="module")
def best_gaussian() -> float:
    """The least E[log q + U2] of diagonal Gaussians from 32 starts."""
    torch.manual_seed(0)
    loc, log_scale = (1.5 * torch.randn(32, 2)).requires_grad_(), torch.full((32, 2), -0.7, requires_grad=True)
    q = DiagonalGaussian(loc, log_scale)
    descend([loc, log_scale], lambda step: free_energy(q, step, 32, 128), 0.03)
    with torch.no_grad():
        return free_energy(q, 10**6, 32, 5000).min().item()


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
def test_it_fits_an_energy_better_than_any_gaussian(name: str, best_gaussian: float) -> None:
    """KL(q || exp(-U2) / Z), Z by numerical integration: at least 0, and below that of the best Gaussian by a margin."""
    axis = torch.linspace(-8.0, 8.0, 801)
    log_z = torch.logsumexp(-energy(torch.cartesian_prod(axis, axis)), 0).item() + 2 * math.log(0.02)
    torch.manual_seed(1)
    head = POSTERIORS[name](flow_transforms=8 if name in ("planar", "radial") else 3).build(1, 2)
    given = torch.ones(1, 1)
    descend(list(head.parameters()), lambda step: free_energy(head(given), step, 1, 128), 0.01)
    with torch.no_grad():
        found = free_energy(head(given), 10**6, 1, 20000).item() + log_z
    assert found > -0.02  # a KL, up to its Monte-Carlo error
    # radial transforms draw points together around centers and bend a wave slowly: 1.5 nats against 1.7 after 400 steps
    assert found < best_gaussian + log_z - (0.1 if name == "radial" else 1.0)
