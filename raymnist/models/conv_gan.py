"""The convolutional GAN: transposed convolutions of stride 2 against strided convolutions with dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from raymnist import config
from raymnist.models.base import crop_to, quarter
from raymnist.models.gan import GAN

if TYPE_CHECKING:
    import keras


class ConvGAN(GAN):
    """At latent_dim 100 the generator has 1,164,289 parameters and the discriminator 40,705 (28x28x1)."""

    class Settings(config.Settings):
        """latent_dim: the width of the noise. dropout: in the discriminator. *_filters: of every hidden layer."""

        latent_dim: int = Field(100, ge=1)
        dropout: float = Field(0.4, ge=0, lt=1)
        generator_filters: int = Field(128, ge=1)
        discriminator_filters: int = Field(64, ge=1)

    defaults = {"epochs": 100, "learning_rate": 2e-4, "beta_1": 0.5}  # noqa: RUF012  (declared in Model)

    def build_generator(self) -> keras.Model:
        """Project the noise to 7x7, double it twice, and read the image off with a 7x7 convolution."""
        import keras
        from keras import layers

        filters = self.settings.generator_filters
        height, width, channels = quarter(self.shape[0]), quarter(self.shape[1]), self.shape[2]
        return keras.Sequential(
            [
                keras.Input((self.settings.latent_dim,)),
                layers.Dense(height * width * filters),
                layers.LeakyReLU(0.2),
                layers.Reshape((height, width, filters)),
                layers.Conv2DTranspose(filters, 4, strides=2, padding="same"),
                layers.LeakyReLU(0.2),
                layers.Conv2DTranspose(filters, 4, strides=2, padding="same"),
                layers.LeakyReLU(0.2),
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

        filters, dropout = self.settings.discriminator_filters, self.settings.dropout
        return keras.Sequential(
            [
                keras.Input(self.shape),
                layers.Conv2D(filters, 3, strides=2, padding="same"),
                layers.LeakyReLU(0.2),
                layers.Dropout(dropout),
                layers.Conv2D(filters, 3, strides=2, padding="same"),
                layers.LeakyReLU(0.2),
                layers.Dropout(dropout),
                layers.Flatten(),
                layers.Dense(1),
                layers.Activation("sigmoid", dtype="float32"),
            ],
            name="discriminator",
        )
