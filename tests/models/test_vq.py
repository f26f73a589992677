"""The vector-quantized model: its bound, its invariances, and runs of it from training to samples."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import cases
import vaekit
from helpers_run import interrupted_at, timeless
from vaekit.code_priors.table import CODE_PRIORS
from vaekit.code_priors.transformer import TransformerPrior
from vaekit.code_priors.uniform import Uniform
from vaekit.data.batches import Batch, Data
from vaekit.doctor.codebooks import codebook_collapse
from vaekit.errors import InputError, RunError
from vaekit.generation import interpolate, prior_spread, reconstruct, sample, traverse
from vaekit.models.table import code_in_words
from vaekit.models.vq import VQConfig, VQModel
from vaekit.networks.conditioning import OneHot, Unconditional, hide
from vaekit.noise import Noise
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.table import MODEL
from vaekit.probability.logistic import DiscretizedLogistic
from vaekit.probability.optimal_gaussian import OptimalGaussian
from vaekit.quantizers.codebooks import Ema, ResidualEma
from vaekit.quantizers.table import QUANTIZERS
from vaekit.settings import Training, configure
from vaekit.training.optimization import Optimizers
from vaekit.training.reporting import Silent
from vaekit.training.step import TrainingStep

SHAPE = (1, 8, 8)
SMALL = VQConfig(
    channels=(4, 6), quantizer=Ema(num_codes=5, code_dim=3), code_prior=TransformerPrior(width=8, layers=1)
)
QUANTIZED = {name: QUANTIZERS[name]() for name in QUANTIZERS}


def built(config: VQConfig = SMALL, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> VQModel:
    torch.manual_seed(seed)
    return config.build(cases.info(shape))


def replaced(**given: Any) -> VQConfig:
    return VQConfig(**{**vars(SMALL), **given})


def images(count: int = 6, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return cases.random_images(shape, count).unit()


def terms(model: VQModel, given: Tensor) -> dict[str, Tensor]:
    draw = model.draw(cases.plain_batch(given))
    return {"distortion": draw.distortion, "rate": draw.rate, **draw.penalties}


@pytest.mark.parametrize("shape", [*cases.SHAPES, (1, 1, 5)])
@pytest.mark.parametrize("name", list(QUANTIZED))
def test_images_of_any_size_become_a_grid_and_images_again(name: str, shape: tuple[int, int, int]) -> None:
    config = replaced(quantizer=QUANTIZED[name])
    model, given = built(config, shape), images(3, shape)
    draw = model.draw(cases.plain_batch(given), (2,))
    assert draw.likelihood.mean.shape == (2, 3, *shape)
    assert draw.log_w.shape == draw.elbo.shape == (2, 3)
    encoded = model.encode(given)
    assert encoded.mean.shape == (3, config.num_latents(cases.info(shape)))
    torch.testing.assert_close(model.vectors(encoded.quantized.indices), encoded.mean, rtol=0, atol=1e-7)
    codes = encoded.quantized.indices.flatten(1).shape[1]
    assert code_in_words(config, cases.info(shape), "latent").startswith(f"{codes:,} codes (")


def test_the_bound_is_minus_distortion_and_rate_and_the_weights_are_equal() -> None:
    model, batch = built(), cases.plain_batch(images())
    draw = model.draw(batch, (3,))
    torch.testing.assert_close(draw.elbo, -(draw.distortion + draw.rate))
    torch.testing.assert_close(draw.log_w, draw.elbo)
    assert torch.equal(draw.log_w[0], draw.log_w[2])
    own = model.code_prior.log_prob(model.encode(batch.input).quantized.indices, None)
    torch.testing.assert_close(draw.rate, -own.expand(3, -1))
    again = draw.latents[0].value.clone()
    torch.testing.assert_close(draw.latents[0].prior.log_prob(again), own.expand(3, -1))


def test_the_prior_is_asked_once_for_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = built(), []
    original = model.code_prior.log_prob
    monkeypatch.setattr(model.code_prior, "log_prob", lambda *given: calls.append(1) or original(*given))
    draw = model.draw(cases.plain_batch(images()), (2,))
    assert draw.rate is not None
    assert draw.log_w is not None
    assert draw.rescore().elbo is not None
    assert len(calls) == 1


def test_a_uniform_prior_costs_the_logarithm_of_the_book_at_each_place() -> None:
    draw = built(replaced(code_prior=Uniform())).draw(cases.plain_batch(images()))
    assert draw.rate.tolist() == pytest.approx([4 * math.log(5)] * 6)


def test_the_rate_moves_the_prior_alone_and_the_distortion_all_else() -> None:
    model = built()
    draw = model.draw(cases.plain_batch(images()))

    def moved(loss: Tensor) -> set[str]:
        names, weights = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss.sum(), weights, allow_unused=True, retain_graph=True)
        return {name.partition(".")[0] for name, found in zip(names, gradients, strict=True) if found is not None}

    assert moved(draw.rate) == {"code_prior"}
    assert moved(draw.distortion) == {"encoder", "decoder"}
    assert moved(draw.penalties["commitment"]) == {"encoder"}


@pytest.mark.parametrize("name", list(QUANTIZED))
def test_every_term_is_invariant_to_the_batch(name: str) -> None:
    model, given = built(replaced(quantizer=QUANTIZED[name])), images()
    model.train(name != "lfq")  # whose entropy is one of the batch, in training
    whole, twice = terms(model, given), terms(model, torch.cat([given, given]))
    for term, value in whole.items():
        torch.testing.assert_close(twice[term], torch.cat([value, value]), msg=term)
        alone = torch.cat([terms(model, one)[term] for one in given.split(1)])
        torch.testing.assert_close(alone, value, msg=term)


def test_the_entropy_of_a_batch_twice_over_is_that_of_the_batch() -> None:
    model, given = built(replaced(quantizer=QUANTIZED["lfq"])).train(), images()
    once, twice = (terms(model, part)["entropy"] for part in (given, torch.cat([given, given])))
    torch.testing.assert_close(twice, torch.cat([once, once]))


def test_nothing_changes_in_a_draw_and_codes_are_counted() -> None:
    model = built(replaced(quantizer=ResidualEma(num_codes=5, code_dim=3))).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    draw = model.draw(cases.plain_batch(images()), (2,))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(draw.tallies) == {"codes_1", "codes_2"}
    indices = draw.latents[0].value[0]
    for number in range(2):
        counts = torch.bincount(indices[..., number].flatten(), minlength=5)
        assert draw.tallies[f"codes_{number + 1}"].tolist() == counts.tolist()
    model.after_step(draw, lambda tensor: tensor)
    assert not torch.equal(model.codebooks, before["quantizer.books.0._codebook.embed"])


def test_a_frozen_encoder_keeps_its_codes() -> None:
    model = built().train()
    model.freeze("encoder")
    before = model.codebooks.clone()
    model.after_step(model.draw(cases.plain_batch(images())), lambda tensor: tensor)
    assert torch.equal(model.codebooks, before)


def test_bfloat16_chooses_codes_in_float32() -> None:
    model, given = built(), images()
    with torch.autocast("cpu", torch.bfloat16):
        draw = model.draw(cases.plain_batch(given))
    assert draw.latents[0].posterior.quantized.inputs.dtype == draw.latents[0].code.dtype == torch.float32
    assert draw.rate.dtype == torch.float32
    torch.testing.assert_close(draw.elbo, model.draw(cases.plain_batch(given)).elbo, rtol=0.02, atol=0)


@pytest.mark.parametrize("quantizer", list(QUANTIZED))
@pytest.mark.parametrize("prior", list(CODE_PRIORS))
def test_nothing_in_a_step_waits_for_the_device(quantizer: str, prior: str) -> None:
    with FakeTensorMode():
        told = Unconditional() if prior == "uniform" else OneHot(label_dropout=0.1)
        config = replaced(quantizer=QUANTIZED[quantizer], code_prior=CODE_PRIORS[prior](), conditioning=told)
        model = config.build(cases.info(SHAPE))
        step = TrainingStep(model, Elbo(), {}, Data(), 100)
        optimizers = Optimizers({MODEL: model}, Training(gradient_clip=1.0), torch.device("cpu"))
        optimizers.set_learning_rate(1e-3)
        index, key = torch.empty(6, dtype=torch.int64), torch.empty((), dtype=torch.int64)
        pixels = vaekit.data.images.Images(
            torch.empty(12, 8, 8, 1, dtype=torch.uint8), torch.empty(12, dtype=torch.int64)
        )
        result = step(pixels, index, key, key, {"beta": torch.empty(())})
        optimizers.backward(result.losses)
        optimizers.step()
        model.after_step(result.draw, lambda tensor: tensor)


@pytest.mark.parametrize("name", list(QUANTIZED))
@pytest.mark.parametrize("likelihood", [DiscretizedLogistic(), OptimalGaussian()])
def test_each_learns(name: str, likelihood: Any) -> None:
    model = built(replaced(quantizer=QUANTIZED[name], likelihood=likelihood), seed=1).train()
    given = images(8)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    bounds = []
    for _ in range(25):
        draw = model.draw(cases.plain_batch(given))
        loss = -draw.elbo.mean() + sum(penalty.mean() for penalty in draw.penalties.values())
        optimizer.zero_grad()
        loss.backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
        optimizer.step()
        model.after_step(draw, lambda tensor: tensor)
        bounds.append(draw.elbo.mean().item())
    assert bounds[-1] > bounds[0] + 5


def test_samples_of_a_class_are_codes_and_the_first_of_any_number() -> None:
    model = built(replaced(conditioning=OneHot(label_dropout=0.2))).eval()
    labels = torch.arange(70) % 3
    many = model.sample_prior(70, labels, Noise.from_seed(0, 70, "test"), [0.9])
    few = model.sample_prior(4, labels[:4], Noise.from_seed(0, 4, "test"), [0.9])
    assert torch.equal(many[:4], few)
    vectors = many.view(70, 4, 3)
    assert torch.cdist(vectors.flatten(0, 1), model.codebooks[0]).min(1).values.max() < 1e-3
    strong = sample(model, 8, torch.tensor(1), guidance=5.0)
    assert not torch.equal(strong, sample(model, 8, torch.tensor(1)))


def test_at_temperature_0_all_samples_are_the_most_probable_codes() -> None:
    model = built().eval()
    cold, again = (model.sample_prior(3, None, Noise.from_seed(seed, 3), [0.0]) for seed in (0, 1))
    assert torch.equal(cold, again)
    assert len(cold.unique(dim=0)) == 1


def test_training_hides_labels_from_the_prior() -> None:
    model, given, noise = built(replaced(conditioning=OneHot(label_dropout=0.5))), images(), Noise.from_seed(0, 6)
    labels, index = torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6)
    hidden = hide(labels, 0.5, noise)
    assert 0 < (hidden < 0).sum() < 6
    seen = model.train().draw(Batch(given, given, labels, None, index), (), noise).rate
    told, plain = (
        model.eval().draw(Batch(given, given, each, None, index), (), noise).rate for each in (hidden, labels)
    )
    torch.testing.assert_close(seen, told)
    assert not torch.allclose(seen, plain)


def test_the_likelihood_takes_its_own_step() -> None:
    model = built(replaced(likelihood=OptimalGaussian())).train()
    model.after_step(model.draw(cases.plain_batch(images())), lambda tensor: tensor)
    assert int(model.likelihood.steps) == 1


def test_the_condition_is_read_by_the_prior_alone() -> None:
    model, given = built(replaced(conditioning=OneHot())).eval(), images()
    index = torch.arange(6)
    one, other = (model.draw(Batch(given, given, torch.full((6,), label), None, index)) for label in (0, 1))
    assert torch.equal(one.latents[0].value, other.latents[0].value)
    assert torch.equal(one.distortion, other.distortion)
    assert not torch.equal(one.rate, other.rate)


def test_a_condition_that_nothing_would_read_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^--code-prior uniform: reads no labels or attributes, and no other part of "
    ):
        built(replaced(code_prior=Uniform(), conditioning=OneHot()))


def test_latents_are_not_moved_one_by_one() -> None:
    model = built().eval()
    with pytest.raises(InputError, match="has no single vector of latents"):
        prior_spread(model)
    with pytest.raises(InputError, match="has no single vector of latents"):
        traverse(model, torch.zeros(1, 12), torch.tensor([0]), torch.zeros(3))
    assert interpolate(model, images(2), images(2), 5).shape == (2, 5, *SHAPE)


def test_an_encoder_that_reads_another_size_is_refused() -> None:
    info = vaekit.data.images.DataInfo("own", (1, 32, 32), input_shape=(1, 8, 8))
    with pytest.raises(
        InputError, match=r"^--model vq: the encoder reads images of 8x8 pixels and the decoder makes 32x32"
    ):
        SMALL.build(info)


def test_objectives_over_samples_make_of_equal_weights_the_bound() -> None:
    model, batch = built(), cases.plain_batch(images())
    objective = Iwae(num_samples=4)
    losses, _ = objective(model.draw(batch, objective.sample_shape), batch, cases.context(6))
    torch.testing.assert_close(losses[MODEL], -model.draw(batch).elbo.mean())


RUN = {
    "data": "digits", "train_limit": 250, "validation": 51, "batch_size": 32, "epochs": 2, "device": "cpu", "threads": 1,
    "channels": "4,6", "num_codes": 8, "code_dim": 3, "width": 8, "layers": 1, "heads": 2, "conditioning": "onehot",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> vaekit.runs.Run:
    path = tmp_path_factory.mktemp("vq") / "run"
    return vaekit.train(path, config=configure("vq", **RUN), observer=Silent())


def test_a_stopped_run_resumes_to_the_same_bits(run: vaekit.runs.Run, tmp_path: Path) -> None:
    with interrupted_at(10), pytest.raises(RunError):
        vaekit.train(tmp_path / "run", config=configure("vq", **RUN), observer=Silent())
    vaekit.resume(tmp_path / "run", observer=Silent())
    found = vaekit.runs.Run(tmp_path / "run")
    assert found.model.read_bytes() == run.model.read_bytes()
    assert timeless(found.metrics()) == timeless(run.metrics())


def test_records_and_evaluation_say_what_the_codes_cost(run: vaekit.runs.Run) -> None:
    for record in run.metrics():
        for split in ("train", "val"):
            found = record[split]
            assert 1 <= found["perplexity_codes"] <= found["used_codes"] <= 8
            assert found["loss"] == pytest.approx(-found["elbo_nats"] + found["commitment"], rel=1e-5)
    record = vaekit.evaluate(run.path, num_importance_samples=10)
    assert record["elbo_nats"] == pytest.approx(-(record["distortion_nats"] + record["rate_nats"]))
    assert record["nll_nats"] == pytest.approx(-record["elbo_nats"])
    assert record["num_importance_samples"] == 1
    assert record["active_units"] is None
    assert record["latent_dim"] == 12
    assert json.dumps(record)


def test_a_trained_model_reconstructs_what_its_codes_hold(run: vaekit.runs.Run) -> None:
    trained = vaekit.load(run.path)
    given = vaekit.data.splits.load_splits(trained.config.data, None).val
    codes = trained.codes(given)
    assert codes.shape == (51, 12)
    labels = given.labels
    torch.testing.assert_close(
        trained.images(codes, labels), reconstruct(trained.model, given.unit(), labels), rtol=0, atol=1e-5
    )


def test_the_doctor_sees_a_collapsed_book() -> None:
    def record(perplexity: float) -> dict[str, Any]:
        return {"epoch": 3, "train": {}, "val": {"perplexity_codes": perplexity, "used_codes": 40}}

    config = configure("vq", num_codes=256)
    assert list(codebook_collapse([record(80.0)], config)) == []
    (found,) = codebook_collapse([record(9.0)], config)
    assert found.name == "codebook-collapse"
    assert "40 of 256 in use, perplexity 9.0" in found.evidence
    assert "--num-codes 32" in found.remedy
    (found,) = codebook_collapse([record(9.0)], configure("vq", num_codes=256, reset_dead_codes=False))
    assert "--reset-dead-codes" in found.remedy
    (found,) = codebook_collapse([record(9.0)], configure("vq", num_codes=256, codebook_decay=0.99))
    assert "--codebook-decay 0.9" in found.remedy
    assert list(codebook_collapse([record(9.0)], configure("conv"))) == []
