"""Adversarial autoencoders: the losses, the samples of the prior, and the codes that come to follow it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from players import assert_each_loss_moves_its_own_player, moved, play, train_twice

import cases
import vaekit
from vaekit.data.splits import load_splits
from vaekit.errors import InputError
from vaekit.latents.deterministic import DeterministicPosterior
from vaekit.networks.conditioning import OneHot
from vaekit.objectives.adversarial.aae import AdversarialAutoencoder
from vaekit.objectives.table import MODEL
from vaekit.probability.distributions import draw as sample
from vaekit.runs import Run
from vaekit.training.reporting import Silent
from vaekit.training.step import numeric_fields

SMALL = AdversarialAutoencoder(adversarial_weight=7.0, gradient_penalty=2.0, discriminator_hidden=(8, 5))
NO_BOUND = ("elbo_nats", "rate_nats", "nll_nats", "effective_sample_size")


@pytest.mark.parametrize("parts", [{}, {"posterior": DeterministicPosterior()}, {"conditioning": OneHot()}], ids=str)
def test_losses_are_those_of_the_formulas(parts: dict[str, object]) -> None:
    played = play(SMALL, **parts)
    (latent,), losses = played.result.draw.latents, played.result.losses
    discriminator = played.step.players["discriminator"]
    codes = discriminator(latent.value).sigmoid()
    drawn = played.noise.normal("prior", (3,)).requires_grad_()
    logits = discriminator(drawn)
    (slope,) = torch.autograd.grad(logits.sum(), drawn, retain_graph=True)
    prior, penalty = logits.sigmoid(), 0.5 * slope.square().sum() / 6
    expected = played.result.draw.distortion.mean() - 7.0 * codes.log().mean()
    torch.testing.assert_close(losses[MODEL], expected)
    apart = -0.5 * (prior.log().mean() + (1.0 - codes).log().mean())
    torch.testing.assert_close(losses["discriminator"], apart + 2.0 * penalty)
    assert penalty > 1e-3
    assert ("rate_nats" in played.result.logged) == ("posterior" not in parts)


def test_samples_of_the_prior_are_not_the_noise_of_the_codes() -> None:
    """Else the discriminator would see pairs that know of each other."""
    played = play(SMALL, count=4000)
    (latent,) = played.result.draw.latents
    own = (latent.value - latent.posterior.loc) / latent.posterior.scale
    drawn = sample(latent.prior, played.noise, "prior")
    correlation = (own * drawn).mean(0) * 4000**0.5
    assert correlation.abs().max() < 4.0  # standard normal each, if independent


def test_each_loss_moves_its_own_player_alone() -> None:
    assert_each_loss_moves_its_own_player(play(SMALL))
    weights = (0.0, 1e3)
    plain, heavy = (
        moved(play(AdversarialAutoencoder(adversarial_weight=weight, discriminator_hidden=(8,)))) for weight in weights
    )
    for part, same in (("discriminator", True), ("decoder", True), ("encoder", False)):
        equal = all(torch.equal(a, b) for a, b in zip(plain[part], heavy[part], strict=True))
        assert equal == same, part


def test_an_autoencoder_trains_resumes_and_has_no_bound(tmp_path: Path) -> None:
    run = train_twice(tmp_path, objective="aae", posterior="deterministic", discriminator_hidden="16")
    for part in ("train", "val"):
        numbers = run.metrics()[-1][part]
        total = numbers["distortion_nats"] + 10.0 * numbers["adversarial"]
        assert numbers["loss"] == pytest.approx(total, rel=1e-5)
        assert numbers["elbo_nats"] is None
    found = vaekit.evaluate(run.path, num_importance_samples=2, limit=20)
    assert all(found[name] is None for name in NO_BOUND)
    model, _, _ = vaekit.load_model(run.path)
    assert vaekit.sample(model, 3).shape == (3, 1, 8, 8)


def test_a_density_has_a_bound_and_the_last_weights_are_kept(tmp_path: Path) -> None:
    run = train_twice(tmp_path, objective="aae", conditioning="onehot", discriminator_hidden="16")
    found = vaekit.evaluate(run.path, num_importance_samples=2, limit=20)
    assert found["elbo_nats"] == pytest.approx(-(found["distortion_nats"] + found["rate_nats"]), abs=1e-9)
    kept, last = (vaekit.storage.read_tensors(path, what)[0] for path, what in _weights(run))
    assert all(torch.equal(tensor, last[f"player/model/{name}"]) for name, tensor in kept.items())


def _weights(run: Run) -> list[tuple[Path, str]]:
    return [(run.model, "model"), (run.checkpoint, "checkpoint")]


def test_validation_without_gradients_has_the_same_losses() -> None:
    """The penalty is a slope, which is there also where nothing is to be learned."""
    played = play(SMALL, count=500, train=False)
    hyper = {name: torch.tensor(value) for name, value in numeric_fields(SMALL).items()}
    images = cases.random_images((1, 8, 8), 500)
    with torch.no_grad():
        losses = played.step(images, torch.arange(500), torch.tensor(1), torch.tensor(0), hyper).losses
    for name, loss in losses.items():
        assert not loss.requires_grad
        torch.testing.assert_close(loss, played.result.losses[name].detach())


@pytest.mark.parametrize("posterior", ["gaussian", "deterministic"])
def test_patience_has_nothing_to_judge_by(posterior: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--patience 3: there is no bound to judge by .* objective 'aae'"):
        vaekit.train(
            tmp_path / "run", "mlp", data="digits", objective="aae", posterior=posterior, patience=3, observer=Silent()
        )
    assert not (tmp_path / "run").exists()


def test_a_prior_that_learns_is_refused(tmp_path: Path) -> None:
    """Its samples are what codes are moved towards, and nothing would move them."""
    with pytest.raises(InputError, match=r"^--prior mixture: nothing trains it under objective 'aae'"):
        vaekit.train(tmp_path / "run", "mlp", data="digits", objective="aae", prior="mixture", observer=Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_codes_come_to_follow_the_prior(tmp_path: Path) -> None:
    """Means and covariance of the codes of all training images; without the adversary they lie far off."""
    gaps = {}
    for weight in (0.0, 10.0):
        run = vaekit.train(
            tmp_path / str(weight), "mlp", data="digits", hidden="64", latent_dim=2, epochs=25, batch_size=64,
            objective="aae", posterior="deterministic", adversarial_weight=weight, learning_rate=0.002,
            discriminator_hidden=(64, 64),
            validation=100, device="cpu", threads=1, observer=Silent(),
        )  # fmt: skip
        model, _, _ = vaekit.load_model(run.path)
        with torch.no_grad():
            codes = model.encode(load_splits("digits", None).train.unit()).mean
        gaps[weight] = max(codes.mean(0).abs().max().item(), (codes.T.cov() - torch.eye(2)).abs().max().item())
    assert gaps[0.0] > 2.0
    assert gaps[10.0] < 0.5
