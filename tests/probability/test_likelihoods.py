"""Every likelihood's contract; Bernoulli and Gaussian against scipy, with every constant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor, nn

import cases
from vaekit.models.vae import VAEConfig
from vaekit.noise import Noise
from vaekit.probability.laplace import LaplaceImage
from vaekit.probability.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    BernoulliImage,
    Gaussian,
    GaussianImage,
    uniform_like,
)

SHAPE = (4, 2, 3, 5)  # batch, channels, height, width
G = torch.Generator().manual_seed(0)
OUTPUT = 2.0 * torch.randn(3, *SHAPE, generator=G)
GREY = torch.rand(SHAPE, generator=G)
BINARY = (GREY > 0.5).float()
MASK = (torch.rand(SHAPE, generator=G) > 0.4).float()
EVENT = (-3, -2, -1)
WHOLE_PIXELS = {"logistic-mixture"}  # whose channels depend on each other
DENSITIES = sorted(name for name in LIKELIHOODS if LIKELIHOODS[name]().measure(False) == "density")


def wide(name: str, output: Tensor) -> Tensor:
    """As many channels as a likelihood asks for of images with the channels of `output`, which come again and again."""
    channels = output.shape[-3]
    return output[..., torch.arange(LIKELIHOODS[name]().num_outputs(channels)) % channels, :, :]


def test_bernoulli_on_binary_images_is_scipys() -> None:
    expected = stats.bernoulli.logpmf(BINARY.numpy(), 1 / (1 + np.exp(-OUTPUT.double().numpy()))).sum(EVENT)
    np.testing.assert_allclose(BernoulliImage(OUTPUT).log_prob(BINARY), expected, rtol=1e-5)


def test_bernoulli_is_a_probability() -> None:
    """Over all 16 images of 2x2 pixels it sums to one."""
    images = torch.tensor([[int(bit) for bit in f"{n:04b}"] for n in range(16)]).float().view(16, 1, 2, 2)
    logits = torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(1)).expand(16, 1, 2, 2)
    assert BernoulliImage(logits).log_prob(images).double().exp().sum().item() == pytest.approx(1.0, abs=1e-6)


def test_bernoulli_on_grey_images_is_the_cross_entropy() -> None:
    p = 1 / (1 + np.exp(-OUTPUT.double().numpy()))
    x = GREY.double().numpy()
    expected = (x * np.log(p) + (1 - x) * np.log1p(-p)).sum(EVENT)
    np.testing.assert_allclose(BernoulliImage(OUTPUT).log_prob(GREY), expected, rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0])
def test_gaussian_is_scipys_with_every_constant(sigma: float) -> None:
    p = GaussianImage(OUTPUT, torch.tensor(math.log(sigma)))
    expected = stats.norm.logpdf(GREY.double().numpy(), OUTPUT.double().numpy(), sigma).sum(EVENT)
    np.testing.assert_allclose(p.log_prob(GREY), expected, rtol=2e-5)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_mask_leaves_pixels_out(name: str) -> None:
    """Hidden pixels count nothing, not even a constant, whatever their value."""
    head, mask = LIKELIHOODS[name]().build(2), MASK[:, :1].expand(SHAPE) if name in WHOLE_PIXELS else MASK
    p = head(wide(name, OUTPUT))
    assert torch.equal(p.log_prob(BINARY, torch.ones(SHAPE)), p.log_prob(BINARY))
    assert torch.equal(p.log_prob(BINARY, torch.zeros(SHAPE)), torch.zeros(3, 4))
    other = torch.where(mask == 1, BINARY, 1 - BINARY)
    torch.testing.assert_close(p.log_prob(other, mask), p.log_prob(BINARY, mask))
    both = p.log_prob(BINARY, mask) + p.log_prob(BINARY, 1 - mask)
    torch.testing.assert_close(both, p.log_prob(BINARY))
    keep, kept = torch.zeros(SHAPE), slice(None) if name in WHOLE_PIXELS else slice(1, 2)
    keep[:, kept, 2, 3] = 1
    one = LIKELIHOODS[name]().build(2 if name in WHOLE_PIXELS else 1)(wide(name, OUTPUT[..., kept, 2:3, 3:4]))
    torch.testing.assert_close(p.log_prob(BINARY, keep), one.log_prob(BINARY[:, kept, 2:3, 3:4]))


@pytest.mark.parametrize("name", list(LIKELIHOODS))
@pytest.mark.parametrize("output", [-1e4, -30.0, 0.0, 1e-30, 1.0, 30.0, 1e4])
def test_any_output_gives_finite_numbers_and_gradients(name: str, output: float) -> None:
    head = LIKELIHOODS[name]().build()
    decoded = torch.full((2, 1, 1, 3), output, requires_grad=True)
    p = head(wide(name, decoded))
    log_p = p.log_prob(torch.tensor([0.0, 128 / 255, 1.0]).expand(2, 1, 1, 3))
    (log_p.sum() + p.mean.sum()).backward()
    gradients = [decoded.grad, *(parameter.grad for parameter in head.parameters())]
    samples = p.sample_from(Noise.from_seed(0, 2), "pixels")
    for found in (log_p, p.mean, samples, *gradients):
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("output", [-3.0, -0.4, 0.0, 0.7, 8.0])
def test_a_density_integrates_to_one_and_has_the_mean_it_says(name: str, output: float) -> None:
    p = LIKELIHOODS[name]().build()(torch.tensor([output], dtype=torch.float64).view(1, 1, 1, 1))

    def density(x: float) -> float:
        return p.log_prob(torch.tensor(x, dtype=torch.float64).view(1, 1, 1, 1)).exp().item()

    ends = (0.0, 1.0) if name == "continuous-bernoulli" else (output - 8.0, output + 8.0)
    total = integrate.quad(density, *ends, points=None if name == "continuous-bernoulli" else [output], limit=200)[0]
    mean = integrate.quad(lambda x: x * density(x), *ends, points=[min(max(output, ends[0]), ends[1])], limit=200)[0]
    assert total == pytest.approx(1.0, abs=1e-7)
    assert mean == pytest.approx(p.mean.item(), abs=1e-6)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_sample_axes_score_each_sample_alone(name: str) -> None:
    head, output = LIKELIHOODS[name]().build(2), wide(name, OUTPUT)
    whole = head(output[:, None].expand(3, 2, *output.shape[1:])).log_prob(BINARY)
    assert whole.shape == (3, 2, 4)
    for sample in range(3):
        torch.testing.assert_close(whole[sample, 1], head(output[sample]).log_prob(BINARY))
    one = head(output[0, :1]).log_prob(BINARY[:1])
    torch.testing.assert_close(whole[0, 0, :1], one)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_entry_keeps_the_contract(name: str) -> None:
    entry = LIKELIHOODS[name]()
    output = wide(name, OUTPUT[0])
    p = entry.build(2)(output)
    assert p.mean.shape == SHAPE
    assert p.log_prob(BINARY).shape == (4,)
    assert p.log_prob(BINARY).dtype == torch.float32
    assert {entry.measure(True), entry.measure(False)} <= {"discrete", "density", "surrogate"}
    noise = Noise(torch.tensor(1), torch.arange(4))
    sample = p.sample_from(noise, "pixels")
    assert sample.shape == SHAPE
    assert torch.equal(sample, p.sample_from(noise, "pixels"))
    last = entry.build(2)(output[3:]).sample_from(Noise(torch.tensor(1), torch.tensor([3])), "pixels")
    torch.testing.assert_close(sample[3:], last)  # an image's noise is its own
    head = entry.build(2)
    for parameter in head.parameters():
        head(output).log_prob(GREY).sum().backward()
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("name", list(LIKELIHOODS))
@pytest.mark.parametrize("sample_shape", [(1,), (3,), (4,), (3, 2)], ids=str)
def test_sample_axes_draw_each_sample_anew(name: str, sample_shape: tuple[int, ...]) -> None:
    """Also where there are as many samples as images, and shapes would fit by accident."""
    p = LIKELIHOODS[name]().build(2)(wide(name, torch.zeros(*sample_shape, *SHAPE)))
    noise = Noise(torch.tensor(1), torch.arange(4))
    samples = p.sample_from(noise, "pixels")
    assert samples.shape == (*sample_shape, *SHAPE)
    flat = samples.flatten(0, len(sample_shape) - 1)
    assert torch.equal(
        flat[0], LIKELIHOODS[name]().build(2)(wide(name, torch.zeros(SHAPE))).sample_from(noise, "pixels")
    )
    assert all(not torch.equal(flat[0], other) for other in flat[1:])


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_samples_have_the_mean(name: str) -> None:
    """Of a mixture over channels, whose later ones have a mean that is not exact where tails are cut, the first."""
    count, output = 20000, wide(name, OUTPUT[0, :1])
    p = LIKELIHOODS[name]().build(2)(output.expand(count, *output.shape[1:]))
    samples = p.sample_from(Noise.from_seed(0, count), "pixels").double()
    error = samples.std(0) / math.sqrt(count)
    far = (samples.mean(0) - p.mean[0]).abs() - 4.5 * error
    assert (far[:1] if name in WHOLE_PIXELS else far).max() < 1e-4


def test_measures_are_called_what_they_are() -> None:
    assert Bernoulli().measure(binary=True) == "discrete"
    assert Bernoulli().measure(binary=False) == "surrogate"
    assert Gaussian().measure(binary=True) == "density" == Gaussian().measure(binary=False)
    for name in ("continuous-bernoulli", "laplace", "optimal-gaussian"):
        assert LIKELIHOODS[name]().measure(binary=False) == "density"
    for name in ("discretized-logistic", "logistic-mixture"):
        assert LIKELIHOODS[name]().measure(binary=False) == "discrete"


def test_sigma_is_what_it_says() -> None:
    """Each option changes what it says it changes."""
    fixed, learned = Gaussian(sigma=0.25, learn_sigma=False).build(), Gaussian(sigma=0.25).build()
    assert list(fixed.parameters()) == []
    assert "log_sigma" in fixed.state_dict()
    assert [p.shape for p in learned.parameters()] == [()]
    for head in (fixed, learned):
        assert head(OUTPUT[0]).log_sigma.exp().item() == pytest.approx(0.25)
        noise = Noise.from_seed(0, 4)
        spread = (head(torch.zeros(4, 1, 50, 50)).sample_from(noise, "pixels")).std().item()
        assert spread == pytest.approx(0.25, rel=0.03)


def test_the_best_sigma_is_the_root_mean_square_error() -> None:
    head = Gaussian(sigma=0.25).build()
    error = (GREY - OUTPUT[0]).square().mean().sqrt().item()
    with torch.no_grad():
        head.log_sigma.fill_(math.log(error))
    head(OUTPUT[0]).log_prob(GREY).sum().backward()
    assert head.log_sigma.grad.item() == pytest.approx(0.0, abs=1e-3)


@given(st.floats(-80, 80, width=32), st.sampled_from([0.0, 1.0]))
@settings(max_examples=100, deadline=None)
def test_bernoulli_is_exact_at_any_logit(logit: float, x: float) -> None:
    """To the rounding of float32 at the size of the logit."""
    found = BernoulliImage(torch.full((1, 1, 1, 1), logit)).log_prob(torch.full((1, 1, 1, 1), x)).item()
    assert found == pytest.approx(-np.logaddexp(0, -logit if x else logit), rel=1e-6, abs=1.2e-7 * abs(logit) + 1e-30)


def test_every_likelihood_is_covered_by_a_model() -> None:
    assert {LIKELIHOODS.name_of(model.likelihood) for _, model in cases.models()} == set(LIKELIHOODS)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_a_scale_for_each_channel_or_for_all_fits_the_images(name: str) -> None:
    entry = LIKELIHOODS[name]()
    p = entry.build(2)(wide(name, OUTPUT))
    assert p.log_prob(BINARY).shape == (3, 4)
    assert p.mean.shape == (3, *SHAPE)


def test_uniform_noise_has_no_ends() -> None:
    pixels = torch.zeros(3, 4, 1, 200, 200)
    drawn = uniform_like(pixels, Noise.from_seed(0, 4), "pixels")
    assert drawn.shape == pixels.shape
    assert 0 < drawn.min() < 1e-4
    assert 1 - 1e-4 < drawn.max() < 1
    assert drawn.double().mean().item() == pytest.approx(0.5, abs=4.5 / math.sqrt(12 * drawn.numel()))


@dataclass(frozen=True)
class TwoOutputs:
    """A location and a log-scale of its own for each pixel."""

    def num_outputs(self, channels: int) -> int:
        return 2 * channels

    def build(self, channels: int = 1) -> nn.Module:
        return Chunks()

    def measure(self, binary: bool) -> str:
        return "density"


class Chunks(nn.Module):
    def forward(self, output: torch.Tensor) -> LaplaceImage:
        return LaplaceImage(*output.chunk(2, -3))


def test_a_likelihood_may_ask_for_more_outputs_than_channels() -> None:
    model = VAEConfig(latent_dim=3, likelihood=TwoOutputs()).build(cases.info((3, 17, 13)))
    assert model.decode(torch.zeros(5, 3)).mean.shape == (5, 3, 17, 13)
