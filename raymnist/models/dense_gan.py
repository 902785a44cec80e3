"""The dense GAN: fully connected layers with batch normalisation against fully connected layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from raymnist.models.gan import GAN

if TYPE_CHECKING:
    import keras

Widths = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]


class DenseGAN(GAN):
    """At latent_dim 100 the generator has 1,493,520 parameters and the discriminator 1,460,225 (28x28x1).

    Its description gives no widths: 256, 512 and 1024 units, and back, are usual, as are the slope 0.2 and the momentum
    0.8 of batch normalisation, whose averages must keep up with a generator that changes fast.
    """

    class Settings(GAN.Settings):
        """*_units: the widths of the hidden layers."""

        generator_units: Widths = Field([256, 512, 1024])
        discriminator_units: Widths = Field([1024, 512, 256])

    defaults = {"epochs": 100, "learning_rate": 2e-4, "beta_1": 0.5}

    def build_generator(self) -> keras.Model:
        """Widen the noise to an image; dense, batch normalisation, LeakyReLU, as often as there are widths."""
        import keras
        from keras import layers

        network = keras.Sequential([keras.Input((self.settings.latent_dim,))], name="generator")
        for units in self.settings.generator_units:
            network.add(layers.Dense(units))
            network.add(layers.BatchNormalization(momentum=0.8))
            network.add(layers.LeakyReLU(0.2))
        network.add(layers.Dense(math.prod(self.shape)))
        network.add(layers.Reshape(self.shape))
        network.add(layers.Activation("sigmoid", dtype="float32"))
        return network

    def build_discriminator(self) -> keras.Model:
        """Narrow the image down to one probability."""
        import keras
        from keras import layers

        network = keras.Sequential([keras.Input(self.shape), layers.Flatten()], name="discriminator")
        for units in self.settings.discriminator_units:
            network.add(layers.Dense(units))
            network.add(layers.LeakyReLU(0.2))
            network.add(layers.Dropout(self.settings.dropout))
        network.add(layers.Dense(1))
        network.add(layers.Activation("sigmoid", dtype="float32"))
        return network
