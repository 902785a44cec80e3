"""What the GANs share: the game of a discriminator that tells apart and a generator that fools.

Source: Goodfellow et al., Generative Adversarial Nets, 2014, with the non-saturating generator loss.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from raymnist import settings
from raymnist.datasets import Pixels
from raymnist.models import networks
from raymnist.models.base import Model, Phase

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class GAN(Model):
    """A generator and a discriminator; the discriminator's update comes first and the generator's sees it.

    A step of batch size B shows the discriminator B/2 real and B/2 fake images as one batch, then the generator is
    trained on B fresh noise vectors. The fakes for the discriminator are made as after training: with the averages that
    batch normalisation has collected.
    """

    class Settings(settings.Settings):
        """What all GANs can be told.

        latent_dim: the width of the noise. dropout: in the discriminator. label_smoothing: taken from the 1 that stands
        for real images (Salimans et al., Improved Techniques for Training GANs, 2016). ema: the decay per step of the
        moving average of the generator's weights that makes the samples and is saved (Yazici et al., The Unusual
        Effectiveness of Averaging in GAN Training, 2019); 0 for the weights themselves.
        """

        latent_dim: int = Field(100, ge=1)
        dropout: float = Field(0, ge=0, lt=1)
        label_smoothing: float = Field(0, ge=0, lt=0.5)
        ema: float = Field(0, ge=0, lt=1)

    kind = "generator"
    reports = ("discriminator_loss", "accuracy_real", "accuracy_fake", "generator_loss")
    objective = "frechet_pixels"
    unsuitable = reports

    @abstractmethod
    def build_generator(self) -> keras.Model:
        """Make the network from noise [B, latent_dim] to images [B, H, W, C] in [0, 1]."""

    @abstractmethod
    def build_discriminator(self) -> keras.Model:
        """Make the network from images to the probability [B, 1] of being real; its last layer is the sigmoid."""

    def build(self) -> None:
        """Make both networks and their optimizers; the discriminator's logits serve the losses."""
        import keras

        self.generator = self.build_generator()
        self.discriminator = self.build_discriminator()
        self.logits = keras.Model(self.discriminator.inputs, self.discriminator.layers[-2].output)
        self.noise_seed = keras.random.SeedGenerator()
        self.discriminator_optimizer = self.adam(
            self.discriminator.trainable_variables, self.train.discriminator_learning_rate
        )
        self.generator_optimizer = self.adam(
            self.generator.trainable_variables, self.train.generator_learning_rate, self.settings.ema
        )
        self.averaged = self.build_generator() if self.settings.ema else None

    @property
    def network(self) -> keras.Model:
        """The generator, with the moving average of its weights where `ema` asks for it."""
        if self.averaged is None:
            return self.generator
        self.averaged.set_weights(self.generator.get_weights())
        self.generator_optimizer.finalize_variable_values(self.averaged.trainable_variables)
        return self.averaged

    def fakes(self, count: int, training: bool) -> tf.Tensor:
        """Make images [count, H, W, C] from fresh noise."""
        import keras

        noise = keras.random.normal((count, self.settings.latent_dim), seed=self.noise_seed)
        return self.generator(noise, training=training)

    def judge(self, images: tf.Tensor) -> tf.Tensor:
        """Give the discriminator's float32 logits [B, 1]."""
        import keras

        return keras.ops.cast(self.logits(images, training=True), "float32")

    def tell_apart(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """The discriminator's loss on half a batch of real and half a batch of fake images, and its accuracies."""
        from keras import ops

        half = images.shape[0] // 2
        logits = self.judge(ops.concatenate([images[:half], self.fakes(half, training=False)]))
        real = 1 - self.settings.label_smoothing
        is_real = ops.concatenate([ops.full((half, 1), real), ops.zeros((half, 1))])
        return {
            "loss": ops.mean(ops.binary_crossentropy(is_real, logits, from_logits=True)),
            "accuracy_real": ops.mean(ops.cast(logits[:half] > 0, "float32")),
            "accuracy_fake": ops.mean(ops.cast(logits[half:] <= 0, "float32")),
        }

    def fool(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """The generator's loss: a batch of fakes that should be taken for real."""
        from keras import ops

        with _frozen(self.discriminator):
            logits = self.judge(self.fakes(images.shape[0], training=True))
        return {"loss": ops.mean(ops.binary_crossentropy(ops.ones_like(logits), logits, from_logits=True))}

    def phases(self) -> list[Phase]:
        """Discriminator, then generator."""
        return [
            Phase(
                "discriminator",
                self.tell_apart,
                self.discriminator.trainable_variables,
                self.discriminator_optimizer,
            ),
            Phase("generator", self.fool, self.generator.trainable_variables, self.generator_optimizer),
        ]

    def accuracies(self, images: Pixels, fakes: Pixels) -> dict[str, float]:
        """Compute the shares of real images and of fakes, uint8 [n, H, W, C], that the discriminator takes for such.

        It judges as after training, without dropout.
        """
        real, fake = (networks.apply(self.logits, networks.to_unit(pixels)) for pixels in (images, fakes))
        return {"val_accuracy_real": float(np.mean(real > 0)), "val_accuracy_fake": float(np.mean(fake <= 0))}

    @property
    def variables(self) -> list[keras.Variable]:
        """Weights, dropout's seeds, both optimizers' slots and the noise's seed."""
        return [
            *self.generator.variables,
            *self.discriminator.variables,
            *self.generator_optimizer.variables,
            *self.discriminator_optimizer.variables,
            self.noise_seed.state,
        ]


@contextlib.contextmanager
def _frozen(network: keras.Model) -> Iterator[None]:
    """Let batch normalisation use its averages and leave them, as in a network that Keras does not train."""
    from keras import layers

    normal = [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in normal:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in normal:
            layer.trainable = True
