"""Contracts of every model with every entry of the tables below it, on images of any shape."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cases
from vaekit.config import flags, replace
from vaekit.data.batches import Data
from vaekit.data.images import DataInfo, Images
from vaekit.errors import InputError
from vaekit.latents.gaussian import DiagonalGaussianHead
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.networks.conditioning import Embedding, OneHot
from vaekit.networks.conv import Conv
from vaekit.networks.mlp import MLP
from vaekit.networks.residual import Residual
from vaekit.noise import Noise
from vaekit.objectives.table import MODEL, OBJECTIVES, trains_prior
from vaekit.settings import Config, Training, preset
from vaekit.storage import load_model, save_model
from vaekit.training.optimization import Optimizers
from vaekit.training.step import TrainingStep, numeric_fields

MODELS = dict(cases.models())
NETWORKS = {
    **{f"conv-{n}": Conv(channels=(4, 8, 8, 8, 8)[:n], dense=10) for n in range(1, 6)},
    **{f"mlp-{n}": MLP(hidden=(12, 9, 7)[:n]) for n in range(1, 4)},
    **{f"residual-{n}": Residual(widths=(4, 8, 8, 8, 8)[:n], dense=10) for n in range(1, 6)},
}
each_model = pytest.mark.parametrize("name", list(MODELS))
each_shape = pytest.mark.parametrize("shape", cases.SHAPES, ids=str)


def build(model: Any, shape: tuple[int, int, int], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return model.build(info_of(model, shape))


def info_of(model: Any, shape: tuple[int, int, int]) -> DataInfo:
    return cases.info(shape, attributes=cases.reads_attributes(model))


def images_of(model: Any, shape: tuple[int, int, int], count: int) -> Images:
    return cases.random_images(shape, count, attributes=cases.reads_attributes(model))


def step_of(config: Config, model: Any, objective: Any, shape: tuple[int, int, int]) -> TrainingStep:
    return TrainingStep(
        model, objective, objective.players(config.model.num_latents(cases.info(shape)), shape), Data(), 100
    )


@each_model
@each_shape
def test_draw_decode_and_sample_have_the_shapes_they_say(name: str, shape: tuple[int, int, int]) -> None:
    model = build(MODELS[name], shape)
    images = images_of(MODELS[name], shape, 5)
    noise = Noise.from_seed(0, 5)
    batch = Data().batch(images, torch.arange(5), noise)
    for sample_shape in ((), (2,), (2, 3)):
        draw = model.draw(batch, sample_shape, noise)
        assert draw.log_p_x.shape == (*sample_shape, 5)
        assert draw.target.shape == (5, *shape)
        assert torch.isfinite(draw.log_p_x).all()
        if "log_w" in model.provides:
            assert draw.log_w.shape == (*sample_shape, 5)
        if "rate" in model.provides:
            assert draw.rate.shape in ((5,), (*sample_shape, 5))
        assert draw.latents[0].code.shape[0] in (5, *sample_shape[:1])
    assert batch.condition is not None
    latents = model.sample_prior(5, batch.condition, noise)
    assert latents.shape == (5, MODELS[name].num_latents(cases.info(shape)))
    assert model.decode(latents, batch.condition).mean.shape == (5, *shape)


@each_shape
@pytest.mark.parametrize("network", list(NETWORKS))
@pytest.mark.parametrize("conditioning", [OneHot(), Embedding(embedding_dim=2)], ids=["onehot", "embedding"])
def test_any_number_of_levels_fits_any_image(network: str, conditioning: Any, shape: tuple[int, int, int]) -> None:
    """Images keep their size through one to five halvings, odd ones too, and every parameter learns."""
    config = VAEConfig(latent_dim=3, network=NETWORKS[network], conditioning=conditioning)
    model = build(config, shape)
    batch = Data().batch(cases.random_images(shape, 12), torch.arange(12), Noise.from_seed(0, 12))
    draw = model.draw(batch, (), Noise.from_seed(0, 12))
    assert draw.likelihood.mean.shape == (12, *shape)
    (-draw.elbo.mean()).backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label
        assert parameter.grad.abs().sum() > 0, label


@each_model
@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_every_objective_gives_every_parameter_a_finite_gradient(name: str, objective: str) -> None:
    shape = cases.SHAPES[1]
    config = replace(Config(), ("model",), MODELS[name])
    entry = OBJECTIVES[objective]()
    model = build(MODELS[name], shape)
    if not entry.needs <= model.provides:
        pytest.skip(f"{objective} needs {sorted(entry.needs - model.provides)}")
    if not trains_prior(entry, model.provides) and model.prior_parameters():
        pytest.skip("nothing would train the prior")
    step = step_of(config, model, entry, shape)
    hyper = {key: torch.tensor(value) for key, value in numeric_fields(entry).items()}
    hyper |= {"free_bits": torch.tensor(0.0)} if "free_bits" in hyper else {}  # a rate below it has no slope
    result = step(images_of(MODELS[name], shape, 12), torch.arange(12), torch.tensor(3), torch.tensor(0), hyper)
    for loss in result.losses.values():
        assert loss.shape == ()
        assert torch.isfinite(loss)
    players = {MODEL: model, **dict(step.players.items())}
    optimizers = Optimizers(players, Training(), torch.device("cpu"), entry.rates(), model.inference_parameters())
    optimizers.backward(result.losses)
    for label, parameter in nn.ModuleDict(players).named_parameters():
        if not parameter.requires_grad or (objective == "vae-gan" and label.startswith("model.likelihood.")):
            continue  # a scale of the likelihood is no part of a distance of features
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label
        assert parameter.grad.abs().sum() > 0, label
    for label, value in result.logged.items():
        assert value.shape == (), label
        assert torch.isfinite(value), label
        assert not value.requires_grad, label


@each_model
@each_shape
def test_saving_and_loading_gives_the_same_model(name: str, shape: tuple[int, int, int], tmp_path: Path) -> None:
    config = replace(Config(), ("model",), MODELS[name])
    info = info_of(MODELS[name], shape)
    model = build(MODELS[name], shape).eval()
    save_model(tmp_path / "m.safetensors", model, config, info, model.state_dict())
    loaded, stored_config, stored_info = load_model(tmp_path / "m.safetensors")
    assert stored_config == config
    assert stored_info == info
    assert isinstance(stored_info, DataInfo)
    assert list(loaded.state_dict()) == list(model.state_dict())
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    batch = Data().batch(images_of(MODELS[name], shape, 4), torch.arange(4), Noise.from_seed(0, 4))
    first, second = (m.draw(batch, (2,), Noise.from_seed(0, 4)).log_p_x for m in (model, loaded))
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-4)
    assert not loaded.training


@each_model
@each_shape
@torch.no_grad()
def test_one_image_or_many_give_the_same_numbers(name: str, shape: tuple[int, int, int]) -> None:
    """No image's numbers depend on its company: to the rounding of float32."""
    model = build(MODELS[name], shape).eval()
    images = images_of(MODELS[name], shape, 9)
    key = torch.tensor(7)

    def log_p(index: torch.Tensor) -> torch.Tensor:
        noise = Noise(key, index)
        return model.draw(Data().batch(images, index, noise), (2,), noise).log_p_x

    whole = log_p(torch.arange(9))
    for part in (torch.tensor([4]), torch.tensor([8, 0, 3]), torch.arange(9).flip(0)):
        torch.testing.assert_close(log_p(part), whole[:, part], rtol=3e-6, atol=1e-4)


def _fingerprint(model: Any, shape: tuple[int, int, int]) -> tuple[Any, ...]:
    """The shapes of parameters and state, what they begin with, and values that the model computes from fixed weights."""
    built = build(model, shape)
    begun = sum(parameter.detach().double().abs().sum().item() for parameter in built.parameters())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() > 0:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    batch = Data().batch(images_of(model, shape, 4), torch.arange(4), Noise.from_seed(0, 4))
    drawn = built.draw(batch, (), Noise.from_seed(0, 4))
    bound = drawn.log_p_x if drawn.log_w is None else drawn.log_w
    values = [
        drawn.log_p_x.sum().item(),
        bound.sum().item(),
        *(penalty.sum().item() for penalty in drawn.penalties.values()),
    ]
    shapes = [tuple(p.shape) for p in built.parameters()], [tuple(b.shape) for b in built.buffers()]
    if hasattr(built, "quantizer"):  # some settings say how the state moves after steps
        for _ in range(60):
            built.after_step(drawn, lambda tensor: tensor)
        values.append(sum(buffer.double().sum().item() for buffer in built.buffers()))
    return *shapes, begun, values


OPTIONS = [(c.model, flag) for c, flag in cases.leaves() if flag.path[0] == "model"]


@pytest.mark.parametrize(("model", "flag"), OPTIONS, ids=[".".join(f.path) for _, f in OPTIONS])
def test_every_option_of_a_model_changes_it(model: VAEConfig, flag: Any) -> None:
    """Each leaf changes the parameters or the state, or the numbers computed with the same ones."""
    path, shape = flag.path[1:], cases.SHAPES[0]
    smalls = [{int: 5, tuple: (6, 5)}, {int: 8, tuple: (8, 8)}]  # not all go with what the others are
    here = _fingerprint(model, shape)
    kind = cases.inner_type(flag)
    if kind is str:
        pytest.skip("a file: what it holds counts, not its name")
    tried = 0
    more = [2.0 * flag.value] if kind is float and flag.value else []
    for small, further in zip(smalls, ([], more), strict=True):
        for value in [*cases.valid_values(flag), *further] if not tried else ():
            if value is not None and (kind is int or isinstance(value, tuple)):
                value = small[type(value)]
            if value != flag.value and value is not None and (kind is not float or 1e-3 < value < 1e3):
                with suppress(InputError):  # some values go with few latents only
                    assert _fingerprint(replace(model, path, value), shape) != here, value
                    tried += 1
    assert tried


@each_model
def test_a_rate_that_the_encoder_moves_is_one_that_is_promised(name: str) -> None:
    model, images = build(MODELS[name], cases.SHAPES[0]), images_of(MODELS[name], cases.SHAPES[0], 4)
    noise = Noise.from_seed(0, 4)
    drawn = model.draw(Data().batch(images, torch.arange(4), noise), (), noise)
    if drawn.rate is None:
        assert "moved_rate" not in model.provides
        return
    weights = list(model.encoder.parameters())
    total = drawn.rate.sum() + 0.0 * sum(weight.sum() for weight in model.parameters())
    gradients = torch.autograd.grad(total, weights)
    moves = any(gradient.abs().max() > 0 for gradient in gradients)
    assert moves == ("moved_rate" in model.provides)


def test_every_entry_below_a_model_changes_it() -> None:
    seen: list[Any] = []
    for name, model in MODELS.items():
        found = _fingerprint(model, cases.SHAPES[0])
        assert found not in seen, name
        seen.append(found)


@pytest.mark.parametrize("conditioning", [OneHot(), Embedding()], ids=["onehot", "embedding"])
def test_the_label_reaches_encoder_and_decoder(conditioning: Any) -> None:
    model = build(VAEConfig(latent_dim=3, conditioning=conditioning), cases.SHAPES[0])
    images = cases.random_images(cases.SHAPES[0], 1).unit()
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert not torch.allclose(model.encode(images, zero).mean, model.encode(images, one).mean, atol=1e-6)
    z = torch.zeros(1, 3)
    assert not torch.allclose(model.decode(z, zero).mean, model.decode(z, one).mean, atol=1e-6)
    with pytest.raises(InputError, match="conditional and was given no labels"):
        model.encode(images)


def test_each_sample_is_decoded_with_its_own_images_label() -> None:
    """Sample axes come before the batch axis: a mix-up would pair latents with another image's label."""
    model = build(VAEConfig(latent_dim=3, conditioning=OneHot()), cases.SHAPES[0])
    labels = torch.tensor([0, 1, 2, 1])
    z = torch.randn(5, 4, 3)
    whole = model.decode(z, labels).mean
    for sample in range(5):
        torch.testing.assert_close(whole[sample], model.decode(z[sample], labels).mean)


def test_a_conditional_model_needs_labelled_data() -> None:
    for name in ("onehot", "embedding"):
        conditioning = {"onehot": OneHot(), "embedding": Embedding()}[name]
        with pytest.raises(InputError, match=f"^--conditioning {name}: 'random' has no labels"):
            VAEConfig(conditioning=conditioning).build(cases.info((1, 8, 8), labels=False))


def test_without_noise_a_draw_follows_torchs_generator() -> None:
    model = build(VAEConfig(latent_dim=3), cases.SHAPES[0])
    batch = cases.plain_batch(cases.random_images(cases.SHAPES[0], 4).unit())
    torch.manual_seed(1)
    first, second = model.draw(batch).log_p_x, model.draw(batch).log_p_x
    torch.manual_seed(1)
    assert torch.equal(model.draw(batch).log_p_x, first)
    assert not torch.equal(first, second)


def test_all_tables_below_the_model_are_walked() -> None:
    kinds = {flag.table.kind for model in MODELS.values() for flag in flags(model) if flag.table}
    assert kinds >= {"network", "likelihood", "posterior", "prior", "conditioning"}


@each_model
def test_path_only_cuts_the_density_of_every_posterior_from_encoder_and_parameters(name: str) -> None:
    """Given the value, log q of the rescored draw hangs on no parameter, the encoder's included."""
    model = build(MODELS[name], cases.SHAPES[0])
    batch = Data().batch(images_of(MODELS[name], cases.SHAPES[0], 5), torch.arange(5), Noise.from_seed(0, 5))
    draw = model.draw(batch, (3,), Noise.from_seed(0, 5))
    if "path" not in model.provides:
        pytest.skip("its density cannot be taken again")
    path = draw.rescore(path_only=True)
    torch.testing.assert_close(path.log_w, draw.log_w)
    for before, after in zip(draw.latents, path.latents, strict=True):
        assert before.posterior.log_prob(before.value.detach()).requires_grad
        assert not after.posterior.log_prob(after.value.detach()).requires_grad
        assert after.posterior.log_prob(after.value).requires_grad
    (-path.log_w.mean()).backward()
    assert all(p.grad is not None for p in model.encoder.parameters())


def test_only_a_diagonal_gaussian_posterior_provides_what_needs_one() -> None:
    parts = [nn.Flatten(), nn.Identity(), nn.Linear(4, 4), nn.Identity()]
    encoder, prior, decoder, likelihood = parts
    plain = VAEModel(encoder, nn.Linear(4, 4), prior, decoder, likelihood)
    diagonal = VAEModel(encoder, DiagonalGaussianHead(4, 2), prior, decoder, likelihood)
    assert plain.provides == {"rate", "moved_rate", "log_w", "vectors", "inference", "path"}
    assert diagonal.provides == {*plain.provides, "diagonal"}


def test_codes_stand_for_labels() -> None:
    model = preset("cvae-onehot").model.build(DataInfo("own", (1, 8, 8), ("a", "b", "c")))
    latents, labels = torch.randn(3, 2), torch.tensor([2, 0, 1])
    by_code = model.decode(latents, code=torch.eye(3)[labels])
    assert torch.equal(by_code.logits, model.decode(latents, labels).logits)
