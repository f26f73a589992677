"""Train the pinned feature network: src/vaekit/features/pinned.safetensors, and the record of what it can do.

    VAEKIT_DATA=DIR python benchmarks/feature_network.py --out FOLDER

Trains one small network to tell apart the ten classes each of MNIST, Fashion-MNIST and CIFAR-10 (about 5 minutes on one
free thread), folds its batch normalization into the convolutions, rounds the weights to float16, and measures that very
network on the three test sets. Writes FOLDER/pinned.safetensors and FOLDER/feature-network.json; with --check it trains
nothing and measures the weights of the package.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save
from torch import Tensor, nn

from vaekit.data.batches import Data
from vaekit.data.download import data_folder
from vaekit.data.splits import load_splits
from vaekit.features.network import NUM_CLASSES, STAGES, FeatureNetwork, layers, pinned_bytes

SETS = ("mnist", "fashion-mnist", "cifar-10-jpeg")
SIDE = 32
# images of each set in a batch: digits are learned soon, photographs are not
SHARES = {"mnist": 16, "fashion-mnist": 44, "cifar-10-jpeg": 132}
LICENCES = {
    "mnist": "CC BY-SA 3.0 (LeCun and Cortes)",
    "fashion-mnist": "MIT (Zalando SE)",
    "cifar-10-jpeg": "none published (Krizhevsky 2009); research use",
}


class Training(nn.Module):
    """The network as it is trained: batch normalization (Ioffe and Szegedy 2015) after each convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        for name, num_in, num_out in layers():
            key = name.replace(".", "_")
            self.convolutions[key] = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(self.convolutions[key].weight, mode="fan_out", nonlinearity="relu")
            self.norms[key] = nn.BatchNorm2d(num_out)
        self.head = nn.Linear(STAGES[-1][-1], NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        current = images
        for stage, widths in enumerate(STAGES):
            current = F.avg_pool2d(current, 2) if stage else current
            for place in range(len(widths) - 1):
                key = f"stage{stage}_{place}"
                current = self.norms[key](self.convolutions[key](current)).relu()
        return self.head(current.mean((2, 3)).float())

    @torch.no_grad()
    def folded(self) -> bytes:
        """The weights, each normalization folded into the convolution before it, as float16 in a safetensors file."""
        tensors = {"head.weight": self.head.weight, "head.bias": self.head.bias}
        for name, _, _ in layers():
            norm, weight = self.norms[name.replace(".", "_")], self.convolutions[name.replace(".", "_")].weight
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            tensors[f"{name}.weight"] = weight * factor[:, None, None, None]
            tensors[f"{name}.bias"] = norm.bias - norm.running_mean * factor
        return save({name: np.ascontiguousarray(each.numpy().astype(np.float16)) for name, each in tensors.items()})


def batch(images: dict[str, tuple[Tensor, Tensor]], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images uint8 (n, 3, 32, 32) of all sets, anywhere within a margin of 4 pixels, and their labels from 0 to 29.

    Photographs are mirrored half of the time and grey once in ten times.
    """
    parts, labels = [], []
    for name, count in SHARES.items():
        pixels, label = images[name]
        chosen = torch.randint(len(pixels), (count,), generator=generator)
        found = F.pad(pixels[chosen], (4, 4, 4, 4))
        place = torch.randint(found.shape[-1] - SIDE + 1, (2, count, 1), generator=generator) + torch.arange(SIDE)
        rows, columns = place[0][:, None, :, None], place[1][:, None, None, :]
        here, channel = torch.arange(count)[:, None, None, None], torch.arange(found.shape[1])[:, None, None]
        found = found[here, channel, rows, columns]
        if name == "cifar-10-jpeg":
            mirrored, grey = torch.rand(2, count, 1, 1, 1, generator=generator)
            found = torch.where(mirrored < 0.5, found.flip(3), found)
            mean = found.float().mean(1, keepdim=True).round().to(torch.uint8)
            found = torch.where(grey < 0.1, mean, found)
        parts.append(found.expand(-1, 3, -1, -1))
        labels.append(label[chosen] + 10 * SETS.index(name))
    return torch.cat(parts), torch.cat(labels)


def train(data: dict[str, tuple[Tensor, Tensor]], steps: int, rate: float, seed: int = 0) -> Training:
    """The trained network: SGD with momentum, a learning rate that rises over a tenth of the steps and falls to 0."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Training().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    started = time.perf_counter()
    for step in range(steps):
        pixels, labels = batch(data, generator)
        images = (pixels.float() / 255.0).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == steps - 1:
            print(f"step {step} of {steps}: loss {loss.item():.3f}, {time.perf_counter() - started:.0f} s", flush=True)
    return network.eval()


@torch.no_grad()
def accuracy(network: FeatureNetwork, images: Tensor, labels: Tensor, first: int) -> float:
    """Part of images (n, channels, height, width) whose class, among all 30, is found."""
    right = 0
    for part in torch.arange(len(images)).split(500):
        found = network.classify(images[part].float() / 255.0).argmax(1)
        right += int((found == labels[part] + first).sum())
    return right / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/feature-network"))
    parser.add_argument("--steps", type=int, default=2800)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--check", action="store_true", help="measure the weights of the package; train nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train_images, test_images = {}, {}
    for name in SETS:
        splits = load_splits(Data(data=name, validation=0), data_folder(None))
        for kept, images in ((train_images, splits.train), (test_images, splits.test)):
            own = images.copied()
            kept[name] = own.pixels.permute(0, 3, 1, 2), own.labels
    started = time.perf_counter()
    content = pinned_bytes() if options.check else train(train_images, options.steps, options.rate).folded()
    seconds = time.perf_counter() - started
    network = FeatureNetwork(content)
    found = {name: accuracy(network, *test_images[name], 10 * SETS.index(name)) for name in SETS}
    record = {
        "command": f"python benchmarks/feature_network.py --steps {options.steps} --rate {options.rate:g}",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "parameters": sum(buffer.numel() for buffer in network.buffers()),
        "test_accuracy": found,
        "test_images": {name: len(test_images[name][0]) for name in SETS},
        "among": "all 30 classes; test images as they are, 28x28 or 32x32; the folded float16 weights of the file",
        "train_images": {name: options.steps * count for name, count in SHARES.items()},
        "training_seconds": None if options.check else round(seconds, 1),
        "threads": 1,
        "data_licences": LICENCES,
        "note": "the CIFAR-10 images were a copy in JPEG (about quality 75) of the original",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    print(json.dumps(record, indent=2))
    if not options.check:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "pinned.safetensors").write_bytes(content)
        (options.out / "feature-network.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
