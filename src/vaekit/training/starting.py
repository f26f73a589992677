"""Fine-tuning: a training that starts from the weights of a trained model, and parts of it that stay as they are."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from vaekit.data.images import Images
from vaekit.errors import InputError
from vaekit.models.table import Model
from vaekit.probability.likelihoods import LIKELIHOODS, Bernoulli, Likelihood
from vaekit.settings import Config, Training
from vaekit.storage import load_model

OPTION = "--start-from"
_OF_LABELS = "conditioning."  # what stands for labels or attributes: data with others have their own
_MOST_NAMED = 5
_DARKEST = 0.001  # mean of a pixel that begins as a probability
_MOST_AVERAGED = 60_000


def begin(model: Model, config: Config, images: Images) -> list[str]:
    """Give a freshly made model the weights that its training starts from, and freeze what stays.

    Args:
        model: freshly made.
        config: of the run.
        images: to train on.

    Returns:
        A sentence on what was taken, where there was a model to start from.

    Raises:
        InputError: when it does not fit, or is missing while a part is to be frozen.
    """
    said, training = [], config.training
    if training.output_bias == "mean":
        show_mean(model, config.model.likelihood, images)
    if training.start_from is not None:
        said.append(take_weights(model, training.start_from))
    elif training.freeze != "none":
        raise InputError(f"--freeze {training.freeze}: the weights would be random ones for ever; add {OPTION} RUN")
    model.begin()
    freeze(model, training)
    return said


@torch.no_grad()
def show_mean(model: Model, likelihood: Likelihood, images: Images) -> None:
    """Set the bias of the decoder's last layer so that, but for its weights, it decodes the mean of the images.

    Latents then begin with something better to do than to make all images dark: fewer of them are pruned early. A layer
    with a bias for each channel alone gets the mean of the channel. Burda, Grosse and Salakhutdinov's own code begins so.

    Raises:
        InputError: when the mean of the likelihood is neither a sigmoid of one output for each pixel nor the output itself.
    """
    by_sigmoid = isinstance(likelihood, Bernoulli)
    if not (by_sigmoid or getattr(likelihood, "unbounded", False)):
        name = LIKELIHOODS.name_of(likelihood)
        fitting = [each for each in LIKELIHOODS if getattr(LIKELIHOODS[each], "unbounded", False)]
        raise InputError(
            f"--output-bias mean: is not known for likelihood {name!r}; choose zero, or bernoulli, {', '.join(fitting)}"
        )
    some = images.spread(_MOST_AVERAGED)
    total = torch.zeros(some.shape, dtype=torch.float64)
    for rows in torch.arange(len(some)).split(1000):
        total += some.unit(rows).double().sum(0)
    mean = total / len(some)
    shown = mean.clamp(_DARKEST, 1.0 - _DARKEST).logit() if by_sigmoid else mean
    decoder = getattr(model, "decoder", None)
    biases = [] if decoder is None else [each for name, each in decoder.named_parameters() if name.endswith("bias")]
    if biases and biases[-1].numel() == shown.numel():
        biases[-1].copy_(shown.flatten())
    elif biases and biases[-1].numel() == shown.shape[0]:
        of_channels = mean.mean((1, 2))
        biases[-1].copy_(of_channels.clamp(_DARKEST, 1.0 - _DARKEST).logit() if by_sigmoid else of_channels)
    else:
        raise InputError(
            "--output-bias mean: the decoder's last layer has no bias for each pixel or channel; choose zero"
        )


def freeze(model: Model, training: Training) -> None:
    """Freeze the part that the settings name.

    Raises:
        InputError: when the model has no such part.
    """
    if training.freeze != "none":
        model.freeze(training.freeze)


@torch.no_grad()
def take_weights(model: Model, path: str) -> str:
    """Copy into `model` every tensor of a trained model that it has under the same name; returns what was taken.

    Of another shape may only be what stands for labels or attributes: it stays new.

    Args:
        model: freshly made; its tensors keep their memory.
        path: a run folder, or a model file.

    Raises:
        InputError: when there is no trained model, a tensor has another shape, or no tensor is shared.
    """
    try:
        given, own = load_model(path)[0].state_dict(), model.state_dict()
    except InputError as problem:
        raise InputError(f"{OPTION} {problem}") from None
    taken = {name for name in own if name in given and given[name].shape == own[name].shape}
    for name in own:
        if name in given and name not in taken and not name.startswith(_OF_LABELS):
            raise InputError(
                f"{OPTION} {path!r}: its {name} has shape {tuple(given[name].shape)} and this model's has "
                f"{tuple(own[name].shape)}; choose the network, latents, labels and image size of that model"
            )
    if not taken:
        raise InputError(f"{OPTION} {path!r}: shares no weights with this model; choose the network of that model")
    for name in taken:
        own[name].copy_(given[name])
    parts = sorted({name.partition(".")[0] for name in taken})
    words = [f"started from {path!r}: took {len(taken)} tensors of {', '.join(parts)}"]
    words += [f"new: {_listed(name for name in own if name not in taken)}"] if len(taken) < len(own) else []
    left = [name for name in given if name not in taken]
    return "; ".join([*words, *([f"left out: {_listed(left)}"] if left else [])])


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    more = [f"and {len(known) - _MOST_NAMED} more"] if len(known) > _MOST_NAMED else []
    return ", ".join([*known[:_MOST_NAMED], *more])
