"""Keras 3 on TensorFlow as its VAE example writes it: functional networks, own train_step, `fit` on numpy.

Everything else is the default, `jit_compile="auto"` included; what that came to is recorded.
"""

from __future__ import annotations

import os

# The backend is chosen before the import.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from keras import layers, ops
from mnist_task import BATCH_SIZE, LATENT_DIM, LEARNING_RATE, arguments, load, report


class Sampling(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.generator = keras.random.SeedGenerator()

    def call(self, inputs):
        mean, log_variance = inputs
        return mean + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean), seed=self.generator)


def encoder() -> keras.Model:
    """Images (batch, 28, 28, 1) to mean, log-variance and sample, each (batch, 2)."""
    images = keras.Input((28, 28, 1))
    x = layers.Conv2D(32, 3, activation="relu", strides=2, padding="same")(images)
    x = layers.Conv2D(64, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    mean, log_variance = layers.Dense(LATENT_DIM)(x), layers.Dense(LATENT_DIM)(x)
    return keras.Model(images, [mean, log_variance, Sampling()([mean, log_variance])])


def decoder() -> keras.Model:
    """Latents (batch, 2) to pixel probabilities (batch, 28, 28, 1)."""
    latents = keras.Input((LATENT_DIM,))
    x = layers.Dense(7 * 7 * 64, activation="relu")(latents)
    x = layers.Reshape((7, 7, 64))(x)
    x = layers.Conv2DTranspose(64, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(32, 3, activation="relu", strides=2, padding="same")(x)
    return keras.Model(latents, layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x))


class VAE(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder(), decoder()
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def negative_elbo(self, images):
        """Nats per image, averaged over (batch, 28, 28, 1)."""
        mean, log_variance, latents = self.encoder(images)
        pixels = keras.losses.binary_crossentropy(images, self.decoder(latents))
        rate = -0.5 * (1 + log_variance - ops.square(mean) - ops.exp(log_variance))
        return ops.mean(ops.sum(pixels, axis=(1, 2))) + ops.mean(ops.sum(rate, axis=1))

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self.negative_elbo(data)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data):
        self.loss_tracker.update_state(self.negative_elbo(data))
        return {"loss": self.loss_tracker.result()}


def num_parameters(model: keras.Model) -> int:
    """Trainable numbers in the model; `count_params` refuses a subclassed model that was never called."""
    return sum(int(tf.size(weight)) for weight in model.trainable_weights)


def main() -> None:
    options = arguments()
    keras.utils.set_random_seed(options.seed)
    train, test = (images[..., None] for images in load(options))
    model = VAE()
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE))
    model.fit(train, epochs=options.epochs, batch_size=BATCH_SIZE)
    # 1,000 divides the 10,000 test images: the mean over batches is the mean over images
    found = model.evaluate(test, batch_size=1000, verbose=0, return_dict=True)
    report(
        images_trained=options.epochs * len(train),
        parameters=num_parameters(model),
        test_loss_nats=float(found["loss"]),
        libraries=("keras", "tensorflow-cpu", "numpy"),
        jit_compile=bool(model.jit_compile),
    )


if __name__ == "__main__":
    main()
