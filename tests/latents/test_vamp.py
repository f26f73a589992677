"""The variational mixture of posteriors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from prior_cases import flow_of_a_run
from torch import Tensor, nn

import cases
from vaekit.config import replace
from vaekit.errors import InputError
from vaekit.latents.table import POSTERIORS
from vaekit.latents.vamp import Vamp, VampPrior
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.networks.conditioning import OneHot
from vaekit.networks.conv import Conv
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.probability.distributions import draw
from vaekit.settings import configure

SHAPE = (1, 8, 8)
NOISE = Noise.from_seed(0, 6)


def model(count: int, num_latents: int = 3, **parts: object) -> VAEModel:
    torch.manual_seed(0)
    config = VAEConfig(latent_dim=num_latents, network=MLP(hidden=(9,)), prior=Vamp(pseudo_inputs=count))
    for name, part in parts.items():
        config = replace(config, (name,), part)
    return config.build(cases.info(SHAPE))


def test_one_pseudo_input_gives_the_posterior_there() -> None:
    vae = model(1)
    p = vae.prior_given(None)
    assert isinstance(vae.prior, VampPrior)
    q = vae.encode(vae.prior.pseudo_inputs())
    z = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(p.log_prob(z), q.log_prob(z), rtol=1e-5, atol=1e-5)
    expected = q.loc + q.scale * NOISE.normal("prior", (3,))
    torch.testing.assert_close(draw(p, NOISE, "prior"), expected)


def test_the_density_is_the_mean_over_pseudo_inputs_one_by_one() -> None:
    vae = model(7)
    z = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    each = [vae.encode(image[None]).log_prob(z) for image in vae.prior.pseudo_inputs()]
    expected = torch.logsumexp(torch.stack(each), 0) - math.log(7)
    torch.testing.assert_close(vae.prior_given(None).log_prob(z), expected, rtol=1e-5, atol=1e-5)


def test_the_density_integrates_to_one() -> None:
    axis = torch.linspace(-15.0, 15.0, 1501)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    with torch.no_grad():
        density = model(7, num_latents=2).prior_given(None).log_prob(grid).exp()
    assert density.double().sum().item() * 0.02**2 == pytest.approx(1.0, abs=1e-4)


def test_pseudo_inputs_are_images_and_differ() -> None:
    vae = model(50)
    images = vae.prior.pseudo_inputs()
    assert images.shape == (50, *SHAPE)
    assert images.min() > 0
    assert images.max() < 1
    assert torch.pdist(vae.encode(images).loc).min() > 0.01


@pytest.mark.parametrize("posterior", [name for name in POSTERIORS if name not in ("deterministic",)])
def test_every_posterior_is_mixed_or_refused_in_a_sentence(posterior: str) -> None:
    entry = POSTERIORS[posterior]()
    if not getattr(entry.build(2, 3), "rescored", True):
        with pytest.raises(InputError, match=rf"^--prior vamp: .* posterior '{posterior}' has no density"):
            model(4, posterior=entry)
        return
    vae = model(4, posterior=entry)
    p = vae.prior_given(None)
    z = draw(p, NOISE, "prior")
    assert z.shape == (6, 3)
    assert draw(p, NOISE, "prior", (2,)).shape == (2, 6, 3)
    assert torch.equal(draw(p, NOISE, "prior", (2,))[0], z)
    values = torch.stack([z, draw(p, NOISE, "other")]).detach()
    each = [vae.encode(image[None]).log_prob(values) for image in vae.prior.pseudo_inputs()]
    expected = torch.logsumexp(torch.stack(each), 0) - math.log(4)
    found = p.log_prob(values)
    assert found.shape == (2, 6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_an_autoencoder_is_refused() -> None:
    with pytest.raises(InputError, match="posterior 'deterministic' has no density"):
        model(4, posterior=POSTERIORS["deterministic"]())


def test_gradients_reach_pseudo_inputs_and_encoder() -> None:
    vae = model(5, conditioning=OneHot())
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    vae.prior_given(torch.eye(6)[:, :3]).log_prob(z).sum().backward()
    reached = [*vae.prior.named_parameters(), *vae.encoder.named_parameters(), *vae.posterior.named_parameters()]
    assert {name for name, _ in vae.prior.named_parameters()} == {"logits", "codes"}
    for name, parameter in reached:
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_a_label_does_not_change_the_prior_and_pseudo_codes_do() -> None:
    vae = model(5, conditioning=OneHot())
    z = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    first = vae.prior_given(torch.eye(3)).log_prob(z)
    assert torch.equal(vae.prior_given(torch.eye(3).flip(0)).log_prob(z), first)
    vae.prior.codes.data.zero_()
    assert not torch.allclose(vae.prior_given(torch.eye(3)).log_prob(z), first)


def test_drawing_encodes_the_pseudo_inputs_once() -> None:
    vae, seen = model(5), []
    vae.encoder.register_forward_hook(lambda module, given, output: seen.append(len(given[0])))
    vae.sample_prior(40, None, Noise.from_seed(0, 40))
    assert seen == [5]


def test_pseudo_inputs_leave_batch_statistics_as_they_are() -> None:
    """In training they are normalized like images in evaluation, and are no part of the running statistics."""
    torch.manual_seed(0)
    network = Conv(channels=(4,), dense=5, normalization="batch")
    vae = VAEConfig(latent_dim=3, network=network, prior=Vamp(pseudo_inputs=4)).build(cases.info(SHAPE))
    norm = next(layer for layer in vae.encoder.modules() if isinstance(layer, nn.BatchNorm2d))
    norm.running_mean.normal_()
    before, z = norm.running_mean.clone(), torch.randn(6, 3)
    vae.train()
    trained = vae.prior_given(None).log_prob(z)
    assert norm.training
    assert torch.equal(norm.running_mean, before)
    torch.testing.assert_close(trained, vae.eval().prior_given(None).log_prob(z))


def test_memory_of_an_evaluation_has_no_values_by_components_by_latents() -> None:
    """The largest tensor that the density makes has as many numbers as values times components, or times latents."""
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(
            self, func: object, types: object, args: tuple = (), kwargs: dict | None = None
        ) -> object:
            result = func(*args, **(kwargs or {}))  # type: ignore[operator]
            sizes.extend([result.numel()] if isinstance(result, Tensor) else [])
            return result

    vae = model(50)
    with torch.no_grad():
        p = vae.prior_given(None)
        with Watch():
            p.log_prob(torch.randn(20, 10, 3))
    assert max(sizes) == 200 * 50


def test_a_run_can_do_all_that_runs_do(tmp_path: Path) -> None:
    flow_of_a_run(tmp_path, prior="vamp", pseudo_inputs=6)


def test_a_conditional_run_too(tmp_path: Path) -> None:
    flow_of_a_run(tmp_path, prior="vamp", pseudo_inputs=6, conditioning="embedding")


def test_the_published_number_of_pseudo_inputs_is_the_default() -> None:
    assert configure("mlp", prior="vamp").model.prior.pseudo_inputs == 500
