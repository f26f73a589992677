"""Objectives of two players: a discriminator, trained beside the model, scores its codes or its images."""

from vaekit.objectives.adversarial import aae, factor, vae_gan

__all__ = ["aae", "factor", "vae_gan"]
