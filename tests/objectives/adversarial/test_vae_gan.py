"""VAE-GAN: the losses of its three parts, images of any shape, conditions, and what is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from players import assert_each_loss_moves_its_own_player, moved, play, train_twice

import cases
import vaekit
from vaekit.errors import InputError
from vaekit.latents.gaussian import StandardNormalPrior
from vaekit.networks.conditioning import Embedding, OneHot
from vaekit.networks.conv import Conv
from vaekit.objectives.adversarial.vae_gan import VaeGan
from vaekit.objectives.table import INFERENCE, MODEL
from vaekit.probability.logistic import DiscretizedLogistic
from vaekit.probability.optimal_gaussian import OptimalGaussian
from vaekit.training.reporting import Silent

SMALL = VaeGan(beta=3.0, gamma=0.5, discriminator_channels=(4, 6))


def test_losses_are_those_of_the_formulas() -> None:
    played = play(SMALL)
    draw, losses, model = played.result.draw, played.result.losses, played.step.model
    discriminator = played.step.players["discriminator"]
    features, real = discriminator(draw.target)
    rebuilt_features, rebuilt = discriminator(draw.likelihood.logits.sigmoid())
    _, sampled = discriminator(model.decode(played.noise.normal("prior", (3,))).logits.sigmoid())
    distance = 0.5 * (features - rebuilt_features).square().sum() / 6
    fooled = -0.5 * (rebuilt.sigmoid().log().mean() + sampled.sigmoid().log().mean())
    rate = 3.0 * draw.rate.mean()
    torch.testing.assert_close(losses[INFERENCE], rate + distance)
    torch.testing.assert_close(losses[MODEL], 0.5 * distance + fooled + rate)
    fakes = 0.5 * ((1.0 - rebuilt.sigmoid()).log().mean() + (1.0 - sampled.sigmoid()).log().mean())
    torch.testing.assert_close(losses["discriminator"], -0.5 * (real.sigmoid().log().mean() + fakes))
    assert set(losses) == {MODEL, INFERENCE, "discriminator"}


def test_each_loss_moves_its_own_player_alone() -> None:
    assert_each_loss_moves_its_own_player(play(SMALL))


@pytest.mark.parametrize(
    ("name", "values", "moves"), [("beta", (0.0, 1e3), "encoder"), ("gamma", (0.0, 1e3), "decoder")]
)
def test_a_weight_moves_the_part_that_it_is_for(name: str, values: tuple[float, float], moves: str) -> None:
    low, high = (moved(play(VaeGan(**{name: value}, discriminator_channels=(4,)))) for value in values)
    for part in ("encoder", "decoder", "discriminator"):
        equal = all(torch.equal(a, b) for a, b in zip(low[part], high[part], strict=True))
        assert equal == (part != moves), part


def test_a_prior_that_learns_is_moved_by_the_rate_alone() -> None:
    """Neither the adversary nor the features reach it."""
    played = play(SMALL)

    class Learned(StandardNormalPrior):
        def __init__(self) -> None:
            super().__init__(3)
            self.loc = torch.nn.Parameter(torch.full((3,), 0.5))

        def forward(self, condition: torch.Tensor | None) -> object:
            return vaekit.probability.distributions.DiagonalGaussian(self.loc.expand(6, 3), torch.zeros(6, 3))

    played.step.model.prior = Learned()
    hyper = {"beta": torch.tensor(3.0), "gamma": torch.tensor(0.5)}
    images = cases.random_images((1, 8, 8), 12)
    result = played.step(images, torch.arange(6), torch.tensor(1), torch.tensor(0), hyper)
    loc = played.step.model.prior.loc
    (found,) = torch.autograd.grad(result.losses[MODEL], loc, retain_graph=True)
    (expected,) = torch.autograd.grad(3.0 * result.draw.rate.mean(), loc)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 13), (2, 28, 28)])
@pytest.mark.parametrize("likelihood", [OptimalGaussian(), DiscretizedLogistic()], ids=lambda part: type(part).__name__)
def test_colour_and_odd_sizes(shape: tuple[int, int, int], likelihood: object) -> None:
    played = play(VaeGan(), shape, network=Conv(channels=(4, 8), dense=9), likelihood=likelihood)
    assert all(torch.isfinite(loss) for loss in played.result.losses.values())
    played.optimizers.backward(played.result.losses)
    for name, module in (("model", played.step.model), *played.step.players.items()):
        gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
        assert gradients, name
        assert all(torch.isfinite(gradient).all() for gradient in gradients), name


@pytest.mark.parametrize("train", [True, False])
def test_samples_of_a_conditional_model_are_decoded_as_its_images_are(train: bool) -> None:
    """Training hides some labels: then also from the samples, and from the same images."""
    played = play(SMALL, count=64, train=train, conditioning=Embedding(label_dropout=0.5))
    model, seen = played.step.model, []
    decode = model.decode

    def look(latents: torch.Tensor, condition: torch.Tensor) -> object:
        seen.append(condition)
        return decode(latents, condition)

    model.decode = look
    labels, codes = torch.arange(64) % len(cases.CLASSES), []
    model.conditioning.register_forward_hook(lambda module, given, code: codes.append(given[0]))
    hyper = {"beta": torch.tensor(3.0), "gamma": torch.tensor(0.5)}
    played.step(cases.random_images((1, 8, 8), 64), torch.arange(64), torch.tensor(1), torch.tensor(0), hyper)
    (condition,) = seen
    assert all(torch.equal(condition, given) for given in codes)
    assert len(codes) == 2
    hidden = (condition < 0).sum().item()
    assert 16 <= hidden <= 48 if train else hidden == 0
    assert torch.equal(condition[condition >= 0], labels[condition >= 0])


def test_trains_resumes_and_reports_the_plain_bound(tmp_path: Path) -> None:
    run = train_twice(tmp_path, objective="vae-gan", discriminator_channels="4,8", gamma=0.5)
    for part in ("train", "val"):
        numbers = run.metrics()[-1][part]
        beta = run.config.objective.beta
        expected = 0.5 * numbers["feature_distance"] + numbers["adversarial"] + beta * numbers["rate_nats"]
        assert numbers["loss"] == pytest.approx(expected, rel=1e-5)
        assert numbers["loss_inference"] == pytest.approx(
            numbers["feature_distance"] + beta * numbers["rate_nats"], rel=1e-5
        )
        assert numbers["elbo_nats"] == pytest.approx(-(numbers["distortion_nats"] + numbers["rate_nats"]), rel=1e-6)
    found = vaekit.evaluate(run.path, num_importance_samples=2, limit=20)
    assert found["elbo_nats"] == pytest.approx(-(found["distortion_nats"] + found["rate_nats"]), abs=1e-9)


def test_batches_of_any_size_and_without_gradients_have_the_same_losses() -> None:
    """Each image has a loss of its own: halves of a batch agree with the whole."""
    hyper = {"beta": torch.tensor(3.0), "gamma": torch.tensor(0.5)}
    step, images = play(SMALL, train=False).step, cases.random_images((1, 8, 8), 500)
    key, now = torch.tensor(1), torch.tensor(0)
    with torch.no_grad():
        whole = step(images, torch.arange(500), key, now, hyper).losses
        halves = [step(images, torch.arange(at, at + 250), key, now, hyper).losses for at in (0, 250)]
    for name, loss in whole.items():
        assert not loss.requires_grad
        torch.testing.assert_close(loss, 0.5 * (halves[0][name] + halves[1][name]), rtol=1e-5, atol=1e-6)


def test_a_deterministic_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--objective vae-gan: needs a rate"):
        vaekit.train(
            tmp_path / "run", "mlp", data="digits", objective="vae-gan", posterior="deterministic", observer=Silent()
        )


def test_a_conditional_model_trains(tmp_path: Path) -> None:
    run = vaekit.train(
        tmp_path / "run", "mlp", data="digits", hidden="16", latent_dim=3, epochs=1, conditioning="onehot",
        label_dropout=0.3, objective="vae-gan", discriminator_channels="4,8", train_limit=250, validation=51,
        batch_size=32, device="cpu", threads=1, observer=Silent(),
    )  # fmt: skip
    model, _, _ = vaekit.load_model(run.path)
    assert vaekit.sample(model, 3, torch.tensor([0, 1, 9])).shape == (3, 1, 8, 8)
    assert isinstance(run.config.model.conditioning, OneHot)
