"""The DCGAN of TensorFlow's tutorial: batch-normalised transposed convolutions, both networks updated from one batch.

Sources: Radford, Metz and Chintala, Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks, 2015; https://www.tensorflow.org/tutorials/generative/dcgan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from raymnist.models.base import crop_to, quarter
from raymnist.models.gan import GAN

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class DCGAN(GAN):
    """At latent_dim 100 the generator has 2,330,944 parameters and the discriminator 212,865 (28x28x1).

    A step of batch size B shows the discriminator B real and B fake images; both gradients come from this one pass.
    Both networks see images in [-1, 1]; the layers that scale from and to [0, 1] are part of them.
    """

    class Settings(GAN.Settings):
        """generator_filters: of its last hidden layer, the ones before have twice and four times as many.

        discriminator_filters: of its first layer, the second has twice as many.
        """

        dropout: float = Field(0.3, ge=0, lt=1)
        generator_filters: int = Field(64, ge=1)
        discriminator_filters: int = Field(64, ge=1)

    update = "together"
    defaults = {"epochs": 100, "learning_rate": 1e-4}

    def build_generator(self) -> keras.Model:
        """Project the noise to 7x7, convolve, double it twice; no layer before the image's has a bias."""
        import keras
        from keras import layers

        filters = self.settings.generator_filters
        height, width, channels = quarter(self.shape[0]), quarter(self.shape[1]), self.shape[2]

        def transposed(filters: int, strides: int) -> keras.layers.Layer:
            return layers.Conv2DTranspose(filters, 5, strides=strides, padding="same", use_bias=False)

        return keras.Sequential(
            [
                keras.Input((self.settings.latent_dim,)),
                layers.Dense(height * width * 4 * filters, use_bias=False),
                layers.BatchNormalization(),
                layers.LeakyReLU(0.3),
                layers.Reshape((height, width, 4 * filters)),
                transposed(2 * filters, strides=1),
                layers.BatchNormalization(),
                layers.LeakyReLU(0.3),
                transposed(filters, strides=2),
                layers.BatchNormalization(),
                layers.LeakyReLU(0.3),
                transposed(channels, strides=2),
                *crop_to(self.shape),
                layers.Activation("tanh", dtype="float32"),
                layers.Rescaling(0.5, offset=0.5, dtype="float32"),
            ],
            name="generator",
        )

    def build_discriminator(self) -> keras.Model:
        """Halve the image twice with dropout, then one probability."""
        import keras
        from keras import layers

        filters, dropout = self.settings.discriminator_filters, self.settings.dropout
        return keras.Sequential(
            [
                keras.Input(self.shape),
                layers.Rescaling(2, offset=-1),
                layers.Conv2D(filters, 5, strides=2, padding="same"),
                layers.LeakyReLU(0.3),
                layers.Dropout(dropout),
                layers.Conv2D(2 * filters, 5, strides=2, padding="same"),
                layers.LeakyReLU(0.3),
                layers.Dropout(dropout),
                layers.Flatten(),
                layers.Dense(1),
                layers.Activation("sigmoid", dtype="float32"),
            ],
            name="discriminator",
        )

    def share(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Judge a batch of real images and as many fakes; gives the logits [B, 1] of each."""
        from keras import ops

        count = images.shape[0]
        logits = self.judge(ops.concatenate([images, self.fakes(count, training=True)]))
        return logits[:count], logits[count:]

    def tell_apart(self, judged: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The discriminator's losses on real and on fake images, added, and its accuracies."""
        from keras import ops

        real, fake = judged
        is_real = ops.full_like(real, 1 - self.settings.label_smoothing)
        real_loss = ops.mean(ops.binary_crossentropy(is_real, real, from_logits=True))
        fake_loss = ops.mean(ops.binary_crossentropy(ops.zeros_like(fake), fake, from_logits=True))
        return {
            "loss": real_loss + fake_loss,
            "accuracy_real": ops.mean(ops.cast(real > 0, "float32")),
            "accuracy_fake": ops.mean(ops.cast(fake <= 0, "float32")),
        }

    def fool(self, judged: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The generator's loss: the same fakes should be taken for real."""
        from keras import ops

        _, fake = judged
        return {"loss": ops.mean(ops.binary_crossentropy(ops.ones_like(fake), fake, from_logits=True))}
