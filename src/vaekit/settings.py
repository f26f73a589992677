"""The whole configuration of a run, and the presets that are complete values of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vaekit.config import choice, flags, leaf, set_flags
from vaekit.corruptions.table import DownUp
from vaekit.data.batches import Data
from vaekit.data.sizing import Sizing
from vaekit.errors import InputError, unknown
from vaekit.models.hierarchical import HierarchicalConfig
from vaekit.models.table import MODELS, ModelConfig
from vaekit.models.vae import VAEConfig
from vaekit.models.vq import VQConfig
from vaekit.networks.conditioning import Embedding, OneHot
from vaekit.networks.conv import Conv
from vaekit.networks.mlp import MLP
from vaekit.networks.residual import Residual
from vaekit.objectives.adversarial.vae_gan import VaeGan
from vaekit.objectives.balanced import Balanced
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.schedules import BETA_SCHEDULES, BetaSchedule, Constant
from vaekit.objectives.table import OBJECTIVES, Objective
from vaekit.probability.logistic import DiscretizedLogistic
from vaekit.probability.logistic_mixture import LogisticMixture
from vaekit.probability.optimal_gaussian import OptimalGaussian
from vaekit.quantizers.codebooks import Ema
from vaekit.shipped import shipped


@dataclass(frozen=True)
class Training:
    """How a model is trained: Adam with a linear warm-up and a decay, by half a cosine to zero if not told otherwise."""

    epochs: float = leaf(20.0, "passes over the training images; a fraction is allowed", gt=0, le=1e6)
    batch_size: int = leaf(128, "images a step, over all processes together", ge=1, le=1_000_000)
    learning_rate: float = leaf(4e-3, "highest learning rate of Adam", gt=0, le=10)
    warmup: float = leaf(0.05, "fraction of the steps over which the learning rate grows from 0", ge=0, le=1)
    decay: Literal["cosine", "stages", "none"] = leaf(
        "cosine", "how the learning rate falls after the warm-up: cosine, stages (Burda et al. 2016) or none"
    )
    decay_stages: int = leaf(8, "stages of --decay stages, each three times as long as the one before", ge=1, le=20)
    adam_epsilon: float = leaf(1e-7, "Adam's epsilon", gt=0, le=1)
    gradient_clip: float | None = leaf(None, "largest norm of the gradient (none: not clipped)", gt=0)
    select_best: bool = leaf(
        True, "keep the weights of the best validation ELBO, where images are held out; not while a schedule runs"
    )
    ema_decay: float | None = leaf(
        None, "average the weights with this decay for validation and the final model (none: do not)", ge=0, lt=1
    )
    patience: int | None = leaf(None, "stop after so many epochs without a better validation ELBO (none: never)", ge=1)
    progressive: int | None = leaf(
        None,
        "sizes of images to train in turn, each twice the one before (none: the full size from the start)",
        ge=2,
        le=8,
    )
    fade: float = leaf(0.5, "of --progressive: fraction of a stage over which its level is faded in", ge=0, lt=1)
    last_stage: float = leaf(0.5, "of --progressive: fraction of the steps that is left for the full size", gt=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16"] = leaf(
        "auto", "arithmetic of the networks: auto, float32 or bfloat16 (auto: bfloat16 where it is safe and faster)"
    )
    kernels: Literal["auto", "torch", "native"] = leaf(
        "auto",
        "what computes the slow parts of a step on a CPU: auto, torch, or native, which is C compiled on this machine "
        "(auto: native where it can be had)",
    )
    device: Literal["auto", "cpu", "cuda"] = leaf("auto", "where to compute: auto, cpu or cuda")
    threads: int | None = leaf(None, "CPU threads (none: as many as there are cores)", ge=1, le=1024)
    start_from: str | None = leaf(
        None, "trained model whose weights to start from: a run, or a model file (none: random weights)"
    )
    output_bias: Literal["zero", "mean"] = leaf(
        "zero",
        "what the decoder shows before it has learned: zero, or mean (the mean training image; Burda et al. 2016)",
    )
    freeze: Literal["none", "encoder", "decoder"] = leaf(
        "none", "part of --start-from that stays as it is: none, encoder or decoder"
    )
    seed: int = leaf(0, "everything random follows from it", ge=0, lt=2**63)
    tensorboard: bool = leaf(False, "log each epoch for TensorBoard too, into the run's folder tensorboard")

    def settled(self) -> Training:
        """The same for a run folder: where the model to start from is, from the root; the name of one that comes along."""
        if self.start_from is None or (self.start_from in shipped() and not Path(self.start_from).exists()):
            return self
        return replace(self, start_from=str(Path(self.start_from).expanduser().resolve()))


@dataclass(frozen=True)
class Config:
    """All that is needed to repeat a run on the same data."""

    data: Data = field(default_factory=Data)
    model: ModelConfig = choice(MODELS, VAEConfig, "kind of model")
    objective: Objective = choice(OBJECTIVES, Elbo, "what is minimized")
    beta_schedule: BetaSchedule = choice(BETA_SCHEDULES, Constant, "how the objective's beta changes over the epochs")
    training: Training = field(default_factory=Training)

    def factors(self, epochs: float) -> dict[str, float]:
        """What the objective's numbers are multiplied by after so many epochs; those that are not named, by 1."""
        own = self.objective.factors(epochs)
        return {**own, "beta": self.beta_schedule(epochs) * own.get("beta", 1.0)}

    def check_combination(self) -> None:
        """Refuse choices that do not go together.

        Raises:
            InputError: in one sentence.
        """
        self.data.corruption.shape((1, 64, 64))  # a chain of corruptions is read here
        has_beta = any(flag.name == "beta" for flag in flags(self.objective))
        if not has_beta and not isinstance(self.beta_schedule, Constant):
            raise InputError(
                f"--beta-schedule {BETA_SCHEDULES.name_of(self.beta_schedule)}: objective "
                f"{OBJECTIVES.name_of(self.objective)!r} has no beta to schedule; choose constant or another objective"
            )


_SEED_NETWORK = Conv(channels=(32, 64), dense=128)
# On validation images, one seed each: for the MLP the best of 1, 2, 4, 8, 16e-3; for the seeds better than 4e-3.
_FAST = 8e-3
# Faces, validation ELBO, one seed: 2 epochs in batches of 32 came as far as 6 in batches of 128.
_SMALL = 32
_PUBLISHED_BETA = 1 / 128  # the write-ups sum one term over a batch of 128 and average the other


def _seed(model: VAEConfig, beta: float = 1.0, epochs: float = 10.0, data: Data | None = None) -> Config:
    """A system as its source has it: all 60,000 images, no selection, last weights."""
    return Config(
        data=data or Data(data="mnist", validation=0),
        model=model,
        objective=Elbo(beta=beta),
        training=Training(epochs=epochs, learning_rate=_FAST, select_best=False),
    )


PRESETS: dict[str, tuple[str, Config]] = {
    "mlp": (
        "dense layers 784-400-20, as in PyTorch's own example",
        Config(model=VAEConfig(latent_dim=20, network=MLP()), training=Training(epochs=10, learning_rate=_FAST)),
    ),
    "conv": ("convolutions 32-64, 16 latents: a good first model", Config()),
    "beta": ("the conv preset with beta 4: fewer, more separate latents", Config(objective=Elbo(beta=4.0))),
    "vae-gan": (
        "crisp samples with a discriminator of images: the conv preset's network at a rate that the two can share",
        Config(
            objective=VaeGan(discriminator_rate=0.25),  # type: ignore[arg-type]  # mypy reads `selects = None` as the type
            training=Training(epochs=20, batch_size=64, learning_rate=1e-3),
        ),
    ),
    "folder": (
        "own photographs, or any folder of images: 64x64 pixels, four levels of convolutions, 64 latents",
        Config(
            data=Data(sizing=Sizing(image_size=64)),
            model=VAEConfig(
                latent_dim=64,
                network=Conv(channels=(32, 64, 128, 256), dense=256, initialization="he"),
                likelihood=OptimalGaussian(),
            ),
            training=Training(epochs=20, batch_size=_SMALL, learning_rate=1e-3),
        ),
    ),
    "faces": (
        "faces of 64x64 pixels: four levels of convolutions, 128 latents",
        Config(
            data=Data(data="faces", sizing=Sizing(image_size=64)),
            model=VAEConfig(
                latent_dim=128, network=Conv(channels=(32, 64, 128, 256), dense=512), likelihood=OptimalGaussian()
            ),
            training=Training(epochs=30, batch_size=_SMALL, learning_rate=1e-3),
        ),
    ),
    "cifar": (
        "CIFAR-10: residual blocks, 128 latents, a probability of whole grey levels and so bits per dimension",
        Config(
            data=Data(data="cifar-10"),
            model=VAEConfig(latent_dim=128, network=Residual(widths=(32, 64, 128)), likelihood=DiscretizedLogistic()),
            training=Training(epochs=20, learning_rate=1e-3),
        ),
    ),
    "vq": (
        "discrete latents: a grid of codes from a book of 128, and a transformer that predicts them",
        Config(model=VQConfig(quantizer=Ema(num_codes=128)), training=Training(epochs=20)),
    ),
    "hierarchical": (
        "deep latents for small images: 32 latents, then maps of 4x7x7 and 2x14x14 of them (of 28x28 pixels)",
        Config(
            model=HierarchicalConfig(),
            objective=Balanced(),
            training=Training(epochs=20, gradient_clip=200.0),
        ),
    ),
    "hierarchical-cifar": (
        "CIFAR-10 on a GPU: 21 levels of maps of latents of 4x4 to 16x16, mixtures of logistics for whole grey levels",
        Config(
            data=Data(data="cifar-10"),
            model=HierarchicalConfig(
                latent_dim=None,
                levels=(10, 8, 3),
                latent_channels=(8, 8, 8),
                widths=(128, 192, 256),
                blocks=2,
                normalization="group",
                activation="silu",
                likelihood=LogisticMixture(pixel_components=10),
            ),
            objective=Balanced(),
            training=Training(epochs=100, batch_size=64, learning_rate=1e-3, gradient_clip=200.0, ema_decay=0.999),
        ),
    ),
    "conv-seed": (
        "the write-ups' convolutional network without labels, 2 latents",
        _seed(VAEConfig(latent_dim=2, network=_SEED_NETWORK)),
    ),
    "cvae-onehot": (
        "conditional VAE: the label as a one-hot vector, 2 latents",
        _seed(VAEConfig(latent_dim=2, network=_SEED_NETWORK, conditioning=OneHot())),
    ),
    "cvae-embedding": (
        "conditional VAE: the label as a learned vector of 8, 2 latents, beta 1/128 as published",
        _seed(VAEConfig(latent_dim=2, network=_SEED_NETWORK, conditioning=Embedding()), beta=_PUBLISHED_BETA),
    ),
    "denoising": (
        "undoes a blur: input scaled down by 2 and up again, clean target, 16 latents, beta 1/128 as published",
        _seed(
            VAEConfig(latent_dim=16, network=_SEED_NETWORK),
            beta=_PUBLISHED_BETA,
            epochs=5.0,
            data=Data(data="mnist", validation=0, corruption=DownUp()),
        ),
    ),
}


def preset(name: str) -> Config:
    """The configuration of a preset.

    >>> preset("cvae-onehot").model.latent_dim
    2
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name][1]


def configure(preset_name: str = "conv", **given: Any) -> Config:
    """A configuration: a preset, changed by flat settings, as on the command line.

    >>> configure("conv", latent_dim=2, network="mlp").model.network
    MLP(hidden=(400,), activation='relu', dense_normalization='none')

    Raises:
        InputError: for an unknown name, or a value of wrong type or range, in one sentence.
    """
    config: Config = set_flags(preset(preset_name), given)
    config.check_combination()
    return config
