"""The Hamiltonian variational autoencoder (Caterini, Doucet and Sejdinovic 2018, arXiv:1805.11328)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaekit.config import leaf
from vaekit.data.batches import Batch
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.latents.gaussian import GaussianPosterior
from vaekit.latents.table import Posterior
from vaekit.models.draw import Draw, Latent
from vaekit.models.hamiltonian_flow import Flow, HamiltonianPosterior, JointDensity, LeapfrogFlow, Tempering, moved
from vaekit.models.table import MODELS
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.noise import Noise
from vaekit.probability.distributions import DiagonalGaussian, Distribution


class HamiltonianVAE(VAEModel):
    """A VAE whose latents follow the slope of log p(x, z) from where the encoder puts them.

    What represents an image, `latents[0].code` and the `mean` of `encode`, is where the flow takes the mean of q(z_0 | x)
    without momentum. The flow reads the target: an image that is encoded is its own. All but the encoder runs in float32.

    Args:
        parts: a VAE with a diagonal Gaussian posterior, whose modules are taken over.
        flow: a module that is a `Flow`, with volume preserved from (z_0, gamma) to (z_K, rho_K).
    """

    def __init__(self, parts: VAEModel, flow: nn.Module):
        super().__init__(
            parts.encoder, parts.posterior, parts.prior, parts.decoder, parts.likelihood, parts.conditioning
        )
        self.flow = flow

    def _provided(self) -> frozenset[str]:
        # z_K has no density of its own, and hangs on the decoder too
        return frozenset({"vectors", "rate", "moved_rate", "log_w"})

    def _flow_of(self, start: DiagonalGaussian, images: Tensor, code: Tensor | None) -> Flow:
        """The flow of images (batch, channels, height, width) from their q(z_0 | x); here it is the same for all."""
        return self.flow

    def _joint(self, prior: Distribution, code: Tensor | None, target: Tensor, mask: Tensor | None) -> JointDensity:
        return JointDensity(lambda latents: self._decode(latents, code), prior, target, mask)

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Distribution:
        """q(z | image): images (batch, channels, height, width) in [0, 1], which are the target too."""
        code = self.code(condition)
        start = self._posterior(self.features(images, code))
        assert isinstance(start, DiagonalGaussian)
        flow = self._flow_of(start, images, code)
        return HamiltonianPosterior(start, self._joint(self.prior_given(code), code, images, None), flow)

    def _scored(self, group: Latent, code: Tensor | None, batch: Batch, noise: Noise) -> Draw:
        assert group.prior is not None
        assert isinstance(group.posterior, DiagonalGaussian)
        with torch.autocast(group.value.device.type, enabled=False):
            joint = self._joint(group.prior, code, batch.target, batch.mask)
            latent = moved(group, joint, self._flow_of(group.posterior, batch.input, code), noise)
            likelihood = joint.likelihood if torch.is_grad_enabled() else self._decode(latent.value, code)
        assert likelihood is not None
        return Draw((latent,), likelihood, batch.target, batch.mask)


@MODELS.register("hamiltonian")
@dataclass(frozen=True)
class HamiltonianConfig(VAEConfig):
    """Hamiltonian VAE: latents follow the slope of log p(x, z) by leapfrog steps (Caterini et al. 2018, arXiv:1805.11328).

    The bound is that of the space of latents and momentum (see `MovedLatent`). Each step evaluates the decoder and its
    gradient once more, in training and in evaluation alike.
    """

    posterior: ClassVar[Posterior] = GaussianPosterior()  # type: ignore[assignment, misc]  # q(z_0 | x), no choice
    reads_target: ClassVar[bool] = True
    leapfrog_steps: int = leaf(3, "leapfrog steps, each one more evaluation of the decoder", ge=1, le=100)
    largest_step: float = leaf(0.5, "limit of the leapfrog step sizes, which are learned for each latent", gt=0, le=10)
    first_step: float = leaf(0.1, "step sizes at the start, as a fraction of their limit", gt=0, lt=1)
    tempering: Tempering = leaf(
        "fixed",
        "how momentum is tempered: none, fixed (quadratic, beta_0 learned) or free (each step's factor learned)",
    )
    beta_zero: float = leaf(0.3, "inverse temperature of the momentum at the start, learned from there", gt=0, lt=1)

    def build(self, info: DataInfo) -> VAEModel:
        parts = super().build(info)
        refuse_batch_normalization(parts, MODELS.name_of(self))
        return HamiltonianVAE(parts, self.leapfrog())

    def leapfrog(self) -> LeapfrogFlow:
        """The flow of these settings."""
        return LeapfrogFlow(
            self.latent_dim,
            self.leapfrog_steps,
            self.largest_step,
            self.first_step,
            self.tempering,
            self.beta_zero,
        )


def refuse_batch_normalization(parts: VAEModel, name: str) -> None:
    """Refuse a decoder in which images of a batch interact: the slope at one image would be that of all.

    Raises:
        InputError: in one sentence.
    """
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in parts.decoder.modules()):
        raise InputError(
            f"--normalization batch: model {name!r} follows the slope of each image's own density, which the statistics of "
            "a batch would mix; choose none or group"
        )
