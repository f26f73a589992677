"""References in closed form, computed without vaekit's own mathematics.

The central one is probabilistic PCA (Tipping and Bishop 1999) as a variational autoencoder: p(z) = N(0, I),
p(x | z) = N(W z + mean, sigma^2 I). With orthogonal columns of W the exact posterior

    p(z | x) = N(M^-1 W^T (x - mean), sigma^2 M^-1),   M = W^T W + sigma^2 I,

is diagonal, so that a diagonal Gaussian encoder can be exact: then the ELBO is log p(x) and all
importance weights agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from torch import nn

from vaekit.latents.gaussian import DiagonalGaussianHead, StandardNormalPrior
from vaekit.models.vae import VAEModel
from vaekit.probability.likelihoods import Gaussian


@dataclass(frozen=True)
class LinearGaussian:
    """Probabilistic PCA fitted to images.

    Attributes:
        pca: scikit-learn's estimator, fitted.
        shape: (channels, height, width).
        loadings: float64 (pixels, latent), orthogonal columns.
        mean: float64 (pixels,).
        sigma: standard deviation of a pixel given z.
    """

    pca: PCA
    shape: tuple[int, int, int]
    loadings: np.ndarray
    mean: np.ndarray
    sigma: float

    @classmethod
    def fit(cls, images: np.ndarray, num_latents: int) -> LinearGaussian:
        """images: (n, channels, height, width)."""
        pca = PCA(num_latents, svd_solver="full").fit(images.reshape(len(images), -1).astype(np.float64))
        loadings = pca.components_.T * np.sqrt(pca.explained_variance_ - pca.noise_variance_)
        return cls(pca, images.shape[1:], loadings, pca.mean_, float(np.sqrt(pca.noise_variance_)))

    def posterior(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means (n, latent) and variances (latent,) of the exact posterior."""
        precision = (self.loadings**2).sum(0) + self.sigma**2
        flat = images.reshape(len(images), -1).astype(np.float64)
        return (flat - self.mean) @ self.loadings / precision, self.sigma**2 / precision

    def log_p(self, images: np.ndarray) -> np.ndarray:
        """log p(x) in nats, (n,), as a normal density with the full covariance."""
        covariance = self.loadings @ self.loadings.T + self.sigma**2 * np.eye(len(self.mean))
        return multivariate_normal(self.mean, covariance).logpdf(images.reshape(len(images), -1).astype(np.float64))

    def posterior_kl(self, shift: float, log_variance: float) -> float:
        """KL(q || p(z | x)) in nats of a posterior off by `shift` standard deviations and a log-variance."""
        each = 0.5 * (shift**2 + np.exp(log_variance) - 1.0 - log_variance)
        return float(self.loadings.shape[1] * each)

    def model(self, shift: float = 0.0, log_variance: float = 0.0) -> VAEModel:
        """The same model as a VAE whose posterior is exact, or off by so much in every latent."""
        num_pixels, num_latents = self.loadings.shape
        precision = (self.loadings**2).sum(0) + self.sigma**2
        to_mean = (self.loadings / precision).T
        variance = self.sigma**2 / precision
        head = DiagonalGaussianHead(num_pixels, num_latents)
        decoder = nn.Linear(num_latents, num_pixels)
        with torch.no_grad():
            head.map.weight.copy_(torch.from_numpy(np.concatenate([to_mean, np.zeros_like(to_mean)])))
            bias = np.concatenate([shift * np.sqrt(variance) - to_mean @ self.mean, np.log(variance) + log_variance])
            head.map.bias.copy_(torch.from_numpy(bias))
            decoder.weight.copy_(torch.from_numpy(self.loadings))
            decoder.bias.copy_(torch.from_numpy(self.mean))
        return VAEModel(
            encoder=nn.Flatten(),
            posterior=head,
            prior=StandardNormalPrior(num_latents),
            decoder=nn.Sequential(decoder, nn.Unflatten(1, self.shape)),
            likelihood=Gaussian(sigma=self.sigma, learn_sigma=False).build(),
        ).eval()


def bilinear_blur(images: np.ndarray, factor: float) -> np.ndarray:
    """Scale down and up again by explicit weights: bilinear, half-pixel centres, no antialiasing."""
    height, width = images.shape[-2:]
    low_height, low_width = max(1, round(height / factor)), max(1, round(width / factor))
    rows = _bilinear(height, low_height) @ _bilinear(low_height, height)
    columns = _bilinear(width, low_width) @ _bilinear(low_width, width)
    return np.einsum("ij,...jk,lk->...il", rows, images.astype(np.float64), columns)


def _bilinear(size_out: int, size_in: int) -> np.ndarray:
    """The matrix (size_out, size_in) of linear interpolation, edges repeated."""
    matrix = np.zeros((size_out, size_in))
    for place in range(size_out):
        at = min(max((place + 0.5) * size_in / size_out - 0.5, 0.0), size_in - 1.0)
        low = int(np.floor(at))
        high = min(low + 1, size_in - 1)
        matrix[place, low] += 1.0 - (at - low)
        matrix[place, high] += at - low
    return matrix
