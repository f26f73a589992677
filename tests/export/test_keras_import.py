"""Weights from Keras give the same outputs, however they were saved; other files are refused in one sentence."""

from __future__ import annotations

import importlib.util
import os
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from commands import good, refused
from vaekit.trained import load

pytest.importorskip("h5py")
if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)
os.environ.setdefault("KERAS_BACKEND", "torch")
import keras  # reads the variable
from keras import layers

Capture = pytest.CaptureFixture[str]
LATENTS, DENSE, SIZE, CLASSES = 3, 12, 5, 4


def pair(
    shape: tuple[int, int, int] = (1, 8, 12),
    kind: str = "embedding",
    last: str = "transposed",
    variance_first: bool = True,
) -> SimpleNamespace:
    """Encoder and decoder as the write-ups have them, in small, with random weights and biases."""
    channels, height, width = shape
    image, code = keras.Input((height, width, channels)), keras.Input((LATENTS,))
    given = [image] if kind == "none" else [image, keras.Input(() if kind == "embedding" else (CLASSES,))]
    vector = [] if kind == "none" else [keras.Input((SIZE if kind == "embedding" else CLASSES,))]
    features = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    features = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(features)
    features = layers.Flatten()(features)
    if kind == "embedding":
        features = layers.Concatenate()([features, layers.Flatten()(layers.Embedding(CLASSES, SIZE)(given[1]))])
    if kind == "onehot":
        features = layers.Concatenate()([features, given[1]])
    features = layers.Dense(DENSE, activation="relu")(features)
    # where the log-variance comes first, what tells the two apart is their names
    names = ["z_log_var", "z_mean"] if variance_first else ["z_mean", "z_log_var"]
    heads = [layers.Dense(LATENTS, name=name)(features) for name in names]
    encoder = keras.Model(given, heads, name="encoder")
    hidden = layers.Concatenate()([code, *vector]) if vector else code
    hidden = layers.Dense(height // 4 * (width // 4) * 6, activation="relu")(hidden)
    hidden = layers.Reshape((height // 4, width // 4, 6))(hidden)
    hidden = layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu")(hidden)
    hidden = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(hidden)
    layer = layers.Conv2DTranspose if last == "transposed" else layers.Conv2D
    made = layer(channels, 3, padding="same", activation="sigmoid")(hidden)
    decoder = keras.Model([code, *vector], made, name="decoder")
    random = np.random.default_rng(0)
    for weight in (*encoder.weights, *decoder.weights):
        weight.assign(random.normal(0, 0.3, weight.shape).astype(np.float32))
    return SimpleNamespace(encoder=encoder, decoder=decoder, shape=shape, kind=kind)


class Whole(keras.Model):
    """A subclass, as training steps of one's own need it."""

    def __init__(self, encoder: Any, decoder: Any):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.built = True

    def call(self, inputs: Any) -> Any:
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {}


def agree(made: SimpleNamespace, file: str | Path) -> None:
    """Compare the imported model with Keras on random images, codes and labels."""
    random, (channels, height, width) = np.random.default_rng(1), made.shape
    pixels = random.random((CLASSES, height, width, channels), np.float32)
    codes, labels = random.normal(size=(CLASSES, LATENTS)).astype(np.float32), np.arange(CLASSES)
    vectors: list[Any] = []
    seen: list[Any] = [pixels]
    if made.kind == "embedding":
        seen.append(labels)
        vectors = [next(w for w in made.encoder.weights if tuple(w.shape) == (CLASSES, SIZE)).numpy()]
    elif made.kind == "onehot":
        seen.append(np.eye(CLASSES, dtype=np.float32))
        vectors = [np.eye(CLASSES, dtype=np.float32)]
    heads = [value.detach() for value in made.encoder(seen if len(seen) > 1 else seen[0])]
    mean, log_variance = heads[::-1] if made.encoder.layers[-1].name == "z_mean" else heads
    images = made.decoder([codes, *vectors] if vectors else codes).detach()
    model = load(file).model
    condition = None if made.kind == "none" else torch.from_numpy(labels)
    with torch.no_grad():
        posterior: Any = model.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2), condition)  # type: ignore[operator]
        found = model.decode(torch.from_numpy(codes), condition).mean
    torch.testing.assert_close(posterior.loc, mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(2 * posterior.log_scale, log_variance, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.permute(0, 2, 3, 1), images, atol=1e-5, rtol=1e-5)


def small(kind: str) -> dict[str, Any]:
    more = {"embedding": {"conditioning": "embedding", "embedding_dim": SIZE}, "onehot": {"conditioning": "onehot"}}
    return {"channels": (4, 6), "dense": DENSE, "latent_dim": LATENTS, **more.get(kind, {})}


@pytest.mark.parametrize(
    ("shape", "kind", "last"),
    [((1, 8, 12), "embedding", "transposed"), ((3, 12, 8), "onehot", "plain"), ((1, 20, 20), "none", "transposed")],
)
def test_outputs_are_those_of_keras(shape: tuple[int, int, int], kind: str, last: str, folder: Path) -> None:
    from vaekit.export.keras_import import import_keras

    made = pair(shape, kind, last)
    made.encoder.save("encoder.keras")
    made.decoder.save("decoder.keras")
    files = ["encoder.keras", "decoder.keras"]
    agree(made, import_keras(files, "model.safetensors", shape=shape, classes=CLASSES, **small(kind)))


@pytest.mark.filterwarnings("ignore:.*HDF5.*")
def test_every_way_of_saving(folder: Path) -> None:
    from vaekit.export.keras_import import import_keras

    made = pair()
    code = made.encoder(made.encoder.inputs)[1]
    vector = keras.Input((SIZE,))
    whole = keras.Model([*made.encoder.inputs, vector], made.decoder([code, vector]))
    whole.save("whole.keras")
    whole.save("whole.h5")
    made.encoder.save("encoder.h5")
    made.decoder.save("decoder.h5")
    for files in (["whole.keras"], ["whole.h5"], ["encoder.h5", "decoder.h5"]):
        agree(made, import_keras(files, "model.safetensors", shape=made.shape, classes=CLASSES, **small("embedding")))


def test_of_files_without_names_the_order_counts(folder: Path) -> None:
    """A subclass and bare weights name layers by class and number: the mean is the first."""
    from vaekit.export.keras_import import import_keras

    made = pair(variance_first=False)
    whole = Whole(made.encoder, made.decoder)
    whole.save("whole.keras")
    whole.save_weights("whole.weights.h5")
    settings = {"shape": made.shape, "classes": CLASSES, **small("embedding")}
    for file in ("whole.keras", "whole.weights.h5"):
        agree(made, import_keras(file, "m.safetensors", **settings))


def test_a_dense_network_of_colour_images(folder: Path) -> None:
    from vaekit.export.keras_import import import_keras

    image, code = keras.Input((4, 6, 3)), keras.Input((LATENTS,))
    hidden = layers.Dense(7, activation="relu")(layers.Flatten()(image))
    encoder = keras.Model(image, [layers.Dense(LATENTS)(hidden), layers.Dense(LATENTS)(hidden)])
    made = layers.Dense(7, activation="relu")(code)
    made = layers.Reshape((4, 6, 3))(layers.Dense(72, activation="sigmoid")(made))
    decoder = keras.Model(code, made)
    random = np.random.default_rng(0)
    for weight in (*encoder.weights, *decoder.weights):
        weight.assign(random.normal(0, 0.3, weight.shape).astype(np.float32))
    encoder.save("encoder.keras")
    decoder.save("decoder.keras")
    file = import_keras(
        ["encoder.keras", "decoder.keras"], "m.safetensors", "mlp", shape=(3, 4, 6), hidden=(7,), latent_dim=LATENTS
    )
    agree(SimpleNamespace(encoder=encoder, decoder=decoder, shape=(3, 4, 6), kind="none"), file)


def test_the_command_of_the_seeds(capsys: Capture, folder: Path) -> None:
    """The published sizes; and a decoder alone is refused."""
    image, label, code, vector = (keras.Input(size) for size in ((28, 28, 1), (), (2,), (8,)))
    features = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(image)
    features = layers.Flatten()(layers.Conv2D(64, 3, strides=2, padding="same", activation="relu")(features))
    features = layers.Concatenate()([features, layers.Flatten()(layers.Embedding(10, 8)(label))])
    features = layers.Dense(128, activation="relu")(features)
    encoder = keras.Model([image, label], [layers.Dense(2, name="z_mean")(features), layers.Dense(2)(features)])
    hidden = layers.Dense(7 * 7 * 64, activation="relu")(layers.Concatenate()([code, vector]))
    hidden = layers.Reshape((7, 7, 64))(hidden)
    for filters in (64, 32):
        hidden = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", activation="relu")(hidden)
    decoder = keras.Model([code, vector], layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid")(hidden))
    encoder.save("encoder.keras")
    decoder.save("decoder.keras")
    command = ("import-keras", "encoder.keras", "decoder.keras", "--preset", "cvae-embedding", "--out", "m.safetensors")
    assert good(capsys, *command, "--json").record == {"model": "m.safetensors"}
    assert load("m.safetensors").info.class_names == tuple("0123456789")
    good(capsys, "sample", "m.safetensors", "--label", "7", "--count", "2", "--out", "x.npy")
    Path("m.safetensors").unlink()
    sentence = refused(capsys, "import-keras", "decoder.keras", "--preset", "cvae-embedding", "--out", "m.safetensors")
    assert sentence.startswith("no layer of Keras is left for the labels' vectors, of kind embedding and shape (10, 8)")
    sentence = refused(capsys, *command[:3], "--preset", "conv-seed", "--out", "m.safetensors")
    assert "choose the preset and settings of that model" in sentence
    assert not Path("m.safetensors").exists()


def test_other_files_are_refused(capsys: Capture, folder: Path) -> None:
    Path("text.keras").write_text("nothing")
    with zipfile.ZipFile("empty.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    for name in ("text.keras", "empty.keras"):
        assert refused(capsys, "import-keras", name, "--out", "m.safetensors") == (
            f"'{name}': is damaged, or no weights of Keras; give a .keras or .h5 file"
        )
    assert "there is no such file" in refused(capsys, "import-keras", "gone.h5", "--out", "m.safetensors")
    assert "the ending '.npy' is not .safetensors" in refused(capsys, "import-keras", "a.h5", "--out", "m.npy")
    assert "'28' is not channels, height and width" in refused(
        capsys, "import-keras", "a.h5", "--shape", "28", "--out", "m.safetensors"
    )
    assert "weights of Keras are for networks conv and mlp" in refused(
        capsys, "import-keras", "a.h5", "--preset", "cifar", "--out", "m.safetensors"
    )
