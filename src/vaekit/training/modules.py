"""Encoders and decoders that are any `nn.Module`: put together to a model, and trained in memory without a run folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.config import check
from vaekit.data.batches import Data, Order
from vaekit.data.images import pack
from vaekit.errors import DivergedError, InputError
from vaekit.generation import encode
from vaekit.latents.gaussian import GaussianPosterior
from vaekit.latents.table import Posterior, Prior
from vaekit.models.table import PROVIDES, Model
from vaekit.models.vae import VAEModel
from vaekit.noise import seed_key, seeded
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.table import MODEL, OBJECTIVES, Objective
from vaekit.probability.likelihoods import Bernoulli, Likelihood
from vaekit.settings import Training
from vaekit.training.engine import EagerStep
from vaekit.training.optimization import Optimizers
from vaekit.training.optimization import learning_rate as rate_at
from vaekit.training.step import TrainingStep, numeric_fields

Shape = tuple[int, int, int]


def assemble(
    encoder: nn.Module,
    decoder: nn.Module,
    shape: Shape,
    latent_dim: int = 16,
    *,
    likelihood: Likelihood | None = None,
    posterior: Posterior | None = None,
    prior: Prior | None = None,
) -> VAEModel:
    """A model around an encoder and a decoder of one's own, on the device of the encoder.

    Both are called once, in evaluation mode, on zeros, so that layers which take their sizes from the first input are made.

    Args:
        encoder: images (n, channels, height, width) in [0, 1] to features (n, num_features).
        decoder: latents (n, latent_dim) to the likelihood's parameters (n, outputs * channels, height, width); for
            the Bernoulli likelihood these are logits.
        shape: (channels, height, width).
        latent_dim: dimensions of the latent space.
        likelihood: an entry of `vaekit list likelihoods`; None is Bernoulli.
        posterior: an entry of `vaekit list posteriors`; None is a diagonal Gaussian.
        prior: an entry of `vaekit list priors`; None is the standard one of the posterior's space.

    Raises:
        InputError: when the shape of what one of them returns does not fit.

    >>> class Decoder(nn.Linear):
    ...     def forward(self, latents):
    ...         return super().forward(latents).view(-1, 1, 8, 8)
    >>> model = assemble(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU()), Decoder(2, 64), (1, 8, 8), 2)
    >>> model.encode(torch.zeros(5, 1, 8, 8)).mean.shape
    torch.Size([5, 2])
    """
    scored: Likelihood = likelihood or Bernoulli()
    family: Any = GaussianPosterior() if posterior is None else posterior
    device = next((weight.device for weight in encoder.parameters()), torch.device("cpu"))
    features = _tried(encoder, torch.zeros(2, *shape, device=device), "encoder")
    if features.dim() != 2 or len(features) != 2:
        raise InputError(
            f"the encoder makes {tuple(features.shape)} of 2 images; it must make (2, features), so flatten its output"
        )
    made = _tried(decoder, torch.zeros(2, latent_dim, device=device), "decoder")
    wanted = (scored.num_outputs(shape[0]), *shape[1:])
    if tuple(made.shape) != (2, *wanted):
        raise InputError(
            f"the decoder makes {tuple(made.shape)} of 2 latents; it must make {(2, *wanted)}, channels before rows"
        )
    if prior is None:
        prior_module = family.standard(latent_dim)
    elif family.space not in prior.spaces:
        raise InputError(f"the prior does not live on the {family.space} of the posterior; choose another")
    else:
        prior_module = prior.build(latent_dim, 0, shape, family)
    head = family.build(features.shape[1], latent_dim)
    return VAEModel(encoder, head, prior_module, decoder, scored.build(shape[0])).to(device)


def _tried(module: nn.Module, given: Tensor, what: str) -> Tensor:
    training = module.training
    try:
        with torch.no_grad():
            made: Any = module.eval()(given)
    except (RuntimeError, ValueError, TypeError) as problem:
        words = " ".join(str(problem).split())[:150]
        raise InputError(
            f"the {what} cannot take an input of shape {tuple(given.shape)}: {words}; change one"
        ) from None
    finally:
        module.train(training)
    if not isinstance(made, Tensor):
        raise InputError(f"the {what} returns a {type(made).__name__}; it must return one tensor of torch")
    return made


def fit_model(
    model: Model,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    objective: Objective | None = None,
    epochs: float = 20.0,
    batch_size: int = 128,
    learning_rate: float = 4e-3,
    seed: int = 0,
    told: Callable[[int, float], None] | None = None,
) -> Model:
    """Train a model on images in memory; returns it, in evaluation mode.

    Args:
        model: such as `assemble` makes; trained where it is.
        images: (n, height, width[, channels]), whole numbers from 0 to 255 or fractions from 0 to 1.
        labels: (n,) whole numbers from 0, for a model that reads them.
        objective: an entry of `vaekit list objectives`; None is the ELBO.
        epochs: passes over the images.
        batch_size: images a step.
        learning_rate: the highest learning rate of Adam, which warms up and falls by half a cosine.
        seed: order, noise and the objective's own modules follow from it.
        told: is called after each epoch with its number and its mean loss.

    Raises:
        InputError: when images or settings do not fit.
        DivergedError: when a loss is not finite.
    """
    training = Training(epochs=float(epochs), batch_size=batch_size, learning_rate=float(learning_rate), seed=seed)
    check(training)
    objective = objective or Elbo()
    missing = sorted(objective.needs - model.provides)
    if missing:
        words = "; and ".join(PROVIDES.get(need, need) for need in missing)
        raise InputError(f"objective {OBJECTIVES.name_of(objective)!r} needs {words}, which this model does not have")
    packed = pack(images, labels, "images")
    if batch_size > len(packed):
        raise InputError(f"batch_size: {batch_size} is more than the {len(packed)} images; lower it")
    if model.num_classes is not None and packed.labels is None:
        raise InputError("labels: the model is conditional; give a label for each image")
    device = next(model.parameters()).device
    code = encode(model.eval(), packed.unit(torch.zeros(1, dtype=torch.int64)), packed.condition(torch.tensor([0])))
    with seeded(seed, "players"):
        players = objective.players(code.shape[1], packed.shape)
    step = TrainingStep(model, objective, players, Data(), len(packed))
    step.to(device).train()
    optimizers = Optimizers(
        {MODEL: model, **players}, training, device, objective.rates(), model.inference_parameters()
    )
    here, order = packed.to(device), Order(len(packed), batch_size, seed, device)
    losses: list[Tensor] = []

    def body(index: Tensor, key: Tensor, number: Tensor, hyper: Any) -> None:
        result = step(here, index, key, number, hyper)
        optimizers.backward(result.losses)
        optimizers.step()
        objective.after_step(model, hyper)
        model.after_step(result.draw, lambda tensor: tensor)
        losses.append(result.logged["loss"])

    run, total, epoch = EagerStep(body, device), max(1, math.floor(epochs * len(packed) / batch_size)), 0
    for number in range(total):
        optimizers.set_learning_rate(rate_at(training, number, total))
        factors = objective.factors(number * batch_size / len(packed))
        hyper = {name: value * factors.get(name, 1.0) for name, value in numeric_fields(objective).items()}
        run(order.batch(number), seed_key(seed, "train", number), number, hyper)
        if number + 1 == total or number + 1 == order.steps_at(epoch + 1):
            epoch += 1
            mean = float(torch.stack(losses).mean())
            losses.clear()
            if not math.isfinite(mean):
                raise DivergedError(f"the loss became infinite or NaN in epoch {epoch}; lower learning_rate")
            if told is not None:
                told(epoch, mean)
    model.eval()
    return model
