"""FactorVAE: the loss, the shuffled codes, and the total correlation of codes for which it is known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from players import assert_each_loss_moves_its_own_player, moved, play, train_twice

import cases
import vaekit
from vaekit.errors import InputError
from vaekit.noise import Noise
from vaekit.objectives.adversarial.discriminators import code_discriminator, discriminator_loss
from vaekit.objectives.adversarial.factor import FactorVAE, shuffle
from vaekit.objectives.table import MODEL
from vaekit.training.reporting import Silent

SMALL = FactorVAE(beta=3.0, gamma=7.0, discriminator_hidden=(8, 5))


def test_losses_are_those_of_the_formulas() -> None:
    played = play(SMALL)
    draw, losses = played.result.draw, played.result.losses
    discriminator = played.step.players["discriminator"]
    codes = draw.latents[0].value
    logits = discriminator(codes)
    context = cases.context(len(codes))
    context.noise = played.noise
    shuffled = discriminator(shuffle(codes, context))
    expected = draw.distortion.mean() + 3.0 * draw.rate.mean() + 7.0 * logits.mean()
    torch.testing.assert_close(losses[MODEL], expected)
    by_hand = -0.5 * logits.sigmoid().log().mean() - 0.5 * (1.0 - shuffled.sigmoid()).log().mean()
    torch.testing.assert_close(losses["discriminator"], by_hand)
    torch.testing.assert_close(played.result.logged["total_correlation"], logits.mean().detach())
    assert set(losses) == {MODEL, "discriminator"}


def test_no_gamma_is_the_elbo() -> None:
    played = play(FactorVAE(gamma=0.0, discriminator_hidden=(8,)))
    torch.testing.assert_close(played.result.losses[MODEL], -played.result.draw.elbo.mean())


@pytest.mark.parametrize("count", [1, 2, 5, 64])
@pytest.mark.parametrize("num_latents", [1, 3, 9])
def test_shuffling_keeps_every_latents_values_and_mixes_images(count: int, num_latents: int) -> None:
    codes = torch.arange(float(count * num_latents)).view(count, num_latents)  # each value names its image
    shuffled = shuffle(codes, cases.context(count))
    torch.testing.assert_close(shuffled.sort(0).values, codes)
    images = shuffled.div(num_latents, rounding_mode="floor")
    for row in images:
        assert len(row.unique()) == min(count, num_latents)


def test_shuffling_follows_from_the_noise_alone_and_changes_with_it() -> None:
    codes = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    context = cases.context(32)
    first, again = shuffle(codes, context), shuffle(codes, context)
    assert torch.equal(first, again)
    context.noise = Noise.from_seed(1, 32)
    assert not torch.equal(first, shuffle(codes, context))


def test_processes_shuffle_the_codes_of_all() -> None:
    codes = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    whole, half = cases.context(32), cases.context(32)
    expected = shuffle(codes, whole)
    order = whole.noise.normal("shuffle", ())
    half.noise = half.noise._replace(index=torch.arange(16))
    joined = iter([order, codes])
    half.gather = lambda tensor: next(joined)
    assert torch.equal(shuffle(codes[:16], half), expected)


def test_each_loss_moves_its_own_player_alone() -> None:
    assert_each_loss_moves_its_own_player(play(SMALL))
    plain, heavy = (moved(play(FactorVAE(gamma=gamma, discriminator_hidden=(8,)))) for gamma in (0.0, 1e3))
    for part, same in (("discriminator", True), ("decoder", True), ("encoder", False)):
        equal = all(torch.equal(a, b) for a, b in zip(plain[part], heavy[part], strict=True))
        assert equal == same, part


def test_the_total_correlation_pulls_through_the_logit_alone() -> None:
    """d loss / d codes = gamma / batch * d logit / d code, added to that of the bound."""
    pulls = {}
    for gamma in (0.0, 7.0):
        played = play(FactorVAE(gamma=gamma, discriminator_hidden=(8,)))
        codes = played.result.draw.latents[0].value
        (pulls[gamma],) = torch.autograd.grad(played.result.losses[MODEL], codes, retain_graph=True)
    logits = played.step.players["discriminator"](codes)
    (slope,) = torch.autograd.grad(logits.sum(), codes)
    torch.testing.assert_close(pulls[7.0] - pulls[0.0], 7.0 / len(codes) * slope, rtol=1e-4, atol=1e-6)


def test_the_discriminators_learning_rate_is_a_factor_of_the_models() -> None:
    played = play(FactorVAE(discriminator_hidden=(8,), discriminator_rate=0.3))
    played.optimizers.set_learning_rate(0.02)
    rates = {name: adam.param_groups[0]["lr"] for name, adam in played.optimizers.adams.items()}
    assert rates == pytest.approx({MODEL: 0.02, "discriminator": 0.006})


@pytest.mark.parametrize("correlation", [0.9, *(pytest.param(rho, marks=pytest.mark.slow) for rho in (0.0, 0.6))])
def test_a_trained_discriminator_estimates_a_known_total_correlation(correlation: float) -> None:
    """Of two normal latents it is -1/2 log(1 - rho^2): 0, 0.223 and 0.830 nats."""
    exact = -0.5 * math.log(1.0 - correlation**2)
    torch.manual_seed(0)
    mixing = torch.linalg.cholesky(torch.tensor([[1.0, correlation], [correlation, 1.0]]))
    discriminator = code_discriminator(2, (32, 32))
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
    for step in range(500):
        codes, context = torch.randn(256, 2) @ mixing.T, cases.context(256)
        context.noise = Noise.from_seed(step, 256)
        loss = discriminator_loss(discriminator(codes), discriminator(shuffle(codes, context)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = discriminator(torch.randn(50_000, 2) @ mixing.T).mean().item()
    # one seed; the error is that of a discriminator of 32 units after 500 steps, the sampling error is below 0.005
    assert found == pytest.approx(exact, abs=0.03 + 0.1 * exact)


def test_trains_resumes_and_is_judged_by_its_elbo(tmp_path: Path) -> None:
    run = train_twice(tmp_path, objective="factor", discriminator_hidden="16", learning_rate=0.004)
    record = run.metrics()[-1]
    for part in ("train", "val"):
        numbers = record[part]
        total = numbers["distortion_nats"] + numbers["rate_nats"] + 10.0 * numbers["total_correlation"]
        assert numbers["loss"] == pytest.approx(total, rel=1e-5)
        assert 0.0 <= numbers["discriminator_accuracy"] <= 1.0
    found = vaekit.evaluate(run.path, num_importance_samples=2, limit=20)
    assert found["elbo_nats"] == pytest.approx(-(found["distortion_nats"] + found["rate_nats"]), abs=1e-9)


def test_a_code_without_a_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--objective factor: needs a rate"):
        vaekit.train(
            tmp_path / "run", "mlp", data="digits", objective="factor", posterior="deterministic", observer=Silent()
        )
    assert not (tmp_path / "run").exists()
