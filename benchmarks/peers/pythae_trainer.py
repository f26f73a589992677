"""Pythae 0.1.2 as documented: TrainingPipeline, BaseTrainer, its VAE around one's own networks.

Its progress bars and logging stay as they are. No evaluation set is given, so its trainer keeps the best
model on its training loss; measured are the last weights, as in every system. torch 2.13 needs no change.
"""

from __future__ import annotations

import tempfile

import torch
from mnist_task import BATCH_SIZE, LATENT_DIM, LEARNING_RATE, arguments, load, report
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from torch import Tensor
from torch_network import Decoder, Encoder, held_out_loss, num_parameters


class PythaeEncoder(BaseEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.network = Encoder(LATENT_DIM)

    def forward(self, x: Tensor) -> ModelOutput:
        mean, log_variance = self.network(x)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class PythaeDecoder(BaseDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.network = Decoder(LATENT_DIM)

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.network(z)))


def build() -> VAE:
    """Pythae's VAE with the network of the task."""
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT_DIM, reconstruction_loss="bce")
    return VAE(config, encoder=PythaeEncoder(), decoder=PythaeDecoder())


def main() -> None:
    options = arguments()
    torch.manual_seed(options.seed)
    train, test = (torch.from_numpy(images).unsqueeze(1) for images in load(options))
    model = build()
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=options.epochs,
            learning_rate=LEARNING_RATE,
            per_device_train_batch_size=BATCH_SIZE,
            seed=options.seed,
            no_cuda=options.device == "cpu",
        )
        TrainingPipeline(model, config)(train)
    model.eval()
    report(
        images_trained=options.epochs * len(train),
        parameters=num_parameters(model),
        test_loss_nats=held_out_loss(model.encoder.network, model.decoder.network, test, options.device),
        libraries=("pythae", "torch", "numpy"),
    )


if __name__ == "__main__":
    main()
