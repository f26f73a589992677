"""The network of vaekit's `conv-seed` preset in plain torch layers, for the plain loop and for Pythae."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Encoder(nn.Module):
    """Images (batch, 1, 28, 28) to mean and log-variance, each (batch, num_latents)."""

    def __init__(self, num_latents: int = 2):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3136, 128),
            nn.ReLU(),
        )
        self.mean = nn.Linear(128, num_latents)
        self.log_variance = nn.Linear(128, num_latents)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return self.mean(features), self.log_variance(features)


class Decoder(nn.Module):
    """Latents (batch, num_latents) to logits (batch, 1, 28, 28)."""

    def __init__(self, num_latents: int = 2):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_latents, 3136),
            nn.ReLU(),
            nn.Unflatten(1, (64, 7, 7)),
            nn.ConvTranspose2d(64, 64, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 3, padding=1),
        )

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents)


def num_parameters(*modules: nn.Module) -> int:
    """Trainable numbers in the modules together."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def negative_elbo(encoder: nn.Module, decoder: nn.Module, images: Tensor) -> Tensor:
    """Cross-entropy summed over pixels + KL, one latent sample an image; nats, summed over the batch."""
    mean, log_variance = encoder(images)
    latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
    cross_entropy = F.binary_cross_entropy_with_logits(decoder(latents), images, reduction="sum")
    return cross_entropy + 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum()


@torch.no_grad()
def held_out_loss(encoder: nn.Module, decoder: nn.Module, images: Tensor, device: str) -> float:
    """Mean of `negative_elbo` over images (n, 1, 28, 28), nats per image."""
    parts = [negative_elbo(encoder, decoder, part.to(device)).item() for part in images.split(1000)]
    return sum(parts) / len(images)
