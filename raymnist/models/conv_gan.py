"""The convolutional GAN: transposed convolutions of stride 2 against strided convolutions with dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from raymnist.models.base import crop_to, quarter
from raymnist.models.gan import GAN

if TYPE_CHECKING:
    import keras

Activation = Literal["leaky_relu", "relu", "elu", "selu", "gelu", "silu", "tanh"]


class ConvGAN(GAN):
    """At latent_dim 100 the generator has 1,164,289 parameters and the discriminator 40,705 (28x28x1)."""

    class Settings(GAN.Settings):
        """*_filters, *_activation: of every hidden layer of a network; `leaky_relu` has the slope 0.2.

        *_batch_norm: behind every hidden layer but the discriminator's first, whose biases it replaces (Radford et
        al., 2015).
        """

        dropout: float = Field(0.4, ge=0, lt=1)
        generator_filters: int = Field(128, ge=1)
        generator_activation: Activation = "leaky_relu"
        generator_batch_norm: bool = False
        discriminator_filters: int = Field(64, ge=1)
        discriminator_activation: Activation = "leaky_relu"
        discriminator_batch_norm: bool = False

    defaults = {"epochs": 100, "learning_rate": 2e-4, "beta_1": 0.5}

    def build_generator(self) -> keras.Model:
        """Project the noise to 7x7, double it twice, and read the image off with a 7x7 convolution."""
        import keras
        from keras import layers

        filters, batch_norm = self.settings.generator_filters, self.settings.generator_batch_norm
        height, width, channels = quarter(self.shape[0]), quarter(self.shape[1]), self.shape[2]

        def double() -> keras.layers.Layer:
            return layers.Conv2DTranspose(filters, 4, strides=2, padding="same", use_bias=not batch_norm)

        def activate() -> list[keras.layers.Layer]:
            return _activate(self.settings.generator_activation, batch_norm)

        return keras.Sequential(
            [
                keras.Input((self.settings.latent_dim,)),
                layers.Dense(height * width * filters, use_bias=not batch_norm),
                *activate(),
                layers.Reshape((height, width, filters)),
                double(),
                *activate(),
                double(),
                *activate(),
                *crop_to(self.shape),
                layers.Conv2D(channels, 7, padding="same"),
                layers.Activation("sigmoid", dtype="float32"),
            ],
            name="generator",
        )

    def build_discriminator(self) -> keras.Model:
        """Halve the image twice with dropout, then one probability."""
        import keras
        from keras import layers

        filters, batch_norm = self.settings.discriminator_filters, self.settings.discriminator_batch_norm
        activation, dropout = self.settings.discriminator_activation, self.settings.dropout
        return keras.Sequential(
            [
                keras.Input(self.shape),
                layers.Conv2D(filters, 3, strides=2, padding="same"),
                *_activate(activation, batch_norm=False),
                layers.Dropout(dropout),
                layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=not batch_norm),
                *_activate(activation, batch_norm),
                layers.Dropout(dropout),
                layers.Flatten(),
                layers.Dense(1),
                layers.Activation("sigmoid", dtype="float32"),
            ],
            name="discriminator",
        )


def _activate(activation: str, batch_norm: bool) -> list[keras.layers.Layer]:
    from keras import layers

    normal = [layers.BatchNormalization()] if batch_norm else []
    return [*normal, layers.LeakyReLU(0.2) if activation == "leaky_relu" else layers.Activation(activation)]
