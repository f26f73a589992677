"""A plain PyTorch loop, as PyTorch's own examples write it: TensorDataset, DataLoader, Adam, loss.item()."""

from __future__ import annotations

import sys

import torch
from mnist_task import BATCH_SIZE, LATENT_DIM, LEARNING_RATE, arguments, load, report
from torch.utils.data import DataLoader, TensorDataset
from torch_network import Decoder, Encoder, held_out_loss, negative_elbo, num_parameters


def main() -> None:
    options = arguments()
    torch.manual_seed(options.seed)
    train, test = (torch.from_numpy(images).unsqueeze(1) for images in load(options))
    loader = DataLoader(TensorDataset(train), batch_size=BATCH_SIZE, shuffle=True)
    encoder, decoder = Encoder(LATENT_DIM).to(options.device), Decoder(LATENT_DIM).to(options.device)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=LEARNING_RATE)
    for epoch in range(1, options.epochs + 1):
        total = 0.0
        for (images,) in loader:
            images = images.to(options.device)
            optimizer.zero_grad()
            loss = negative_elbo(encoder, decoder, images) / len(images)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        print(f"epoch {epoch}: loss {total / len(train):.2f}", file=sys.stderr, flush=True)
    report(
        images_trained=options.epochs * len(train),
        parameters=num_parameters(encoder, decoder),
        test_loss_nats=held_out_loss(encoder, decoder, test, options.device),
        libraries=("torch", "numpy"),
    )


if __name__ == "__main__":
    main()
