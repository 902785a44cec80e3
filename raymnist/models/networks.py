"""Using a trained network: generate, encode, reconstruct. Arrays in, arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raymnist.datasets import Pixels

if TYPE_CHECKING:
    import keras

CHUNK = 256  # images per call of a network, and per seed of the noise


def noise(count: int, latent_dim: int, seed: int, first_chunk: int = 0) -> NDArray[np.float32]:
    """Draw standard normal noise float32 [count, latent_dim].

    Each chunk of CHUNK rows has its own seed, (seed, chunk): the first n rows are the same whatever `count` is, and any
    worker can draw any chunk.
    """
    chunks = [
        np.random.default_rng([seed, first_chunk + chunk]).standard_normal((CHUNK, latent_dim), dtype=np.float32)
        for chunk in range(-(-count // CHUNK))
    ]
    return np.concatenate(chunks)[:count] if chunks else np.empty((0, latent_dim), np.float32)


def generate(generator: keras.Model, count: int, seed: int, first_chunk: int = 0) -> Pixels:
    """Make uint8 images [count, H, W, C] from the noise of `seed`, with a network whose output is in [0, 1]."""
    return to_pixels(apply(generator, noise(count, generator.input_shape[-1], seed, first_chunk)))


def encode(encoder: keras.Model, images: Pixels, batch: int = CHUNK) -> NDArray[np.float32]:
    """Turn uint8 images [n, H, W, C] into flat codes float32 [n, d], `batch` of them at a time."""
    codes = outputs(encoder, to_unit(images), batch)[0]
    return codes.reshape(len(images), -1)


def reconstruct(autoencoder: keras.Model, images: Pixels) -> Pixels:
    """Send uint8 images [n, H, W, C] through an autoencoder and back."""
    return to_pixels(apply(autoencoder, to_unit(images)))


def apply(network: keras.Model, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Send inputs [n, ...] through a network as after training; returns its first output, float32 [n, ...]."""
    return outputs(network, inputs)[0]


def outputs(network: keras.Model, inputs: NDArray[np.float32], batch: int = CHUNK) -> list[NDArray[np.float32]]:
    """Send inputs [n, ...], at least one, through a network as after training; returns all outputs, float32 [n, ...].

    batch: inputs of one call.

    The network keeps its traced function, as Keras' `predict` does, which traces twice and sets up an input pipeline in
    each call: on a CPU it takes longer, most of all the first time (`benchmarks/networks.py`).
    """
    import tensorflow as tf

    if not hasattr(network, "forward"):
        network.forward = tf.function(
            lambda batch: tf.nest.flatten(network(batch, training=False)),
            input_signature=[tf.TensorSpec([None, *inputs.shape[1:]], tf.float32)],
            autograph=False,
        )
    made = [network.forward(tf.constant(inputs[start : start + batch])) for start in range(0, len(inputs), batch)]
    return [np.concatenate(parts).astype(np.float32, copy=False) for parts in zip(*made, strict=True)]


def to_unit(images: Pixels) -> NDArray[np.float32]:
    """Turn uint8 images into float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def to_pixels(images: NDArray[np.float32]) -> Pixels:
    """Turn images in [0, 1] into uint8."""
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
