"""What the GANs share: the game of a discriminator that tells apart and a generator that fools.

Source: Goodfellow et al., Generative Adversarial Nets, 2014, with the non-saturating generator loss.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from raymnist.models.base import Model, Phase

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class GAN(Model):
    """A generator and a discriminator; the discriminator's update comes first and the generator's sees it.

    A step of batch size B shows the discriminator B/2 real and B/2 fake images as one batch, then the generator is
    trained on B fresh noise vectors.
    """

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
        self.discriminator_optimizer = self.adam(self.discriminator.trainable_variables)
        self.generator_optimizer = self.adam(self.generator.trainable_variables)

    @property
    def network(self) -> keras.Model:
        """The generator."""
        return self.generator

    def fakes(self, count: int) -> tf.Tensor:
        """Make images [count, H, W, C] from fresh noise."""
        import keras

        noise = keras.random.normal((count, self.settings.latent_dim), seed=self.noise_seed)
        return self.generator(noise, training=True)

    def judge(self, images: tf.Tensor) -> tf.Tensor:
        """Give the discriminator's float32 logits [B, 1]."""
        import keras

        return keras.ops.cast(self.logits(images, training=True), "float32")

    def tell_apart(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """The discriminator's loss on half a batch of real and half a batch of fake images, and its accuracies."""
        from keras import ops

        half = images.shape[0] // 2
        logits = self.judge(ops.concatenate([images[:half], self.fakes(half)]))
        is_real = ops.concatenate([ops.ones((half, 1)), ops.zeros((half, 1))])
        return {
            "loss": ops.mean(ops.binary_crossentropy(is_real, logits, from_logits=True)),
            "accuracy_real": ops.mean(ops.cast(logits[:half] > 0, "float32")),
            "accuracy_fake": ops.mean(ops.cast(logits[half:] <= 0, "float32")),
        }

    def fool(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """The generator's loss: a batch of fakes that should be taken for real."""
        from keras import ops

        logits = self.judge(self.fakes(images.shape[0]))
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
