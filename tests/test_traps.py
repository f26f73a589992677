"""Mistakes that public VAE code is known for, each one a test here; test_03 is mistake 3."""

from __future__ import annotations

import json
import math
import pickle
import pickletools
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import cases
import vaekit
from oracles import LinearGaussian
from vaekit.data.batches import Data, Order
from vaekit.data.images import Images, Splits, pack
from vaekit.data.sources import load
from vaekit.errors import InputError
from vaekit.evaluation.evaluate import evaluate
from vaekit.evaluation.likelihood import estimate
from vaekit.generation import decode, sample
from vaekit.models.draw import Draw, Latent
from vaekit.models.vae import VAEConfig
from vaekit.networks.conv import Conv
from vaekit.networks.mlp import MLP
from vaekit.noise import Noise
from vaekit.objectives.bounds import importance_weighted
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.table import MODEL
from vaekit.probability.distributions import DiagonalGaussian, StandardNormal
from vaekit.probability.likelihoods import Bernoulli, BernoulliImage, Gaussian, GaussianImage
from vaekit.runs import Run
from vaekit.settings import Config, Training, configure
from vaekit.storage import load_model, read_tensors
from vaekit.training import validation
from vaekit.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from vaekit.training.optimization import Optimizers
from vaekit.training.processes import Processes
from vaekit.training.reporting import Silent
from vaekit.training.step import TrainingStep
from vaekit.training.train import seeded_model, train
from vaekit.training.trainer import Trainer
from vaekit.training.validation import validate

CPU = torch.device("cpu")


def constant_draw(batch: int, size: int, latents: int) -> Draw:
    """Every pixel costs log 2 and every latent half a nat."""
    q = DiagonalGaussian(torch.ones(batch, latents), torch.zeros(batch, latents))
    p = BernoulliImage(torch.zeros(batch, 1, size, size))
    return Draw((Latent(q.loc, q, StandardNormal(latents)),), p, torch.ones(batch, 1, size, size))


def elbo_loss(draw: Draw, beta: float) -> Tensor:
    return Elbo()(draw, None, cases.context(beta=beta)).players[MODEL]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def linear(digits: Splits) -> tuple[LinearGaussian, Tensor]:
    images = digits.train.unit()
    return LinearGaussian.fit(images.numpy(), 5), images[:200]


@pytest.mark.parametrize("batch", [1, 7, 128])
@pytest.mark.parametrize("size", [4, 28])
@pytest.mark.parametrize("latents", [2, 50])
def test_02_beta_means_the_same_for_any_batch_image_and_latent_size(batch: int, size: int, latents: int) -> None:
    """Mistake: sums over the batch beside means over it, or means over pixels or latents."""
    for beta in (0.0, 1.0, 4.0):
        expected = size**2 * math.log(2) + beta * 0.5 * latents
        assert elbo_loss(constant_draw(batch, size, latents), beta).item() == pytest.approx(expected, rel=1e-5)


def test_02_the_gradient_does_not_grow_with_the_batch(linear: tuple[LinearGaussian, Tensor]) -> None:
    """Mistake: the same images twice in a batch give twice the gradient."""
    oracle, images = linear
    model = oracle.model(0.5, 0.4)
    gradients = []
    for repeat in (1, 3):
        index = torch.arange(8).repeat(repeat)
        batch = cases.plain_batch(images[index])._replace(index=index)
        loss = elbo_loss(model.draw(batch, (), Noise(torch.tensor(1), index)), 2.0)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for one, three in zip(*gradients, strict=True):
        torch.testing.assert_close(three, one, rtol=1e-4, atol=1e-4)


def test_03_importance_weights_never_use_the_closed_form_rate(linear: tuple[LinearGaussian, Tensor]) -> None:
    """Mistake: log mean exp of log p(x|z) - KL, with KL in closed form: not a bound on log p(x).

    Where log p(x) is known, the weights here find it; the mistaken ones settle elsewhere, here far above it.
    """
    oracle, images = linear
    expected = torch.from_numpy(oracle.log_p(images.numpy()))
    batch, noise = cases.plain_batch(images), Noise.from_seed(0, 200)
    with torch.no_grad():
        draw = oracle.model(0.3, 0.2).draw(batch, (1000,), noise)
    found = importance_weighted(draw.log_w.double())
    mistaken = importance_weighted((draw.log_p_x - draw.rate).double())
    assert (found - expected).mean().abs() < 0.02
    assert (mistaken - expected).mean().abs() > 0.5, "the mistake would be seen"
    loss = Iwae(1000)(draw, batch, cases.context()).players[MODEL]
    assert -loss.item() == pytest.approx(found.mean().item(), abs=1e-3)
    packed = Images(images.permute(0, 2, 3, 1).contiguous())
    evaluated = estimate(oracle.model(0.3, 0.2), Data(), packed, 1000, decodes_at_once=5000)
    assert (evaluated.log_p - expected).mean().abs() < 0.02


def test_04_the_bound_is_reported_and_not_the_gradient_surrogate(
    linear: tuple[LinearGaussian, Tensor],
) -> None:
    """Mistake: the sum of normalized weights times log-weights reported, which has only IWAE's gradient."""
    oracle, images = linear
    batch, noise = cases.plain_batch(images), Noise.from_seed(0, 200)
    draw = oracle.model(0.5, 0.4).draw(batch, (5,), noise)
    loss, _ = Iwae(5)(draw, batch, cases.context())
    bound = importance_weighted(draw.log_w).mean().item()
    surrogate = (torch.softmax(draw.log_w, 0) * draw.log_w).sum(0).mean().item()
    assert abs(surrogate - bound) > 0.1
    assert loss[MODEL].item() == pytest.approx(-bound, rel=1e-5)


def test_04_models_are_selected_by_the_bound_and_not_by_the_loss() -> None:
    """Mistake: the weights kept are those of the lowest loss, whose beta is not 1."""
    model = nn.Linear(1, 1)
    trainer = SimpleNamespace(progress=Progress(), settings=Training(), model=model, best=None, objective=Elbo())
    for epoch, (loss, elbo) in enumerate([(50.0, -90.0), (60.0, -80.0), (40.0, -85.0), (1.0, float("nan"))], 1):
        trainer.progress.epoch = epoch
        nn.init.constant_(model.weight, epoch)
        Trainer._select(trainer, {"loss": loss, "elbo_nats": elbo})  # type: ignore[arg-type]
    assert trainer.progress.best_epoch == 2
    assert trainer.progress.best_elbo == -80.0
    assert trainer.best["weight"].item() == 2.0


def test_05_nll_has_its_sign_and_a_probability_is_at_most_one(trained_run: Run, digits: Splits) -> None:
    """Mistake: log p(x) returned as nll."""
    found = evaluate(trained_run.path, num_importance_samples=10)
    assert 0 < found["nll_nats"] < -found["elbo_nats"]
    assert found["nll_nats"] < 64 * math.log(2)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_05_as_many_samples_as_were_asked_for(trained_run: Run, count: int) -> None:
    """Mistake: a hundred samples where one was asked for."""
    model, config, info = load_model(trained_run.path)
    assert sample(model, count).shape == (count, *info.shape)
    index = torch.arange(3)
    noise = Noise(torch.tensor(1), index)
    images = cases.random_images(info.shape, 3)
    draw = model.draw(config.data.batch(images, index, noise), (count,), noise)
    assert draw.latents[0].value.shape == (count, 3, 4)
    assert draw.log_w.shape == (count, 3)


def test_05_the_last_partial_batch_counts_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistake: the mean of batch means, or the last batch dropped; here a bright image comes last, alone."""
    pixels = torch.zeros(9, 8, 8, 1, dtype=torch.uint8)
    pixels[8] = 255
    images = Images(pixels)
    torch.manual_seed(0)
    model = VAEConfig(latent_dim=2, network=MLP(hidden=(4,))).build(cases.info((1, 8, 8)))
    with torch.no_grad():
        model.decoder.output.bias.fill_(-5.0)  # black is cheap, white costs 320 nats
        model.decoder.output.weight.zero_()
    black, white = 64 * math.log1p(math.exp(-5)), 64 * math.log1p(math.exp(5))
    expected = (8 * black + white) / 9
    assert estimate(model, Data(), images, 2, decodes_at_once=8).distortion.mean().item() == pytest.approx(expected)
    monkeypatch.setattr(validation, "_BATCH", 4)
    step = TrainingStep(model, Elbo(), {}, Data(), 9)
    found = validate(step, images, 0, 0, {"beta": 1.0}, Processes(CPU))
    assert found["distortion_nats"] == pytest.approx(expected, rel=1e-5)


def test_06_the_gaussian_constant_is_in_the_loss_and_in_the_evaluation() -> None:
    """Mistake: the constants of the normal density in one of the two only, or a squared error instead."""
    torch.manual_seed(0)
    likelihood = Gaussian(sigma=0.3, learn_sigma=False)
    model = VAEConfig(latent_dim=2, network=MLP(hidden=(4,)), likelihood=likelihood).build(cases.info((1, 8, 8)))
    images, index, key = cases.random_images((1, 8, 8), 20), torch.arange(20), torch.tensor(0)
    with torch.no_grad():
        model.decoder.output.weight.zero_()  # every image is decoded to the bias
        model.decoder.output.bias.fill_(0.4)
    expected = -stats.norm.logpdf(images.unit().double().numpy(), 0.4, 0.3).sum((1, 2, 3)).mean()
    step = TrainingStep(model, Elbo(), {}, Data(), 20)
    hyper = {"beta": torch.tensor(1.0)}
    result = step(images, index, key, torch.tensor(0), hyper)
    assert result.logged["distortion_nats"].item() == pytest.approx(expected, rel=1e-5)
    assert result.losses[MODEL].item() == pytest.approx(expected + result.logged["rate_nats"].item(), rel=1e-5)
    assert validate(step, images, 0, 0, {"beta": 1.0}, Processes(CPU))["distortion_nats"] == pytest.approx(expected)
    found = estimate(model, Data(), images, 3)
    assert found.distortion.mean().item() == pytest.approx(expected, rel=1e-5)


def test_07_the_cross_entropy_works_on_logits() -> None:
    """Mistake: log of a sigmoid that has rounded to 0 or 1: an infinite loss, or no gradient."""
    logits = torch.tensor([-200.0, 200.0]).view(2, 1, 1, 1).requires_grad_()
    wrong = BernoulliImage(logits).log_prob(torch.tensor([1.0, 0.0]).view(2, 1, 1, 1))
    assert wrong.tolist() == [-200.0, -200.0]
    wrong.sum().backward()
    assert logits.grad.flatten().tolist() == [1.0, -1.0]


def test_07_grey_values_under_a_bernoulli_are_called_a_surrogate(trained_run: Run) -> None:
    """Mistake: a cross-entropy on grey values called a likelihood, with bits per dimension."""
    assert Bernoulli().measure(binary=False) == "surrogate"
    found = evaluate(trained_run.path, num_importance_samples=1, limit=5)
    assert found["measure"] == "surrogate"
    assert found["bits_per_dim"] is None


@pytest.mark.parametrize("low_high", [(-1.0, 1.0), (0.0, 255.0), (0.0, 1.01)])
def test_07_images_outside_the_decoders_range_are_refused(low_high: tuple[float, float]) -> None:
    """Mistake: images normalized to -1..1, or left at 0..255, under a decoder of 0..1."""
    array = np.linspace(*low_high, 2 * 5 * 5).reshape(2, 5, 5)
    with pytest.raises(InputError, match="out of range"):
        pack(array, None, "faces")


def test_07_decoded_images_are_inside_the_range() -> None:
    """Mistake: pixels of a Gaussian decoder shown as they are."""
    torch.manual_seed(0)
    model = VAEConfig(latent_dim=2, network=MLP(hidden=(4,)), likelihood=Gaussian()).build(cases.info((1, 8, 8)))
    images = decode(model, 100 * torch.randn(20, 2))
    assert images.min() == 0.0
    assert images.max() == 1.0


def test_08_evaluation_neither_shuffles_nor_draws_anew(trained_run: Run) -> None:
    """Mistake: evaluation noise and order from the global generator."""
    torch.manual_seed(1)
    first = evaluate(trained_run.path, num_importance_samples=3)
    torch.manual_seed(2)
    assert evaluate(trained_run.path, num_importance_samples=3) == first


def test_08_the_elbo_samples_and_does_not_decode_the_mean(linear: tuple[LinearGaussian, Tensor]) -> None:
    """Mistake: log p(x | posterior mean) - rate, which is above the ELBO, and here above log p(x) itself."""
    oracle, images = linear
    model = oracle.model()
    packed = Images(images.permute(0, 2, 3, 1).contiguous())
    found = estimate(model, Data(), packed, 50)
    with torch.no_grad():
        at_mean = model.decode(model.encode(images).mean).log_prob(images).double()
    log_p = torch.from_numpy(oracle.log_p(images.numpy()))
    assert ((at_mean - found.rate) - log_p).mean() > 1.0, "the mistake would be seen"
    assert (-(found.distortion + found.rate) - log_p).mean().abs() < 0.1
    step = TrainingStep(model, Elbo(), {}, Data(), 200)
    assert validate(step, packed, 0, 0, {"beta": 1.0}, Processes(CPU))["elbo_nats"] == pytest.approx(
        log_p.mean().item(),
        abs=4 * math.sqrt(2.5 / 200),  # a quadratic in 5 latents has variance 5 / 2
    )


def test_08_test_images_are_never_trained_or_validated_on(digits: Splits) -> None:
    """Mistake: one split under two names."""
    whole = load("digits", None).train.pixels.flatten(1)
    rows = {
        name: {bytes(row.tolist()) for row in digits.named(name).pixels.flatten(1)} for name in ("train", "val", "test")
    }
    assert len({bytes(row.tolist()) for row in whole}) == len(whole), (
        "no two digits are equal, so rows tell images apart"
    )
    assert not rows["test"] & (rows["train"] | rows["val"])
    assert not rows["train"] & rows["val"]
    assert sum(map(len, rows.values())) == len(whole)


def test_08_official_test_images_stay_out(mnist: Splits, data_folder: Path) -> None:
    """Mistake: all 70,000 images trained on."""
    official = load("mnist", data_folder)
    assert torch.equal(mnist.test.pixels, official.test.pixels)
    assert len(mnist.train) + len(mnist.val) == len(official.train) == 60000


def test_11_weights_follow_the_seed_and_not_the_callers_generator(digits: Splits) -> None:
    """Mistake: the model is built before the seed is set."""
    config = configure("conv", data="digits", seed=3)
    states = []
    for other in (1, 2):
        torch.manual_seed(other)
        states.append(seeded_model(config, digits.info).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    changed = seeded_model(configure("conv", data="digits", seed=4), digits.info).state_dict()
    assert not any(torch.equal(states[0][n], changed[n]) for n in states[0] if n.endswith("weight"))


def test_11_training_twice_gives_the_same_bits_and_leaves_the_callers_generator_alone(tmp_path: Path) -> None:
    """Mistake: order, noise or weights drawn from the global generator, or that generator reseeded."""
    files = []
    for name, other in (("a", 1), ("b", 2)):
        torch.manual_seed(other)
        state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        settings: dict[str, Any] = {
            "train_limit": 150,
            "epochs": 1,
            "batch_size": 50,
            "binarization": "dynamic",
        }
        settings |= {"data": "digits", "hidden": (8,), "latent_dim": 2, "threads": 1, "device": "cpu"}
        run = train(tmp_path / name, "mlp", observer=Silent(), **settings)
        load_model(run.path)
        assert torch.equal(torch.get_rng_state(), state)
        assert np.array_equal(np.random.get_state()[1], numpy_state)
        files.append(run.model.read_bytes())
    assert files[0] == files[1]


def test_11_processes_see_different_images_and_another_order_each_epoch() -> None:
    """Mistake: every rank the same images, or every epoch the same order."""
    order = Order(12, 6, 0)
    group = []
    for rank in range(3):
        process = Processes(CPU)
        process.rank, process.count = rank, 3
        group.append(process)
    epochs = []
    for epoch in range(2):
        shares = [p.share(order.batch(step)).tolist() for step in (2 * epoch, 2 * epoch + 1) for p in group]
        seen = sorted(image for share in shares for image in share)
        assert seen == list(range(12)), "every image once, on one process"
        epochs.append(shares)
    assert epochs[0] != epochs[1]


def _conv_model() -> nn.Module:
    torch.manual_seed(0)
    config = VAEConfig(latent_dim=2, network=Conv(channels=(4, 6), dense=7))
    return config.build(cases.info((3, 9, 7))).to(memory_format=torch.channels_last)


def _advance(model: nn.Module, optimizers: Optimizers, steps: range) -> None:
    module = TrainingStep(model, Elbo(), {}, Data(), 20)  # type: ignore[arg-type]
    for step in steps:
        optimizers.set_learning_rate(0.01)
        result = module(
            cases.random_images((3, 9, 7), 20),
            torch.arange(20),
            torch.tensor(step),
            torch.tensor(step),
            {"beta": torch.tensor(1.0)},
        )
        optimizers.backward(result.losses)
        optimizers.step()


def test_12_a_checkpoint_restores_moments_in_the_strides_of_their_weights(tmp_path: Path) -> None:
    """Mistake: moments of channels_last weights come back contiguous and pair with the wrong weights."""
    model, file = _conv_model(), tmp_path / "checkpoint"
    optimizers = Optimizers({MODEL: model}, Training(), CPU)
    _advance(model, optimizers, range(3))
    save_checkpoint(file, Progress(step=3), {MODEL: model}, optimizers, None)
    again = _conv_model()
    restored = Optimizers({MODEL: again}, Training(), CPU)
    progress, best = load_checkpoint(file, {MODEL: again}, restored, CPU)
    assert progress.step == 3
    assert best is None
    strides = set()
    for old, new in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(old, new)
        assert old.stride() == new.stride()
        for name in ("exp_avg", "exp_avg_sq"):
            before, after = optimizers.adams[MODEL].state[old][name], restored.adams[MODEL].state[new][name]
            assert torch.equal(before, after)
            assert before.stride() == after.stride() == new.stride()
        strides.add(new.is_contiguous())
    assert strides == {True, False}, "some weights are channels_last, or nothing was tested"
    _advance(model, optimizers, range(3, 6))
    _advance(again, restored, range(3, 6))
    assert all(torch.equal(old, new) for old, new in zip(model.parameters(), again.parameters(), strict=True))


def test_12_best_weights_are_not_paired_with_the_latest_optimizer_state(tmp_path: Path) -> None:
    """Mistake: training goes on from the best weights with the moments of the last ones."""
    model, file = _conv_model(), tmp_path / "checkpoint"
    optimizers = Optimizers({MODEL: model}, Training(), CPU)
    _advance(model, optimizers, range(1))
    best = {name: value.clone() for name, value in model.state_dict().items()}
    _advance(model, optimizers, range(1, 3))
    save_checkpoint(file, Progress(step=3), {MODEL: model}, optimizers, best)
    again = _conv_model()
    _, kept = load_checkpoint(file, {MODEL: again}, Optimizers({MODEL: again}, Training(), CPU), CPU)
    last = model.state_dict()
    for name, value in again.state_dict().items():
        assert torch.equal(value, last[name]), "training continues from the last weights"
        assert torch.equal(kept[name], best[name]), "and the best are kept beside them"
    assert not torch.equal(best["encoder.dense.weight"], last["encoder.dense.weight"])


def test_12_weights_are_never_pickled(trained_run: Run) -> None:
    """Mistake: torch.save, whose files run code when they are loaded."""
    from safetensors import safe_open

    for path in (trained_run.model, trained_run.checkpoint):
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        assert isinstance(json.loads(content[8 : 8 + size]), dict), "a plain JSON header"
        assert not zipfile.is_zipfile(path)
        with pytest.raises(ValueError, match=r"opcode|exhausted|pickle|expected|not enough|no newline"):
            list(pickletools.genops(content))
        with safe_open(path, "pt") as file:
            assert len(list(file.keys())) > 0


def test_12_no_module_of_the_library_pickles() -> None:
    """Mistake: a file that is safe to load, read by code that is not. CIFAR-10 is published as pickles; those are
    checked by hash and read by an unpickler that knows no class and no function (tests/data/test_cifar.py)."""
    package = Path(vaekit.__file__).parent
    for path in set(package.rglob("*.py")) - {package / "data" / "cifar.py"}:
        for word in ("pickle.", "import pickle", "torch.save", "torch.load", "allow_pickle=True", "joblib"):
            assert word not in path.read_text(), f"{path.name}: {word}"


def test_12_a_pickled_file_is_refused_and_not_run(tmp_path: Path) -> None:
    """Mistake: a loader that falls back to pickle."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for name, write in (
        ("a", lambda p: torch.save(Bomb(), p)),
        ("b", lambda p: p.write_bytes(pickle.dumps(Bomb()))),
    ):
        path = tmp_path / name
        write(path)
        with pytest.raises(InputError, match="is not a model of vaekit, or is damaged"):
            load_model(path)
    np.save(tmp_path / "c.npy", np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(InputError, match="holds Python objects"):
        load(str(tmp_path / "c.npy"), None)
    assert not (tmp_path / "ran").exists()


def test_12_the_model_file_stands_alone(trained_run: Run, tmp_path: Path) -> None:
    """Mistake: weights that need the code, or the folder, that made them."""
    alone = tmp_path / "elsewhere.safetensors"
    alone.write_bytes(trained_run.model.read_bytes())
    model, config, info = load_model(alone)
    assert config == trained_run.config
    assert info == trained_run.info
    assert isinstance(config, Config)
    tensors, _ = read_tensors(trained_run.model, "model")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in tensors.items())


def test_gaussian_density_integrates_to_one() -> None:
    """Mistake 6 once more, without scipy: the constant is the one that makes a density."""
    grid = torch.linspace(-5, 6, 20001, dtype=torch.float64).view(-1, 1, 1, 1)
    p = GaussianImage(torch.full((1, 1, 1), 0.4, dtype=torch.float64), torch.tensor(math.log(0.3), dtype=torch.float64))
    assert torch.trapezoid(p.log_prob(grid).exp(), grid.flatten()).item() == pytest.approx(1.0, abs=1e-9)
