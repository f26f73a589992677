"""Whether pixels, targets and likelihood go together: looked at once, before a run begins."""

from __future__ import annotations

from vaekit.config import flags
from vaekit.data.binarization import Dequantize
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.models.table import MODELS
from vaekit.probability.continuous_bernoulli import ContinuousBernoulli
from vaekit.probability.laplace import Laplace
from vaekit.probability.likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Likelihood
from vaekit.settings import Config

_NARROW = 1.0 / 255.0  # one grey level
_WIDE = 0.5  # half of the whole range


def check_fit(config: Config, info: DataInfo) -> list[str]:
    """One sentence for each thing that works but misleads, naming the setting and a better one.

    Raises:
        InputError: for what cannot be right: levels of pixels that are not whole grey levels or only black and white,
            dequantized pixels under a likelihood of whole levels, the continuous Bernoulli on black and white, whose
            density at 0 and 1 grows without end as its logits do, and an input that is not the target of a model that infers
            from it.

    >>> from vaekit.settings import configure
    >>> photographs = DataInfo("photos", (3, 64, 64))
    >>> print(*check_fit(configure("conv", likelihood="bernoulli"), photographs))  # doctest: +ELLIPSIS
    --likelihood bernoulli: on colour images it is a surrogate, ...; --likelihood discretized-logistic is a probability
    >>> check_fit(configure("conv", likelihood="discretized-logistic"), photographs)
    []
    """
    likelihood, dequantized = config.model.likelihood, isinstance(config.data.binarization, Dequantize)
    binary = config.data.is_binary(info)
    _check_target(config)
    if dequantized:
        _check_dequantized(likelihood, info)
    name = LIKELIHOODS.name_of(likelihood)
    if getattr(likelihood, "whole_levels", False):
        _check_levels(name, info, binary)
    if binary and isinstance(likelihood, ContinuousBernoulli):
        raise InputError(
            f"--likelihood {name}: the targets are only black and white, where its density grows without end; "
            "choose bernoulli, which is a probability there"
        )
    found = []
    if isinstance(likelihood, Bernoulli) and not binary and (dequantized or info.shape[0] > 1):
        what = "dequantized pixels" if dequantized else "colour images"
        better = (
            "--likelihood discretized-logistic is a probability"
            if info.whole and not dequantized
            else "--likelihood continuous-bernoulli is a density"
        )
        found.append(
            f"--likelihood {name}: on {what} it is a surrogate, a cross-entropy that is no bound on log p(x); {better}"
        )
    if isinstance(likelihood, ContinuousBernoulli) and info.whole and not dequantized:
        found.append(
            f"--likelihood {name}: pixels that are black or white throughout raise its density without end, so its nats "
            "compare with nothing; --binarization dequantize bounds them and gives bits per dimension"
        )
    if binary and likelihood.measure(binary) == "density":
        found.append(
            f"--likelihood {name}: the targets are only black and white, where a density has no upper limit and its nats "
            "compare with nothing; --likelihood bernoulli is a probability"
        )
    return [*found, *_scale_advice(likelihood, name), *_schedule_advice(config)]


def _schedule_advice(config: Config) -> list[str]:
    """On numbers of the objective that still grow when the training ends."""
    epochs, found = config.training.epochs, []
    for growing, part in (
        (lambda at: {"beta": config.beta_schedule(at)}, config.beta_schedule),
        (config.objective.factors, config.objective),
    ):
        unsettled = [name for name, factor in growing(epochs).items() if factor < 1.0]
        over = [flag for flag in flags(part) if flag.name.endswith("_epochs")]
        if unsettled and over and not getattr(part, "repeats", False):
            what = f"{' and '.join(unsettled)} still {'grows' if len(unsettled) == 1 else 'grow'}"
            found.append(
                f"{over[0].option} {over[0].value:g}: {what} when the training ends after --epochs {epochs:g}, and until "
                "then no weights are selected by validation; give fewer of the first or more of the second"
            )
    return found


def _check_target(config: Config) -> None:
    """Refuse a model that infers from the target where the encoder is given something else."""
    if config.data.restores and getattr(config.model, "reads_target", False):
        name = MODELS.name_of(config.model)
        raise InputError(
            f"--model {name}: it infers latents from the very image that it scores, and here the input is another; "
            "choose --model vae, or leave out --corruption and --target"
        )


def _check_dequantized(likelihood: Likelihood, info: DataInfo) -> None:
    if getattr(likelihood, "whole_levels", False):
        raise InputError(
            f"--binarization dequantize: makes pixels continuous and --likelihood {LIKELIHOODS.name_of(likelihood)} "
            "scores whole grey levels; choose --binarization none, or another likelihood"
        )
    if not info.whole:
        raise InputError(
            f"--binarization dequantize: {info.name!r} has fractional pixels, and noise within a grey level needs whole "
            "ones; choose none, or give uint8 images"
        )
    if info.binary:
        raise InputError(
            f"--binarization dequantize: {info.name!r} is only black and white, two levels of 256; choose none, with "
            "--likelihood bernoulli"
        )


def _check_levels(name: str, info: DataInfo, binary: bool) -> None:
    if binary:
        raise InputError(
            f"--likelihood {name}: the targets are only black and white, two of its 256 levels; choose bernoulli"
        )
    if not info.whole:
        raise InputError(
            f"--likelihood {name}: {info.name!r} has fractional pixels, and it scores whole grey levels; "
            "choose gaussian, or give uint8 images"
        )


def _scale_advice(likelihood: Likelihood, name: str) -> list[str]:
    """On a scale that stays as given and weighs the distortion far too much, or hardly at all."""
    if isinstance(likelihood, Gaussian):
        option, scale, learned = "sigma", likelihood.sigma, likelihood.learn_sigma
    elif isinstance(likelihood, Laplace):
        option, scale, learned = "laplace-scale", likelihood.laplace_scale, likelihood.learn_laplace_scale
    else:
        return []
    better = f"--learn-{option} true lets the images decide"
    if learned or _NARROW <= scale <= _WIDE:
        return []
    if scale < _NARROW:
        return [
            f"--{option} {scale:g}: is fixed below one grey level (0.0039), so the rate counts for next to nothing and "
            f"samples from the prior suffer; {better}"
        ]
    return [
        f"--{option} {scale:g}: is fixed at more than half the range of the pixels, so the rate outweighs all detail and "
        f"latents may collapse; {better}"
    ]
