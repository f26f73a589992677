"""Weights of a Keras autoencoder of the write-ups' architecture, as a model of vaekit with the same outputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.config import replace
from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.export.keras_file import Kind, Layer, read_layers
from vaekit.export.table import need_packages
from vaekit.latents.gaussian import GaussianPosterior
from vaekit.models.vae import VAEConfig, VAEModel
from vaekit.networks.conditioning import LabelEmbedding
from vaekit.networks.conv import Conv, ConvDecoder, ConvEncoder
from vaekit.networks.mlp import MLP, MLPDecoder, MLPEncoder
from vaekit.noise import seeded
from vaekit.probability.likelihoods import Bernoulli
from vaekit.settings import configure
from vaekit.storage import save_model

Shape = tuple[int, int, int]


def import_keras(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    preset: str = "conv-seed",
    *,
    shape: Shape = (1, 28, 28),
    classes: int = 10,
    **given: Any,
) -> Path:
    """Write a model file with the weights of a Keras model; read with h5py alone, so that nothing in it is executed.

    The Keras model has the layers of the preset in the same order: `Conv2D` of stride 2 with padding "same", `Flatten`,
    `Dense`, two `Dense` of the mean and the log-variance; `Dense`, `Reshape`, `Conv2DTranspose` of stride 2, and a last
    `Conv2DTranspose` or `Conv2D` with a sigmoid; or dense layers alone. A label's vector comes after the features. The
    sigmoid is left out: what stands before it are the logits of the Bernoulli likelihood.

    Args:
        files: one ``.keras`` or ``.h5`` file, or one for the encoder and one for the decoder.
        out: the ``.safetensors`` file to write.
        preset: with further settings, as for `vaekit.train`, the architecture.
        shape: (channels, height, width) of the images.
        classes: number of labels, where the model reads them.

    Raises:
        InputError: when a file is no weights of Keras, or they are of another architecture; nothing was written.
    """
    need_packages(("h5py",), "keras", "import-keras")
    path = Path(out)
    if path.suffix != ".safetensors":
        raise InputError(f"--out {str(out)!r}: the ending {path.suffix!r} is not .safetensors; choose it")
    if not path.parent.is_dir():
        raise InputError(f"--out {str(out)!r}: folder {str(path.parent)!r} does not exist; make it first")
    config = configure(preset, **given)
    chosen = config.model
    if not (
        type(chosen) is VAEConfig
        and isinstance(chosen.network, Conv | MLP)
        and isinstance(chosen.likelihood, Bernoulli)
        and isinstance(chosen.posterior, GaussianPosterior)
    ):
        raise InputError(
            f"--preset {preset}: weights of Keras are for networks conv and mlp with a Gaussian posterior and a Bernoulli "
            "likelihood; choose conv-seed, cvae-onehot, cvae-embedding, denoising or mlp"
        )
    if isinstance(chosen.network, Conv):
        config = replace(config, ("model", "network", "padding"), "after")
    info = DataInfo(
        "keras", shape, tuple(map(str, range(classes))) if chosen.conditioning.size(_labelled(shape)) else ()
    )
    with seeded(0, "weights"):  # they are replaced at once; the caller's generator is left alone
        model = config.model.build(info)
    assert isinstance(model, VAEModel)
    given_files = [files] if isinstance(files, str | os.PathLike) else list(files)
    fill(model, [layer for file in given_files for layer in read_layers(Path(file))], shape)
    try:
        save_model(path, model, config, info, model.state_dict())
    except OSError as error:
        raise InputError(f"--out {str(out)!r} cannot be written ({error.strerror}); choose another place") from None
    return path


@torch.no_grad()
def fill(model: VAEModel, layers: list[Layer], shape: Shape) -> None:
    """Copy layers of Keras into a model whose parts take them in their order.

    Raises:
        InputError: when a part finds no layer of its kind and shape, or a layer is left.
    """
    left = list(layers)

    def take(what: str, kind: Kind, kernel: tuple[int, ...], second: bool = False) -> Layer:
        found = [layer for layer in left if layer.kind == kind and tuple(layer.kernel.shape) == kernel]
        if not found:
            has = ", ".join(sorted({f"{layer.kind} {tuple(layer.kernel.shape)}" for layer in left})) or "none"
            raise InputError(
                f"no layer of Keras is left for the {what}, of kind {kind} and shape {kernel}, among {has}; "
                "choose the preset and settings of that model"
            )
        named = [layer for layer in found if "var" in layer.name.lower() or "sigma" in layer.name.lower()]
        plain = [layer for layer in found if layer not in named]
        layer = (named or plain)[0] if second else (plain or named)[0]
        left.remove(layer)
        return layer

    def dense(target: nn.Linear, what: str, images: str = "") -> None:
        layer = take(what, "dense", (target.in_features, target.out_features))
        weight, bias = layer.kernel.T, _bias(layer)
        if images == "read":
            weight = _channels_first(weight.T, shape).T
        if images == "made":
            weight, bias = _channels_first(weight, shape), _channels_first(bias, shape)
        target.weight.copy_(weight)
        target.bias.copy_(bias)

    def convolution(target: nn.Conv2d | nn.ConvTranspose2d, what: str) -> None:
        if isinstance(target, nn.ConvTranspose2d):
            layer = take(what, "transposed", (3, 3, target.out_channels, target.in_channels))
            kernel = layer.kernel.permute(3, 2, 0, 1)
        elif target.stride == (1, 1):  # the output: of stride 1 a transposed convolution is one by the mirrored kernel
            sizes = (target.in_channels, target.out_channels)
            mirrored = any(
                each.kind == "transposed" and tuple(each.kernel.shape) == (3, 3, *sizes[::-1]) for each in left
            )
            kind: Kind = "transposed" if mirrored else "convolution"
            layer = take(what, kind, (3, 3, *(sizes[::-1] if mirrored else sizes)))
            kernel = layer.kernel.permute(2, 3, 0, 1).flip(2, 3) if mirrored else layer.kernel.permute(3, 2, 0, 1)
        else:
            layer = take(what, "convolution", (3, 3, target.in_channels, target.out_channels))
            kernel = layer.kernel.permute(3, 2, 0, 1)
        assert target.bias is not None
        target.weight.copy_(kernel)
        target.bias.copy_(_bias(layer))

    encoder, decoder, map = model.encoder, model.decoder, model.posterior.map
    assert isinstance(map, nn.Linear)
    if isinstance(model.conditioning, LabelEmbedding):
        table = model.conditioning.weight
        table.copy_(take("labels' vectors", "embedding", tuple(table.shape)).kernel)
    if isinstance(encoder, ConvEncoder):
        for number, layer in enumerate(_convolutions(encoder.convolutions)):
            convolution(layer, f"encoder's convolution {number + 1}")
        dense(encoder.dense, "encoder's dense layer")
    else:
        assert isinstance(encoder, MLPEncoder)
        for number, module in enumerate(_linear(encoder.layers)):
            dense(module, f"encoder's dense layer {number + 1}", "" if number else "read")
    half = (map.in_features, map.out_features // 2)
    heads = [take("mean", "dense", half), take("log-variance", "dense", half, second=True)]
    map.weight.copy_(torch.cat([head.kernel.T for head in heads]))
    map.bias.copy_(torch.cat([_bias(head) for head in heads]))
    if isinstance(decoder, ConvDecoder):
        dense(decoder.dense, "decoder's dense layer")
        for number, layer in enumerate(_convolutions(decoder.convolutions)):
            convolution(layer, f"decoder's convolution {number + 1}")
    else:
        assert isinstance(decoder, MLPDecoder)
        for number, module in enumerate(_linear(decoder.layers)):
            dense(module, f"decoder's dense layer {number + 1}")
        dense(decoder.output, "decoder's output", "made")
    if left:
        names = ", ".join(f"{layer.path} {tuple(layer.kernel.shape)}" for layer in left[:3])
        raise InputError(f"layers of Keras are left over: {names}; choose the preset and settings of that model")


def _labelled(shape: Shape) -> DataInfo:
    return DataInfo("labelled", shape, ("0",))


def _bias(layer: Layer) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _convolutions(layers: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [layer for layer in layers.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]


def _linear(layers: nn.Module) -> list[nn.Linear]:
    return [layer for layer in layers.modules() if isinstance(layer, nn.Linear)]


def _channels_first(values: Tensor, shape: Shape) -> Tensor:
    """Rows (height * width * channels [+ more], ...) of flattened images, reordered as (channels, height, width)."""
    channels, height, width = shape
    count = channels * height * width
    pixels = values[:count].reshape(height, width, channels, *values.shape[1:]).movedim(2, 0)
    return torch.cat([pixels.reshape(count, *values.shape[1:]), values[count:]])
